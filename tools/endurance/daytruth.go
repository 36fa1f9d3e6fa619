package endurance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"calltracker/ziwo/ziwotest"
)

// dummyCall is the callID of Ziwo's own test of a tracker.
const dummyCall = "dummy-call-id"

// storedCall is a stored call as the API shows it.
type storedCall map[string]any

func (r storedCall) text(name string) string {
	text, _ := r[name].(string)
	return text
}

// stored reads the calls that are calls: not what could not be read, and not
// those of Ziwo's own test.
func (d *day) stored(ctx context.Context) ([]storedCall, error) {
	var all []storedCall
	for cursor := ""; ; {
		var page struct {
			Calls []storedCall
			Next  string
		}
		if err := d.replicas[0].ask(ctx, "/api/v1/calls?limit=1000&cursor="+url.QueryEscape(cursor), &page); err != nil {
			return nil, err
		}
		for _, r := range page.Calls {
			if id := r.text("callID"); r.text("result") != "unreadable" && id != "" && id != dummyCall {
				all = append(all, r)
			}
		}
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// acknowledged looks for the calls whose records were taken, before anything is
// fetched.
func (d *day) acknowledged(ctx context.Context) error {
	calls, err := d.stored(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range calls {
		known[r.text("callID")] = true
	}
	for _, c := range d.ziwo.Truth() {
		if c.StartStatus == http.StatusBadGateway {
			d.verdict.Broken++
		}
		for _, end := range c.Ends {
			if end.Status == http.StatusBadGateway {
				d.verdict.Broken++
			}
		}
		switch {
		case len(c.Ends) == 0:
			d.verdict.Dropped++
		case c.Delivered():
			d.verdict.Acknowledged++
			if !known[c.CallID] {
				d.verdict.Lost++
				d.verdict.complain("call %s was acknowledged and is lost: %+v", c.CallID, c.Ends)
			}
		}
	}
	return nil
}

// compare holds what is stored against what happened.
func (d *day) compare(ctx context.Context) error {
	calls, err := d.stored(ctx)
	if err != nil {
		return err
	}
	if err := d.verdict.judge(d.ziwo.Truth(), calls); err != nil {
		return err
	}
	var runs struct{ Runs []reconciliation }
	if err := d.replicas[0].ask(ctx, "/api/v1/reconciliation?limit=1000", &runs); err != nil {
		return err
	}
	d.verdict.Runs = len(runs.Runs)
	d.verdict.Backfilled, err = d.backfilled(ctx, calls)
	return err
}

// judge holds stored calls against those that happened.
func (v *DayVerdict) judge(truth []ziwotest.Call, stored []storedCall) error {
	known := map[string]storedCall{}
	for _, r := range stored {
		id := r.text("callID")
		if known[id] != nil {
			v.Doubled++
			v.complain("call %s is stored twice", id)
		}
		known[id] = r
	}
	v.Calls = len(truth)
	for _, c := range truth {
		r, ok := known[c.CallID]
		if !ok {
			v.Missing++
			v.complain("call %s is missing: %+v", c.CallID, c.Ends)
			continue
		}
		delete(known, c.CallID)
		differences, err := compareFields(c, r)
		if err != nil {
			return err
		}
		if len(differences) == 0 {
			v.Equal++
			continue
		}
		v.Differing++
		v.complain("call %s (%s, %+v) differs: %s", c.CallID, c.Form, c.Ends, strings.Join(differences, "; "))
	}
	v.Invented = len(known)
	for id := range known {
		v.complain("call %s never happened", id)
	}
	return nil
}

// compareFields names the fields of a call in which the stored one is another. An
// instant that never was is the zero time in one and null in the other.
func compareFields(happened ziwotest.Call, stored storedCall) ([]string, error) {
	text, err := json.Marshal(happened)
	if err != nil {
		return nil, err
	}
	var want storedCall
	if err := json.Unmarshal(text, &want); err != nil {
		return nil, err
	}
	if happened.AnsweredAt.IsZero() {
		want["answeredAt"] = nil
	}
	var out []string
	for name, value := range want {
		if got, ok := stored[name]; !ok || !reflect.DeepEqual(got, value) {
			out = append(out, fmt.Sprintf("%s is %v, not %v", name, got, value))
		}
	}
	slices.Sort(out)
	return out, nil
}

// backfilled counts the calls whose first report came from reconciliation.
func (d *day) backfilled(ctx context.Context, calls []storedCall) (int, error) {
	var (
		mu      sync.Mutex
		n       int
		failed  error
		reading sync.WaitGroup
	)
	for part := range slices.Chunk(calls, len(calls)/readers+1) {
		reading.Go(func() {
			for _, r := range part {
				var detail struct{ Revisions []struct{ Source string } }
				err := d.replicas[0].ask(ctx, "/api/v1/calls/"+r.text("id"), &detail)
				if err == nil && len(detail.Revisions) == 0 {
					err = fmt.Errorf("call %s has no body", r.text("callID"))
				}
				mu.Lock()
				if err != nil {
					failed = err
				} else if detail.Revisions[0].Source == "reconciliation" {
					n++
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	reading.Wait()
	return n, failed
}
