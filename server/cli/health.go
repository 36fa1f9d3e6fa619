package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthTimeout is less than a container engine waits for a health check.
const healthTimeout = 3 * time.Second

type HealthCommand struct {
	Listen string `env:"CALLTRACKER_LISTEN" default:":8080"`
}

// Run asks the server on this machine, for images without curl.
func (cmd *HealthCommand) Run(ctx context.Context) error {
	_, port, err := net.SplitHostPort(cmd.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", port)+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not healthy: %s", res.Status)
	}
	return nil
}
