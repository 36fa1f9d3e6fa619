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

// dummyCall is the callID that Ziwo sends when it tests a tracker.
const dummyCall = "dummy-call-id"

// storedCall is a stored call as the API shows it.
type storedCall map[string]any

func (r storedCall) text(name string) string {
	text, _ := r[name].(string)
	return text
}

// storedCalls reads the stored calls, without unreadable CDRs and without those of
// Ziwo's tracker test.
func (d *day) storedCalls(ctx context.Context) ([]storedCall, error) {
	var all []storedCall
	for cursor := ""; ; {
		var page struct {
			Calls []storedCall
			Next  string
		}
		if err := d.replicas[0].get(ctx, "/api/v1/calls?limit=1000&cursor="+url.QueryEscape(cursor), &page); err != nil {
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

// checkAcknowledged verifies that every acknowledged call is stored. It runs before
// the final reconciliation.
func (d *day) checkAcknowledged(ctx context.Context) error {
	calls, err := d.storedCalls(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range calls {
		known[r.text("callID")] = true
	}
	for _, c := range d.ziwo.EndedCalls() {
		if c.StartStatus == http.StatusBadGateway {
			d.verdict.Broken++
		}
		for _, end := range c.Deliveries {
			if end.Status == http.StatusBadGateway {
				d.verdict.Broken++
			}
		}
		switch {
		case len(c.Deliveries) == 0:
			d.verdict.Dropped++
		case c.Delivered():
			d.verdict.Acknowledged++
			if !known[c.CallID] {
				d.verdict.Lost++
				d.verdict.complain("call %s was acknowledged but is not stored: %+v", c.CallID, c.Deliveries)
			}
		}
	}
	return nil
}

// compare compares the stored calls with the simulated ones.
func (d *day) compare(ctx context.Context) error {
	calls, err := d.storedCalls(ctx)
	if err != nil {
		return err
	}
	if err := d.verdict.compareCalls(d.ziwo.EndedCalls(), calls); err != nil {
		return err
	}
	var runs struct{ Runs []reconciliation }
	if err := d.replicas[0].get(ctx, "/api/v1/reconciliation?limit=1000", &runs); err != nil {
		return err
	}
	d.verdict.Runs = len(runs.Runs)
	d.verdict.Backfilled, err = d.countBackfilled(ctx, calls)
	return err
}

// compareCalls compares the stored calls with the simulated ones.
func (v *DayVerdict) compareCalls(truth []ziwotest.Call, stored []storedCall) error {
	known := map[string]storedCall{}
	for _, r := range stored {
		id := r.text("callID")
		if known[id] != nil {
			v.Duplicated++
			v.complain("call %s is stored twice", id)
		}
		known[id] = r
	}
	v.Calls = len(truth)
	for _, c := range truth {
		r, ok := known[c.CallID]
		if !ok {
			v.Missing++
			v.complain("call %s is missing: %+v", c.CallID, c.Deliveries)
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
		v.complain("call %s (%s, %+v) differs: %s", c.CallID, c.Format, c.Deliveries, strings.Join(differences, "; "))
	}
	v.Invented = len(known)
	for id := range known {
		v.complain("call %s was not simulated", id)
	}
	return nil
}

// compareFields returns the fields in which a stored call differs from the simulated
// one. A missing time is the zero time in the simulated call and null in the stored
// one.
func compareFields(simulated ziwotest.Call, stored storedCall) ([]string, error) {
	text, err := json.Marshal(simulated)
	if err != nil {
		return nil, err
	}
	var want storedCall
	if err := json.Unmarshal(text, &want); err != nil {
		return nil, err
	}
	if simulated.AnsweredAt.IsZero() {
		want["answeredAt"] = nil
	}
	var out []string
	for name, value := range want {
		if got, ok := stored[name]; !ok || !reflect.DeepEqual(got, value) {
			out = append(out, fmt.Sprintf("%s is %v, want %v", name, got, value))
		}
	}
	slices.Sort(out)
	return out, nil
}

// countBackfilled returns the number of calls that reconciliation stored first.
func (d *day) countBackfilled(ctx context.Context, calls []storedCall) (int, error) {
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
				err := d.replicas[0].get(ctx, "/api/v1/calls/"+r.text("id"), &detail)
				if err == nil && len(detail.Revisions) == 0 {
					err = fmt.Errorf("call %s has no revision", r.text("callID"))
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
