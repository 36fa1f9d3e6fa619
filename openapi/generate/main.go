// Command generate writes the OpenAPI 3.0 description of an HTTP API:
//
//	generate -o FILE DIRECTORY...
//
// It runs swag on the annotations in the directories, which are relative to the
// root of the module. The first directory has the general annotations in its
// main.go. The result is Swagger 2.0, which convert turns into OpenAPI 3.0 and
// completes.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("generate: ")
	out := flag.String("o", "openapi.json", "file to write")
	flag.Parse()
	if err := run(context.Background(), *out, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out string, dirs []string) error {
	doc, err := describe(ctx, dirs...)
	if err != nil {
		return err
	}
	return os.WriteFile(out, doc, 0o644)
}

// describe returns the description that the annotations in the directories make.
func describe(ctx context.Context, dirs ...string) ([]byte, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	swagger, err := annotations(ctx, root, dirs)
	if err != nil {
		return nil, err
	}
	return convert(ctx, swagger)
}

// annotations runs swag, which turns the annotations into Swagger 2.0 JSON.
func annotations(ctx context.Context, root string, dirs []string) ([]byte, error) {
	out, err := os.MkdirTemp("", "calltracker-openapi-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)

	swag := exec.CommandContext(ctx, "go", "tool", "swag", "init",
		"--dir", strings.Join(dirs, ","),
		"--generalInfo", "main.go",
		"--output", out, "--outputTypes", "json",
		// Describe the types of other packages of this module too, such as
		// rules.Rule. Reading those of the libraries would take minutes.
		"--parseDependencyLevel", "1", "--packagePrefix", "calltracker",
		// Responses always have every field that is not marked omitempty.
		"--requiredByDefault",
	)
	swag.Dir = root
	if output, err := swag.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("swag: %w\n%s", err, output)
	}
	return os.ReadFile(filepath.Join(out, "swagger.json"))
}

// moduleRoot returns the directory of go.mod. `go run`, `go generate`, and `go test`
// each start in a different directory.
func moduleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find go.mod: %w", err)
	}
	file := string(bytes.TrimSpace(output))
	if file == "" || file == os.DevNull {
		return "", errors.New("find go.mod: not in a module")
	}
	return filepath.Dir(file), nil
}
