package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthTimeout is shorter than the health check timeout in the Dockerfile.
const healthTimeout = 3 * time.Second

// HealthCommand checks that the server on this machine is running. It is for
// container images without curl.
type HealthCommand struct {
	Listen string `env:"CALLTRACKER_LISTEN" default:":8080"`
}

// Run requests /healthz.
func (cmd *HealthCommand) Run(ctx context.Context) error {
	_, port, err := net.SplitHostPort(cmd.Listen)
	if err != nil {
		return fmt.Errorf("invalid CALLTRACKER_LISTEN %q: use :8080 or 127.0.0.1:8080", cmd.Listen)
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", port)+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no server answers on port %s: %w", port, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("unhealthy: %s", res.Status)
	}
	return nil
}
