package access

import (
	"errors"
	"fmt"
	"time"

	"calltracker/config"
	"calltracker/problem"
)

// Errors of a Checker.
var (
	ErrUnauthorized = errors.New("missing or wrong key: send it in the X-API-Key header, or as the password of HTTP Basic")
	ErrBlocked      = errors.New("this tracker is blocked")
)

// UnknownTracker is the error of a start or end call for a tracker that is not
// in the configuration.
type UnknownTracker struct{ ID string }

func (e *UnknownTracker) Error() string {
	return fmt.Sprintf("unknown tracker %q: check the URL that Ziwo was given", problem.Clip(e.ID))
}

// TooManyWrongKeys is the error of an address that sends too many wrong keys.
type TooManyWrongKeys struct{ RetryAfter time.Duration }

func (e *TooManyWrongKeys) Error() string {
	return fmt.Sprintf("too many wrong keys from this address; try again in %d s", int(e.RetryAfter.Seconds())+1)
}

// Side is one of the two endpoints of a tracker. Each has its own keys.
type Side string

// The sides of a tracker.
const (
	StartSide Side = "start"
	EndSide   Side = "end"
)

// Limit on wrong keys from one address.
const (
	maxWrongKeys   = 30
	wrongKeyWindow = time.Minute
)

// hitCounter counts requests in a window of time.
type hitCounter interface {
	// CountInWindow counts one request under key. It returns the count in the current
	// window and the time until the window closes.
	CountInWindow(key string, window time.Duration) (hits int, closes time.Duration)
}

// snapshots returns the configuration in force.
type snapshots interface {
	Current() *config.Snapshot // nil before the first configuration
}

// Checker checks the keys of trackers, webhooks, and the admin API, and limits
// how many wrong ones an address may send. It is safe for concurrent use.
type Checker struct {
	config snapshots
	wrong  hitCounter
}

// NewChecker returns a Checker for the keys of the configuration in force. Wrong
// keys are counted in wrong.
func New(config snapshots, wrong hitCounter) *Checker {
	return &Checker{config: config, wrong: wrong}
}

// Tracker returns the tracker if key is one of its keys for side. Errors:
// *UnknownTracker, ErrUnauthorized, *TooManyWrongKeys. A correct key is never
// refused because of wrong ones from the same address.
func (c *Checker) Tracker(id string, side Side, key, address string) (*config.ActiveTracker, error) {
	live := c.config.Current()
	if live == nil {
		return nil, &UnknownTracker{ID: id}
	}
	tracker, ok := live.Trackers[id]
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

// Webhook returns the origin of the records that a webhook with this key sends.
// Errors: ErrUnauthorized, *TooManyWrongKeys.
func (c *Checker) Webhook(key, address string) (config.Origin, error) {
	if live := c.config.Current(); live != nil {
		if contactCenter, ok := live.WebhookKeys.ContactCenter(key); ok {
			return live.Origin(contactCenter), nil
		}
	}
	return config.Origin{}, c.WrongKey(key, address)
}

// WrongKey counts a wrong key and returns the error for it: ErrUnauthorized or
// *TooManyWrongKeys. A missing key is not counted, because it is no guess.
func (c *Checker) WrongKey(key, address string) error {
	if key == "" {
		return ErrUnauthorized
	}
	if hits, closes := c.wrong.CountInWindow(address, wrongKeyWindow); hits > maxWrongKeys {
		return &TooManyWrongKeys{RetryAfter: closes}
	}
	return ErrUnauthorized
}
