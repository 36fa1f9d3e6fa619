// Command generate writes the OpenAPI 3.0 description of an HTTP API:
//
//	generate -o FILE FOLDER...
//
// It has swag read the annotations in the folders, which are named from the root
// of the module and of which the first has the general comment in its main.go.
// That gives Swagger 2.0; convert says in OpenAPI 3.0 what Swagger 2.0 could not.
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

func run(ctx context.Context, out string, folders []string) error {
	doc, err := describe(ctx, folders...)
	if err != nil {
		return err
	}
	return os.WriteFile(out, doc, 0o644)
}

// describe returns the description of what is annotated in the folders.
func describe(ctx context.Context, folders ...string) ([]byte, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	swagger, err := annotations(ctx, root, folders)
	if err != nil {
		return nil, err
	}
	return convert(ctx, swagger)
}

// annotations has swag turn the annotations into Swagger 2.0 JSON.
func annotations(ctx context.Context, root string, folders []string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "calltracker-openapi-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	swag := exec.CommandContext(ctx, "go", "tool", "swag", "init",
		"--dir", strings.Join(folders, ","),
		"--generalInfo", "main.go",
		"--output", dir, "--outputTypes", "json",
		// Types of our other packages, such as rules.Rule, are described too;
		// reading those of the libraries would take minutes.
		"--parseDependencyLevel", "1", "--packagePrefix", "calltracker",
		// Answers have every field, always, but those marked omitempty.
		"--requiredByDefault",
	)
	swag.Dir = root
	if output, err := swag.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("swag: %w\n%s", err, output)
	}
	return os.ReadFile(filepath.Join(dir, "swagger.json"))
}

// moduleRoot is the folder of go.mod: `go run`, `go generate` and `go test`
// each start in another folder.
func moduleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find go.mod: %w", err)
	}
	file := string(bytes.TrimSpace(output))
	if file == "" || file == os.DevNull {
		return "", errors.New("find go.mod: not inside a module")
	}
	return filepath.Dir(file), nil
}
