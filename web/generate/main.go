// Command generate checks the browser scripts of web/scripts and writes them,
// minified, to web/served, from where they are embedded. With -check it only
// tells what is wrong: a slip that a linter finds, or a served file that is not
// what its sources give. `go generate ./web` and `make lint` run it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// bundles are the served scripts: the functions that each runs, in this order,
// and the files with them. A file has the name of its function.
var bundles = map[string][]string{
	"webcallback": {"webcallback"},
	"jorel":       {"jorel", "calls", "popup"},
	"popup":       {"popup"},
}

// variants are the ways in which a bundle starts: what the names of its files end
// with, the files that it begins with, and the call with which it ends.
var variants = []struct {
	suffix string
	shared []string
	call   string
}{
	{".js", []string{"boot"}, `boot([%s], embedded, document.currentScript, "..");`},
	{".pinned.js", []string{"boot", "pinned"}, `pinned([%s]);`},
}

// configuration stands in a bundle where the server puts that of a site.
const configuration = "CONFIGURATION"

// pages are scripts and styles of our own pages, which are minified one by one.
var pages = []string{"site.js", "site.css"}

func main() {
	dir := flag.String("dir", ".", "the folder web/")
	check := flag.Bool("check", false, "write nothing, fail when something would change")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	out := map[string][]byte{}
	var failed []error
	for name, parts := range bundles {
		for _, v := range variants {
			code, err := bundle(filepath.Join(dir, "scripts"), slices.Concat(v.shared, parts), fmt.Sprintf(v.call, strings.Join(parts, ", ")))
			failed = append(failed, err)
			out[name+v.suffix] = code
		}
	}
	for _, name := range pages {
		code, err := page(filepath.Join(dir, "scripts", name))
		failed = append(failed, err)
		out[name] = code
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for name, code := range out {
		path := filepath.Join(dir, "served", name)
		if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, code) {
			continue
		}
		if check {
			return fmt.Errorf("%s is not what its sources give; run go generate ./web", path)
		}
		if err := os.WriteFile(path, code, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bundle is one served script: an expression in parentheses that is a function
// of the configuration, so that the server only adds the call.
func bundle(dir string, files []string, call string) ([]byte, error) {
	code := strings.Builder{}
	code.WriteString("((embedded) => {\n\"use strict\";\n")
	var failed []error
	for _, name := range files {
		path := filepath.Join(dir, name+".js")
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		failed = append(failed, lint(path, text))
		code.Write(text)
	}
	// Called, or esbuild would drop a function that nothing uses.
	fmt.Fprintf(&code, "%s\n})(%s)", call, configuration)
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	small, err := minify(code.String(), strings.Join(files, "+"), api.LoaderJS)
	if err != nil {
		return nil, err
	}
	small, called := bytes.CutSuffix(small, []byte("("+configuration+")"))
	if !called {
		return nil, fmt.Errorf("%s: the minified bundle does not end with its call", strings.Join(files, "+"))
	}
	return small, nil
}

func page(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	loader := api.LoaderCSS
	if strings.HasSuffix(path, ".js") {
		loader = api.LoaderJS
		if err := lint(path, text); err != nil {
			return nil, err
		}
	}
	return minify(string(text), path, loader)
}

// minify makes a script as small as esbuild can; what esbuild warns of is an error.
func minify(code, name string, loader api.Loader) ([]byte, error) {
	result := api.Transform(code, api.TransformOptions{
		Loader: loader, Sourcefile: name, Target: api.ES2020, Charset: api.CharsetASCII,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true, LogLevel: api.LogLevelSilent,
	})
	var failed []error
	for _, m := range append(result.Errors, result.Warnings...) {
		place := name
		if m.Location != nil {
			place = fmt.Sprintf("%s: line %d of the bundle, %q", name, m.Location.Line, strings.TrimSpace(m.Location.LineText))
		}
		failed = append(failed, fmt.Errorf("%s: %s", place, m.Text))
	}
	return bytes.TrimRight(result.Code, ";\n"), errors.Join(failed...)
}
