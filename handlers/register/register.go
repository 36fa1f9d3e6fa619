// Package register synchronizes the call trackers in Ziwo with the trackers of a
// configuration document: Plan compares them, and Apply carries out the plan.
package register

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/rules"
	"calltracker/ziwo"
)

// Registration holds the settings with which trackers are registered in Ziwo.
type Registration struct {
	PublicURL    string        // base URL at which Ziwo reaches the server, without a trailing slash
	StartTimeout time.Duration // Ziwo's timeout for start calls
	EndTimeout   time.Duration // Ziwo's timeout for end calls
}

// PlanAction is the action for a call tracker.
type PlanAction string

// Actions of a plan.
const (
	PlanCreate    PlanAction = "create"
	PlanUpdate    PlanAction = "update"
	PlanUnchanged PlanAction = "unchanged"
	PlanUnmanaged PlanAction = "unmanaged" // not in the document; left unchanged
)

// PlannedTracker is the plan for a call tracker.
type PlannedTracker struct {
	Action       PlanAction
	Tracker      string // ID in the document; empty if unmanaged
	Want         ziwo.Tracker
	Have         ziwo.Tracker // zero if the tracker is created
	Changes      []Change
	Stale        bool // unmanaged, but its URLs point to this server
	blockChanges bool // whether its blocked state changes
}

// Change is a field that differs. The values of keys are not included.
type Change struct{ Field, From, To string }

// Plan compares the document's trackers of a contact center with the trackers in Ziwo.
// They are matched by name, or else by start URL. If a tracker has several keys, Ziwo
// gets the first one. A tracker that cannot be registered is an error.
func (r Registration) Plan(doc *config.Document, set *rules.Set, contactCenter string, have []ziwo.Tracker) ([]PlannedTracker, error) {
	var (
		plan    []PlannedTracker
		matched = map[string]bool{}
		errs    []error
	)
	for _, id := range set.Trackers() {
		router, _ := set.Router(id)
		if router.ContactCenter() != contactCenter {
			continue
		}
		want, err := r.desired(id, doc.Trackers[id])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		at := slices.IndexFunc(have, func(t ziwo.Tracker) bool { return t.Name == id })
		if at < 0 {
			at = slices.IndexFunc(have, func(t ziwo.Tracker) bool { return t.StartRequestURL == want.StartRequestURL && !matched[t.ID] })
		}
		if at < 0 {
			plan = append(plan, PlannedTracker{Action: PlanCreate, Tracker: id, Want: want, blockChanges: *want.Blocked})
			continue
		}
		matched[have[at].ID] = true
		plan = append(plan, compareTracker(id, want, have[at]))
	}
	for _, t := range have {
		if !matched[t.ID] {
			plan = append(plan, PlannedTracker{Action: PlanUnmanaged, Have: t, Stale: strings.HasPrefix(t.StartRequestURL, r.PublicURL+"/callTrackers/")})
		}
	}
	return plan, errors.Join(errs...)
}

func (r Registration) desired(id string, doc config.Tracker) (ziwo.Tracker, error) {
	base := r.PublicURL + "/callTrackers/" + url.PathEscape(id)
	blocked := doc.Blocked
	t := ziwo.Tracker{
		Name: id, StartRequestURL: base + "/startCall", StartTimeout: r.StartTimeout,
		EndRequestURL: base + "/endCall", EndTimeout: r.EndTimeout, Blocked: &blocked,
	}
	var err error
	for _, side := range []struct {
		name string
		list config.KeyList
		to   *string
	}{{"start", doc.Keys.Start, &t.StartRequestKey}, {"end", doc.Keys.End, &t.EndRequestKey}} {
		switch {
		case side.list.Open:
		case len(side.list.Keys) == 0:
			err = errors.Join(err, fmt.Errorf("trackers.%s.keys.%s: missing key: the server would reject Ziwo's requests", id, side.name))
		case side.list.Keys[0].Reveal() == "":
			err = errors.Join(err, fmt.Errorf("trackers.%s.keys.%s[0]: unknown value: the reference is not resolved here", id, side.name))
		default:
			*side.to = side.list.Keys[0].Reveal()
		}
	}
	return t, err
}

func compareTracker(id string, want, have ziwo.Tracker) PlannedTracker {
	p := PlannedTracker{Action: PlanUnchanged, Tracker: id, Want: want, Have: have}
	// Settings that the document does not contain stay unchanged.
	p.Want.ID, p.Want.Name = have.ID, have.Name
	p.Want.WelcomePlayback, p.Want.ErrorPlayback = have.WelcomePlayback, have.ErrorPlayback
	changed := func(field, from, to string) {
		if from != to {
			p.Changes = append(p.Changes, Change{field, from, to})
		}
	}
	changed("startRequestURL", have.StartRequestURL, want.StartRequestURL)
	changedKey(&p, "startRequestAPIKey", have.StartRequestKey, want.StartRequestKey)
	changed("startRequestTimeout", milliseconds(have.StartTimeout), milliseconds(want.StartTimeout))
	changed("endRequestURL", have.EndRequestURL, want.EndRequestURL)
	changedKey(&p, "endRequestAPIKey", have.EndRequestKey, want.EndRequestKey)
	changed("endRequestTimeout", milliseconds(have.EndTimeout), milliseconds(want.EndTimeout))
	if have.Blocked != nil && *have.Blocked != *want.Blocked {
		p.blockChanges = true
		changed("blocked", fmt.Sprint(*have.Blocked), fmt.Sprint(*want.Blocked))
	}
	if len(p.Changes) > 0 {
		p.Action = PlanUpdate
	}
	return p
}

func changedKey(p *PlannedTracker, field, have, want string) {
	if have == want {
		return
	}
	describe := func(key, otherwise string) string {
		if key == "" {
			return "none"
		}
		return otherwise
	}
	p.Changes = append(p.Changes, Change{field, describe(have, "another key"), describe(want, "key in the document")})
}

func milliseconds(d time.Duration) string {
	if d == 0 {
		return "Ziwo's default"
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// trackerAdmin is the part of a Ziwo client that Apply uses.
type trackerAdmin interface {
	CreateTracker(ctx context.Context, t ziwo.Tracker) error
	UpdateTracker(ctx context.Context, t ziwo.Tracker) error
	BlockTracker(ctx context.Context, idOrName string) error
	UnblockTracker(ctx context.Context, idOrName string) error
}

// Apply carries out the plan for one tracker. It is idempotent.
func (p PlannedTracker) Apply(ctx context.Context, c trackerAdmin) error {
	var err error
	switch p.Action {
	case PlanCreate:
		err = c.CreateTracker(ctx, p.Want)
	case PlanUpdate:
		onlyBlocking := len(p.Changes) == 1 && p.blockChanges
		if !onlyBlocking {
			err = c.UpdateTracker(ctx, p.Want)
		}
	default:
		return nil
	}
	if err != nil || !p.blockChanges {
		return err
	}
	name := cmp.Or(p.Want.ID, p.Want.Name)
	if *p.Want.Blocked {
		return c.BlockTracker(ctx, name)
	}
	return c.UnblockTracker(ctx, name)
}
