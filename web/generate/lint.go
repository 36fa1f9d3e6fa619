package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tdewolff/parse/v2"
	"github.com/tdewolff/parse/v2/js"
)

// globals are what a script may use without declaring it: the browser's, and
// what boot.js has for every part of a bundle.
var globals = strings.Fields(`
	AbortSignal Array Boolean CSSStyleSheet CustomEvent Date Error JSON Map Math Element MutationObserver NodeFilter RegExp Number Object Promise
	Set String Symbol URL URLSearchParams clearTimeout console document fetch isNaN localStorage location navigator
	setTimeout undefined window
	boot language direction load`)

// members are properties that turn text into code or markup, or that a strict
// Content-Security-Policy blocks.
var members = map[string]string{
	"innerHTML":          "text becomes markup; use textContent",
	"outerHTML":          "text becomes markup; use textContent",
	"insertAdjacentHTML": "text becomes markup; use append",
	"write":              "document.write breaks pages; use append",
	"writeln":            "document.write breaks pages; use append",
	"cssText":            "a strict policy blocks it; use a stylesheet",
	"log":                "left over from debugging; console.warn and console.error are for people",
	"__proto__":          "it changes what objects are",
}

// linter finds what runs and is wrong all the same. Its rules are the few that
// matter in scripts which run on other people's pages.
type linter struct {
	path   string
	failed []error
	own    []string // names that the file is there to declare
}

// lint reports every slip in a script. The file's own top-level functions are
// for others to use; everything else that is declared has to be used.
func lint(path string, text []byte) error {
	tree, err := js.Parse(parse.NewInputBytes(slices.Clone(text)), js.Options{})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l := &linter{path: path}
	for _, v := range tree.Declared {
		l.own = append(l.own, string(v.Data))
	}
	for _, v := range tree.Undeclared {
		if name := string(v.Name()); !slices.Contains(globals, name) {
			l.say("%s is declared nowhere", name)
		}
	}
	js.Walk(l, tree)
	return errors.Join(l.failed...)
}

func (l *linter) say(format string, args ...any) {
	l.failed = append(l.failed, fmt.Errorf("%s: %s", l.path, fmt.Sprintf(format, args...)))
}

// Enter looks at one node of the tree.
func (l *linter) Enter(node js.INode) js.IVisitor {
	switch n := node.(type) {
	case *js.BlockStmt:
		l.scope(n.Scope)
	case *js.VarDecl:
		if n.TokenType == js.VarToken {
			l.say("%s: use const or let, not var", n)
		}
	case *js.BinaryExpr:
		l.binary(n)
	case *js.DotExpr:
		if why, bad := members[n.Y.String()]; bad {
			l.say("%s: %s", n, why)
		}
	case *js.IndexExpr:
		if name, ok := word(n.Y); ok {
			if why, bad := members[name]; bad {
				l.say("%s: %s", n, why)
			}
		}
	case *js.CallExpr:
		l.call(n.X, n.Args)
	case *js.NewExpr:
		if name := n.X.String(); name == "Function" {
			l.say("new Function makes code of text")
		}
	case *js.LiteralExpr:
		if text, ok := word(n); ok && strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), "javascript:") {
			l.say("%s: an address that is code", n)
		}
	case *js.WithStmt, *js.DebuggerStmt:
		l.say("%s is not for scripts of others' pages", n)
	}
	return l
}

// Exit has nothing to do.
func (l *linter) Exit(js.INode) {}

func (l *linter) scope(s js.Scope) {
	for _, v := range s.Declared {
		if name := string(v.Data); v.Uses < 2 && !slices.Contains(l.own, name) && v.Decl != js.ExprDecl && name != "_" {
			l.say("%s is declared and never used", name)
		}
	}
}

func (l *linter) binary(n *js.BinaryExpr) {
	switch n.Op {
	case js.EqEqToken, js.NotEqToken:
		l.say("%s: compare with === or !==", n)
	case js.EqToken:
		if target, ok := n.X.(*js.DotExpr); ok && strings.HasPrefix(target.Y.String(), "on") {
			l.say("%s: use addEventListener, others may want the event, too", target)
		}
	}
}

func (l *linter) call(function js.IExpr, args js.Args) {
	name := function.String()
	var first string
	if len(args.List) > 0 {
		first, _ = word(args.List[0].Value)
	}
	switch {
	case name == "eval" || name == "Function":
		l.say("%s makes code of text", name)
	case (name == "setTimeout" || name == "setInterval") && first != "":
		l.say("%s makes code of text", name)
	case strings.HasSuffix(name, "setAttribute)") || strings.Contains(name, ".setAttribute"):
		if low := strings.ToLower(first); strings.HasPrefix(low, "on") || low == "style" || low == "srcdoc" {
			l.say("setAttribute(%q): a strict policy blocks it", first)
		}
	}
}

// word is the text of a string literal.
func word(e js.IExpr) (string, bool) {
	literal, ok := e.(*js.LiteralExpr)
	if !ok || literal.TokenType != js.StringToken || len(literal.Data) < 2 {
		return "", false
	}
	return string(literal.Data[1 : len(literal.Data)-1]), true
}
