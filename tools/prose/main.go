// Command prose finds constructions in the text of the project that do not read
// like plain American English, and says what to write instead. It checks
// Markdown, comments, string literals, templates, and scripts against the list in
// banned.txt.
//
// Run it from the root of the source tree, optionally with the files and folders
// to check:
//
//	go run ./tools/prose
//	go run ./tools/prose ./handlers README.md
//
// It exits with 1 when it finds something, and with 2 when it cannot run.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed banned.txt
var banned string

func main() {
	roots := os.Args[1:]
	if len(roots) == 0 {
		roots = []string{"."}
	}
	found, err := run(os.Stdout, banned, roots)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(2)
	}
	if found > 0 {
		fmt.Fprintf(os.Stderr, "prose: %d findings; tools/prose/banned.txt has the rules\n", found)
		os.Exit(1)
	}
}

// run checks the files below roots, prints a line for each finding, and returns
// the number of findings.
func run(out io.Writer, text string, roots []string) (int, error) {
	l, err := parseList(text)
	if err != nil {
		return 0, err
	}
	names, err := l.files(roots)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, name := range names {
		source, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			return found, err
		}
		source = bytes.ReplaceAll(source, []byte("\r\n"), []byte("\n"))
		source = bytes.ReplaceAll(source, []byte("\r"), []byte(" ")) // go/scanner drops it from raw strings
		for _, f := range l.check(name, extractorFor(name)(source)) {
			found++
			if _, err := fmt.Fprintf(out, "%s:%s\n", name, f); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// files returns the files below roots to check, in slash-separated form.
func (l list) files(roots []string) ([]string, error) {
	var names []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			name = path.Clean(filepath.ToSlash(name))
			switch {
			case err != nil:
				return err
			case entry.IsDir() && l.skips(name+"/"):
				return filepath.SkipDir
			case entry.Type().IsRegular() && extractorFor(name) != nil && !l.skips(name):
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// extractorFor returns the function that extracts the text of a file, or nil if
// files of this type are not checked.
func extractorFor(name string) func([]byte) []byte {
	switch path.Ext(name) {
	case ".go":
		return extractGo
	case ".md":
		return extractMarkdown
	case ".html", ".tmpl", ".svg":
		return extractHTML
	case ".js":
		return extractScript
	case ".css":
		return extractStyle
	case ".sql":
		return extractSQL
	case ".yaml", ".yml", ".sh", ".conf":
		return extractHashComments
	}
	if base := path.Base(name); base == "Makefile" || base == "Dockerfile" || strings.HasPrefix(name, ".ci/") && path.Ext(name) == "" {
		return extractHashComments
	}
	return nil
}
