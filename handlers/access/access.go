// Package access checks API keys: those that Ziwo sends to the endpoints of a tracker and
// to the webhook. It limits how many invalid keys one address may send.
package access

import (
	"errors"
	"fmt"
	"time"

	"calltracker/config"
	"calltracker/problem"
)

// Errors of requests without access. A caller of Tracker returns ErrBlocked if it refuses
// requests for a blocked tracker.
var (
	ErrUnauthorized = errors.New("missing or invalid key: send it in the X-API-Key header, or as the password of HTTP Basic")
	ErrBlocked      = errors.New("this tracker is blocked")
)

// UnknownTracker reports a request for a tracker that is not in the configuration.
type UnknownTracker struct{ ID string }

func (e *UnknownTracker) Error() string {
	return fmt.Sprintf("unknown tracker %q: check the URL in the Ziwo call tracker", problem.Clip(e.ID))
}

// TooManyWrongKeys reports an invalid key from an address that has sent too many of them.
type TooManyWrongKeys struct{ RetryAfter time.Duration }

func (e *TooManyWrongKeys) Error() string {
	return fmt.Sprintf("too many invalid keys from this address; try again in %d s", int(e.RetryAfter.Seconds())+1)
}

// Side is one of the two endpoints of a tracker. Each has its own keys.
type Side string

// The sides of a tracker.
const (
	StartSide Side = "start"
	EndSide   Side = "end"
)

// Limit on invalid keys per address.
const (
	maxWrongKeys   = 30
	wrongKeyWindow = time.Minute
)

// hitCounter counts events per time window.
type hitCounter interface {
	// CountInWindow counts one event for key. It returns the count in the current
	// window and the time until the window closes.
	CountInWindow(key string, window time.Duration) (hits int, closes time.Duration)
}

// Checker checks keys against the active configuration. It is safe for concurrent
// use.
type Checker struct {
	config    *config.Controller
	wrongKeys hitCounter // by address
}

// New returns a Checker that counts invalid keys in wrongKeys.
func New(controller *config.Controller, wrongKeys hitCounter) *Checker {
	if controller == nil || wrongKeys == nil {
		panic("access.New: controller and wrongKeys are required")
	}
	return &Checker{config: controller, wrongKeys: wrongKeys}
}

// Tracker returns the tracker if key is one of its keys for side. A correct key is
// always accepted, even from an address that has sent too many invalid ones. Errors:
// *UnknownTracker, ErrUnauthorized, *TooManyWrongKeys.
func (c *Checker) Tracker(id string, side Side, key, address string) (*config.ActiveTracker, error) {
	snapshot := c.config.Current()
	if snapshot == nil {
		return nil, &UnknownTracker{ID: id}
	}
	tracker, ok := snapshot.Trackers[id]
	if !ok {
		return nil, &UnknownTracker{ID: id}
	}
	keys := tracker.StartKeys
	if side == EndSide {
		keys = tracker.EndKeys
	}
	if !keys.Admits(key) {
		return nil, c.WrongKey(key, address)
	}
	return tracker, nil
}

// Webhook returns the origin of the CDRs that a webhook with this key sends.
// Errors: ErrUnauthorized, *TooManyWrongKeys.
func (c *Checker) Webhook(key, address string) (config.Origin, error) {
	if snapshot := c.config.Current(); snapshot != nil {
		if contactCenter, ok := snapshot.WebhookKeys.ContactCenter(key); ok {
			return snapshot.Origin(contactCenter), nil
		}
	}
	return config.Origin{}, c.WrongKey(key, address)
}

// WrongKey counts an invalid key and returns the error for it: ErrUnauthorized or
// *TooManyWrongKeys. A missing key is not counted.
func (c *Checker) WrongKey(key, address string) error {
	if key == "" {
		return ErrUnauthorized
	}
	if hits, closes := c.wrongKeys.CountInWindow(address, wrongKeyWindow); hits > maxWrongKeys {
		return &TooManyWrongKeys{RetryAfter: closes}
	}
	return ErrUnauthorized
}
