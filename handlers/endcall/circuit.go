package endcall

import (
	"sync"
	"time"
)

// circuit is a circuit breaker: it keeps requests from waiting for a database that
// has timed out repeatedly. The zero value is closed.
type circuit struct {
	mu        sync.Mutex
	timeouts  int       // consecutive timeouts
	nextProbe time.Time // time of the next attempt while open
}

const (
	timeoutsToOpen = 3
	probeInterval  = time.Second
)

// allow reports whether to use the database. While the circuit is open, it allows
// one probe per second.
func (c *circuit) allow(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timeouts < timeoutsToOpen {
		return true
	}
	if now.Before(c.nextProbe) {
		return false
	}
	c.nextProbe = now.Add(probeInterval + saveTimeout)
	return true
}

func (c *circuit) recordTimeout(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeouts++
	c.nextProbe = now.Add(probeInterval)
}

func (c *circuit) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeouts = 0
}
