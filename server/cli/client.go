package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"calltracker/server/datadir"
	"calltracker/server/httpapi"
)

// TokenVariable is the environment variable with the admin token.
const TokenVariable = "CALLTRACKER_ADMIN_TOKEN"

// maxResponse limits the size of a response that is read.
const maxResponse = 33 << 20

// serverFlags are the flags of commands that use the admin API of a running server.
type serverFlags struct {
	Server  string `env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"URL of the running server."`
	Token   string `env:"CALLTRACKER_ADMIN_TOKEN" help:"Admin token; if empty, it is read from the data directory."`
	DataDir string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Data directory with the generated admin token."`
}

// problemError is an error response of the admin API.
type problemError struct{ httpapi.Problem }

func (e *problemError) Error() string {
	return fmt.Sprintf("%s (%d %s)", e.Detail, e.Status, e.Title)
}

// send sends a request to the admin API and decodes the response into result. An
// error response is a *problemError.
func (f *serverFlags) send(ctx context.Context, method, path string, header http.Header, body []byte, result any) error {
	token, err := f.adminToken()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(f.Server, "/")+path, bytes.NewReader(body))
	if err != nil || req.URL.Host == "" {
		return fmt.Errorf("invalid --server %q: use a URL such as http://localhost:8080", f.Server)
	}
	req.Header = header
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) { // the path and the method are no help
			err = withURL.Err
		}
		return fmt.Errorf("request to %s failed: %w: is the server running? --server is its URL", f.Server, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("read the response of %s: %w", f.Server, err)
	}
	if res.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%s rejected the admin token: use --token, %s, or --data-dir with the server's data directory", f.Server, TokenVariable)
	}
	if res.StatusCode != http.StatusOK {
		failed := new(problemError)
		if err := json.Unmarshal(text, &failed.Problem); err != nil {
			return fmt.Errorf("%s responded with %s", f.Server, res.Status)
		}
		return failed
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("unexpected response from %s: %w", f.Server, err)
	}
	return nil
}

// adminToken returns the token of the flag, or the one that a server on this machine
// generated.
func (f *serverFlags) adminToken() (string, error) {
	if f.Token != "" {
		return f.Token, nil
	}
	content, err := os.ReadFile(filepath.Join(f.DataDir, datadir.AdminTokenFile))
	if err != nil {
		return "", fmt.Errorf("no admin token: use --token, %s, or --data-dir with the server's data directory (%w)", TokenVariable, err)
	}
	return strings.TrimSpace(string(content)), nil
}
