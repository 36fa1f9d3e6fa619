package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"

	"calltracker/config"
)

// console is where a command reads and writes.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// errSaid ends a command whose output has said already what is wrong.
var ErrReported = errors.New("said")

func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// formatOf tells the notation from a file's name.
func FormatOf(name string) config.Format {
	if strings.EqualFold(filepath.Ext(name), ".json") {
		return config.JSON
	}
	return config.YAML
}

// readDocument reads a file, or standard input when it is called "-".
func (c *Terminal) readDocument(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(c.In, config.MaxDocumentBytes+1))
	}
	return os.ReadFile(name)
}

// localResolver resolves references as far as this machine can: secrets are in
// the database of the server that will use the document.
func LocalResolver(kind, name string) (string, error) {
	if kind == "secret" {
		return "", nil
	}
	if value, ok := os.LookupEnv(name); ok {
		return value, nil
	}
	return "", fmt.Errorf("%w; the server that uses this needs the variable", config.ErrUnresolvedHere)
}
