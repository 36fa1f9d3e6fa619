// Command generate lints the browser scripts in web/scripts and writes them,
// minified, to web/served. Package web embeds the files in web/served.
//
// With -check, the command writes nothing. It fails if the linter finds a
// problem, or if a file in web/served does not match its sources.
//
// `go generate ./web` and `make lint` run this command.
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

// bundles maps each served script to the functions that it runs, in order. The
// function f is declared in f.js.
var bundles = map[string][]string{
	"webcallback": {"webcallback"},
	"jorel":       {"jorel", "calls", "popup"},
	"popup":       {"popup"},
}

// variants are the two forms of every bundle. One has its configuration embedded;
// the other, which pages can pin, fetches it.
var variants = []struct {
	suffix string   // end of the served file's name
	shared []string // scripts at the start of the bundle
	call   string   // statement at the end of the bundle
}{
	{".js", []string{"boot"}, `boot([%s], embedded, document.currentScript, "..");`},
	{".pinned.js", []string{"boot", "pinned"}, `pinned([%s]);`},
}

// placeholder marks the place in a bundle where the server inserts a site's
// configuration.
const placeholder = "CONFIGURATION"

// pageAssets are the scripts and styles of the server's own pages. Each is
// minified separately.
var pageAssets = []string{"site.js", "site.css"}

func main() {
	dir := flag.String("dir", ".", "path of the web directory")
	check := flag.Bool("check", false, "write nothing; fail if a served file is out of date")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	out := map[string][]byte{}
	var errs []error
	for name, parts := range bundles {
		for _, v := range variants {
			code, err := bundle(filepath.Join(dir, "scripts"), slices.Concat(v.shared, parts), fmt.Sprintf(v.call, strings.Join(parts, ", ")))
			errs = append(errs, err)
			out[name+v.suffix] = code
		}
	}
	for _, name := range pageAssets {
		code, err := pageAsset(filepath.Join(dir, "scripts", name))
		errs = append(errs, err)
		out[name] = code
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for name, code := range out {
		path := filepath.Join(dir, "served", name)
		if current, err := os.ReadFile(path); err == nil && bytes.Equal(current, code) {
			continue
		}
		if check {
			return fmt.Errorf("%s is out of date: run go generate ./web", path)
		}
		if err := os.WriteFile(path, code, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bundle returns one served script: a function expression in parentheses that
// takes the configuration. The server appends the call.
func bundle(dir string, files []string, call string) ([]byte, error) {
	code := strings.Builder{}
	code.WriteString("((embedded) => {\n\"use strict\";\n")
	var errs []error
	for _, name := range files {
		path := filepath.Join(dir, name+".js")
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		errs = append(errs, lint(path, text))
		code.Write(text)
	}
	// Without the call, esbuild would drop the unused function.
	fmt.Fprintf(&code, "%s\n})(%s)", call, placeholder)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	minified, err := minify(code.String(), strings.Join(files, "+"), api.LoaderJS)
	if err != nil {
		return nil, err
	}
	minified, found := bytes.CutSuffix(minified, []byte("("+placeholder+")"))
	if !found {
		return nil, fmt.Errorf("%s: the minified bundle does not end with its call", strings.Join(files, "+"))
	}
	return minified, nil
}

// pageAsset returns a minified script or stylesheet.
func pageAsset(path string) ([]byte, error) {
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

// minify returns code minified by esbuild. It treats esbuild's warnings as errors.
func minify(code, name string, loader api.Loader) ([]byte, error) {
	result := api.Transform(code, api.TransformOptions{
		Loader: loader, Sourcefile: name, Target: api.ES2020, Charset: api.CharsetASCII,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true, LogLevel: api.LogLevelSilent,
	})
	var errs []error
	for _, m := range append(result.Errors, result.Warnings...) {
		location := name
		if m.Location != nil {
			location = fmt.Sprintf("%s: line %d of the bundle, %q", name, m.Location.Line, strings.TrimSpace(m.Location.LineText))
		}
		errs = append(errs, fmt.Errorf("%s: %s", location, m.Text))
	}
	return bytes.TrimRight(result.Code, ";\n"), errors.Join(errs...)
}
