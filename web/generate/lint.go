package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tdewolff/parse/v2"
	"github.com/tdewolff/parse/v2/js"
)

// globals are the names that a script may use without declaring them: those of
// the browser, and those that boot.js declares for every file in a bundle.
var globals = strings.Fields(`
	AbortSignal Array Boolean CSSStyleSheet CustomEvent Date Error JSON Map Math Element MutationObserver NodeFilter RegExp Number Object Promise
	Set String Symbol URL URLSearchParams clearTimeout console document fetch isNaN localStorage location navigator
	setTimeout undefined window
	boot language direction load`)

// bannedProperties are the properties that turn text into code or markup, or
// that a strict Content-Security-Policy blocks. Each value is the reason.
var bannedProperties = map[string]string{
	"innerHTML":          "parses text as markup; use textContent",
	"outerHTML":          "parses text as markup; use textContent",
	"insertAdjacentHTML": "parses text as markup; use append",
	"write":              "breaks pages; use append",
	"writeln":            "breaks pages; use append",
	"cssText":            "blocked by a strict content security policy; use a stylesheet",
	"log":                "left over from debugging; use console.warn or console.error",
	"__proto__":          "changes an object's prototype",
}

// linter finds mistakes that parse. Its few rules are those that matter for
// scripts that run on other people's pages.
type linter struct {
	path     string
	problems []error
	topLevel []string // names that the file declares at its top level
}

// lint returns an error that lists every problem in a script. Other files may
// use the script's top-level functions, so these may be unused in the file
// itself. Every other declaration must be used.
func lint(path string, text []byte) error {
	tree, err := js.Parse(parse.NewInputBytes(slices.Clone(text)), js.Options{})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l := &linter{path: path}
	for _, v := range tree.Declared {
		l.topLevel = append(l.topLevel, string(v.Data))
	}
	for _, v := range tree.Undeclared {
		if name := string(v.Name()); !slices.Contains(globals, name) {
			l.report("undeclared name %s", name)
		}
	}
	js.Walk(l, tree)
	return errors.Join(l.problems...)
}

func (l *linter) report(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf("%s: %s", l.path, fmt.Sprintf(format, args...)))
}

// Enter checks one node of the syntax tree. It implements js.IVisitor.
func (l *linter) Enter(node js.INode) js.IVisitor {
	switch n := node.(type) {
	case *js.BlockStmt:
		l.scope(n.Scope)
	case *js.VarDecl:
		if n.TokenType == js.VarToken {
			l.report("%s: use const or let, not var", n)
		}
	case *js.BinaryExpr:
		l.binary(n)
	case *js.DotExpr:
		if reason, banned := bannedProperties[n.Y.String()]; banned {
			l.report("%s: %s", n, reason)
		}
	case *js.IndexExpr:
		if name, ok := stringLiteral(n.Y); ok {
			if reason, banned := bannedProperties[name]; banned {
				l.report("%s: %s", n, reason)
			}
		}
	case *js.CallExpr:
		l.call(n.X, n.Args)
	case *js.NewExpr:
		if name := n.X.String(); name == "Function" {
			l.report("new Function runs text as code")
		}
	case *js.LiteralExpr:
		if text, ok := stringLiteral(n); ok && strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), "javascript:") {
			l.report("%s: javascript: URLs run text as code", n)
		}
	case *js.WithStmt, *js.DebuggerStmt:
		l.report("%s: do not use this in scripts for other people's pages", n)
	}
	return l
}

// Exit does nothing. It implements js.IVisitor.
func (l *linter) Exit(js.INode) {}

func (l *linter) scope(s js.Scope) {
	for _, v := range s.Declared {
		if name := string(v.Data); v.Uses < 2 && !slices.Contains(l.topLevel, name) && v.Decl != js.ExprDecl && name != "_" {
			l.report("%s is declared but never used", name)
		}
	}
}

func (l *linter) binary(n *js.BinaryExpr) {
	switch n.Op {
	case js.EqEqToken, js.NotEqToken:
		l.report("%s: compare with === or !==", n)
	case js.EqToken:
		if target, ok := n.X.(*js.DotExpr); ok && strings.HasPrefix(target.Y.String(), "on") {
			l.report("%s: use addEventListener; the page may set this handler", target)
		}
	}
}

func (l *linter) call(function js.IExpr, args js.Args) {
	name := function.String()
	var first string
	if len(args.List) > 0 {
		first, _ = stringLiteral(args.List[0].Value)
	}
	switch {
	case name == "eval" || name == "Function":
		l.report("%s runs text as code", name)
	case (name == "setTimeout" || name == "setInterval") && first != "":
		l.report("%s runs text as code", name)
	case strings.HasSuffix(name, "setAttribute)") || strings.Contains(name, ".setAttribute"):
		if low := strings.ToLower(first); strings.HasPrefix(low, "on") || low == "style" || low == "srcdoc" {
			l.report("setAttribute(%q): blocked by a strict content security policy", first)
		}
	}
}

// stringLiteral returns the text of a string literal, and reports whether the
// expression is one.
func stringLiteral(e js.IExpr) (string, bool) {
	literal, ok := e.(*js.LiteralExpr)
	if !ok || literal.TokenType != js.StringToken || len(literal.Data) < 2 {
		return "", false
	}
	return string(literal.Data[1 : len(literal.Data)-1]), true
}
