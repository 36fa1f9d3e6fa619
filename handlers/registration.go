package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"calltracker/rules"
	"calltracker/ziwo"
)

// This file makes Ziwo's call trackers equal to those of a document.

// Registration says how the trackers of a document are to stand in Ziwo.
type Registration struct {
	PublicURL    string        // under which Ziwo reaches the server; no slash at the end
	StartTimeout time.Duration // how long Ziwo waits for where a call goes
	EndTimeout   time.Duration // and for the record to be safe
}

// PlanAction is what is to be done with one call tracker.
type PlanAction string

// The actions of a plan.
const (
	PlanCreate    PlanAction = "create"
	PlanUpdate    PlanAction = "update"
	PlanUnchanged PlanAction = "unchanged"
	PlanUnmanaged PlanAction = "unmanaged" // it is not in the document, and left alone
)

// Planned is one call tracker of a plan.
type PlannedTracker struct {
	Action       PlanAction
	Tracker      string // its id in the document; empty when it is unmanaged
	Want         ziwo.Tracker
	Have         ziwo.Tracker // zero when it is to be created
	Changes      []Change
	Stale        bool // unmanaged, and its addresses are ours
	blockChanges bool // its blocking has to change
}

// Change is one field that differs. Of keys no value is told.
type Change struct{ Field, From, To string }

// Plan compares the document's trackers of a contact center with those that it
// has. A tracker of Ziwo belongs to one of the document by its name, or else by
// its start address. Where a list has several keys, Ziwo is given the first. A
// tracker that cannot be registered is an error.
func (r Registration) Plan(set *rules.Set, contactCenter string, have []ziwo.Tracker) ([]PlannedTracker, error) {
	var (
		plan    []PlannedTracker
		matched = map[string]bool{}
		errs    []error
	)
	doc := set.Document()
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

func (r Registration) desired(id string, doc rules.Tracker) (ziwo.Tracker, error) {
	base := r.PublicURL + "/callTrackers/" + url.PathEscape(id)
	blocked := doc.Blocked
	t := ziwo.Tracker{
		Name: id, StartRequestURL: base + "/startCall", StartTimeout: r.StartTimeout,
		EndRequestURL: base + "/endCall", EndTimeout: r.EndTimeout, Blocked: &blocked,
	}
	var err error
	for _, side := range []struct {
		name string
		list rules.KeyList
		to   *string
	}{{"start", doc.Keys.Start, &t.StartRequestKey}, {"end", doc.Keys.End, &t.EndRequestKey}} {
		switch {
		case side.list.Open:
		case len(side.list.Keys) == 0:
			err = errors.Join(err, fmt.Errorf("trackers.%s.keys.%s: there is none, so the server would refuse Ziwo", id, side.name))
		case side.list.Keys[0].Reveal() == "":
			err = errors.Join(err, fmt.Errorf("trackers.%s.keys.%s[0]: its value is not known here", id, side.name))
		default:
			*side.to = side.list.Keys[0].Reveal()
		}
	}
	return t, err
}

func compareTracker(id string, want, have ziwo.Tracker) PlannedTracker {
	p := PlannedTracker{Action: PlanUnchanged, Tracker: id, Want: want, Have: have}
	// What the document does not say stays as it is.
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
	describe := func(key string, otherwise string) string {
		if key == "" {
			return "none"
		}
		return otherwise
	}
	p.Changes = append(p.Changes, Change{field, describe(have, "another"), describe(want, "that of the document")})
}

func milliseconds(d time.Duration) string {
	if d == 0 {
		return "Ziwo's default"
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// trackerAdmin is what Apply needs of a client.
type trackerAdmin interface {
	CreateTracker(ctx context.Context, t ziwo.Tracker) error
	UpdateTracker(ctx context.Context, t ziwo.Tracker) error
	BlockTracker(ctx context.Context, idOrName string) error
	UnblockTracker(ctx context.Context, idOrName string) error
}

// Apply does what the plan says of one tracker. Doing it again does no harm.
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
	if name := cmp.Or(p.Want.ID, p.Want.Name); *p.Want.Blocked {
		return c.BlockTracker(ctx, name)
	} else { //nolint:revive // the name belongs to both
		return c.UnblockTracker(ctx, name)
	}
}
