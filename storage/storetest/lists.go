package storetest

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"calltracker/rules"
	"calltracker/storage"
)

func listTests() []testCase {
	return []testCase{
		{"calls by every filter", callFilters},
		{"pages of all calls while calls are saved", pagesUnderInserts(storage.CallFilter{})},
		{"pages of one DID's calls while calls are saved", pagesUnderInserts(storage.CallFilter{DIDs: []string{"+97148880001"}})},
		{"pages of two DIDs' calls while calls are saved", pagesUnderInserts(storage.CallFilter{DIDs: []string{"+97148880001", "+97148880002"}})},
		{"pages of two callers' calls while calls are saved", pagesUnderInserts(storage.CallFilter{Callers: []string{"+971551230001", "+971551230002"}})},
		{"calls of the same time have a total order", func(t *testing.T, s Store) {
			for n := range 7 {
				save(t, s, newCDR(fmt.Sprint(n), 0))
			}
			expectPages(t, 7, 2, func(p storage.Page) ([]string, string, error) {
				calls, next, err := s.Calls(t.Context(), storage.CallFilter{DIDs: []string{"+97148880001", "x"}}, p)
				return ids(calls, callID), next, err
			})
		}},
		{"EachCall reads many pages", eachCall},
		{"page sizes are limited, batch sizes are not", pageSizes},
		{"invalid cursors are rejected", badCursors},
		{"a decision is stored completely", wholeDecision},
		{"decisions by every filter", decisionFilters},
		{"decisions in pages", func(t *testing.T, s Store) {
			for n := range 7 {
				record(t, s, decision(time.Duration(n/3)*time.Second))
			}
			expectPages(t, 7, 2, func(p storage.Page) ([]string, string, error) {
				decisions, next, err := s.Decisions(t.Context(), storage.DecisionFilter{}, p)
				return ids(decisions, decisionID), next, err
			})
		}},
		{"an unknown decision is not found", func(t *testing.T, s Store) {
			if _, err := s.Decision(t.Context(), newID()); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("error %v, want storage.ErrNotFound", err)
			}
		}},
	}
}

func callID(c storage.Call) string         { return c.ID }
func decisionID(d storage.Decision) string { return d.ID }

func ids[T any](items []T, id func(T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = id(item)
	}
	return out
}

// expectPages reads a list page by page. It fails the test unless the list has total
// distinct records and all pages but the last are full.
func expectPages(t *testing.T, total, limit int, read func(storage.Page) ([]string, string, error)) {
	t.Helper()
	seen := make(map[string]bool)
	for p := (storage.Page{Limit: limit}); ; {
		page, next, err := read(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range page {
			if seen[id] {
				t.Errorf("%s is listed twice", id)
			}
			seen[id] = true
		}
		if next == "" {
			break
		}
		if len(page) != limit {
			t.Errorf("page of %d records before the last page, want %d", len(page), limit)
		}
		p.Cursor = next
	}
	if len(seen) != total {
		t.Errorf("%d records, want %d", len(seen), total)
	}
}

// callFilters compares combinations of filters with the function passes.
func callFilters(t *testing.T, s Store) {
	var all []storage.Call
	for n := range 60 {
		r := editedCDR(newCDR(fmt.Sprint("c", n), time.Duration(n%20)*time.Minute), func(c *storage.Call) {
			c.Tracker = []string{"sales", "support", ""}[n%3]
			c.DID = fmt.Sprint("+9714888000", n%4)
			c.Caller = fmt.Sprint("+97155123000", n%5)
			c.Result = []storage.Result{storage.Answered, storage.Missed}[n%2]
			c.Campaign = []string{"", "spring", "autumn"}[n/2%3]
			if n%10 == 9 {
				c.StartedAt = time.Time{} // sorted by the time of arrival
			}
		})
		call, _ := load(t, s, save(t, s, r).ID)
		all = append(all, call)
	}
	slices.SortFunc(all, func(a, b storage.Call) int {
		return -cmp.Or(a.At().Compare(b.At()), strings.Compare(a.ID, b.ID))
	})

	filters := []func(*storage.CallFilter){
		func(f *storage.CallFilter) { f.From = noon.Add(4 * time.Minute) },
		func(f *storage.CallFilter) { f.To = noon.Add(15 * time.Minute) },
		func(f *storage.CallFilter) { f.Tracker = "sales" },
		func(f *storage.CallFilter) { f.DIDs = []string{"+97148880001", "+97148880002", "+97148880001"} },
		func(f *storage.CallFilter) { f.Callers = []string{"+971551230001", "+971551230003", "unknown"} },
		func(f *storage.CallFilter) { f.Result = storage.Missed },
		func(f *storage.CallFilter) { f.Campaign = "spring" },
	}
	found := 0
	for set := range combinations(len(filters)) {
		var f storage.CallFilter
		for i, narrow := range filters {
			if set&(1<<i) != 0 {
				narrow(&f)
			}
		}
		want := slices.DeleteFunc(slices.Clone(all), func(c storage.Call) bool { return !passes(f, c) })
		found += len(want)
		got, _, err := s.Calls(t.Context(), f, storage.Page{Limit: storage.MaxLimit})
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		if diff := gocmp.Diff(ids(want, callID), ids(got, callID)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", f, diff)
		}
	}
	if found < 300 {
		t.Errorf("the filters match %d calls in total, too few for a meaningful test", found)
	}

	for name, f := range map[string]storage.CallFilter{
		"one number":      {DIDs: []string{"+97148880003"}},
		"one caller":      {Callers: []string{"+971551230004"}},
		"several numbers": {DIDs: strings.Split("+97148880001 b c d e f g h i +97148880002", " ")},
		"several callers": {Callers: strings.Split("+971551230001 b c d e f g h i +971551230002", " ")},
		"unknown number":  {DIDs: []string{"+1"}},
		"SQL injection":   {Tracker: "' OR 1=1 --"},
		"a NUL":           {DIDs: []string{"+9714888\x000001"}},
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(c storage.Call) bool {
			clean := f
			if name == "a NUL" {
				clean.DIDs = []string{"+97148880001"}
			}
			return !passes(clean, c)
		})
		got, _, err := s.Calls(t.Context(), f, storage.Page{Limit: storage.MaxLimit})
		if err != nil || !slices.Equal(ids(want, callID), ids(got, callID)) {
			t.Errorf("%s: %d calls, %v; want %d", name, len(got), err, len(want))
		}
	}
}

// combinations yields subsets of n items as bit sets: none, each one, each pair, and all.
func combinations(n int) iter.Seq[uint] {
	return func(yield func(uint) bool) {
		for set := range uint(1) << n {
			if size := bits.OnesCount(set); (size <= 2 || size == n) && !yield(set) {
				return
			}
		}
	}
}

func passes(f storage.CallFilter, c storage.Call) bool {
	return (f.From.IsZero() || !c.At().Before(f.From)) &&
		(f.To.IsZero() || c.At().Before(f.To)) &&
		(f.Tracker == "" || c.Tracker == f.Tracker) &&
		(len(f.DIDs) == 0 || slices.Contains(f.DIDs, c.DID)) &&
		(len(f.Callers) == 0 || slices.Contains(f.Callers, c.Caller)) &&
		(f.Result == "" || c.Result == f.Result) &&
		(f.Campaign == "" || c.Campaign == f.Campaign)
}

// pagesUnderInserts saves calls before, on and after the pages that it reads. The calls
// saved at the start must be listed once each, in order.
func pagesUnderInserts(f storage.CallFilter) func(*testing.T, Store) {
	return func(t *testing.T, s Store) {
		n := 0
		add := func(after time.Duration) string {
			n++
			return save(t, s, editedCDR(newCDR(fmt.Sprint(n), after), func(c *storage.Call) {
				c.DID = fmt.Sprint("+9714888000", 1+n%2)
				c.Caller = fmt.Sprint("+97155123000", 1+n%2)
			})).ID
		}
		present := make(map[string]int)
		for i := range 16 {
			id := add(time.Duration(i/4) * time.Second) // four calls at the same time
			if call, _ := load(t, s, id); passes(f, call) {
				present[id] = 0
			}
		}
		var last storage.Call
		for p := (storage.Page{Limit: 3}); ; {
			calls, next, err := s.Calls(t.Context(), f, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range calls {
				if last.ID != "" && cmp.Or(c.At().Compare(last.At()), strings.Compare(c.ID, last.ID)) >= 0 {
					t.Errorf("%s at %s is listed after %s at %s", c.ID, c.At(), last.ID, last.At())
				}
				last = c
				if _, ok := present[c.ID]; ok {
					present[c.ID]++
				}
			}
			if next == "" {
				break
			}
			p.Cursor = next
			add(last.At().Sub(noon) + time.Hour)        // before the first page
			add(last.At().Sub(noon))                    // at the time of the last row
			add(last.At().Sub(noon) - time.Microsecond) // after the last row
		}
		for id, times := range present {
			if times != 1 {
				t.Errorf("%s is listed %d times, want once", id, times)
			}
		}
	}
}

func eachCall(t *testing.T, s Store) {
	const total = 450 // more than two of the pages that a store reads at a time
	for n := range total {
		r := storage.ReceivedCDR{Call: storage.Call{Key: fmt.Sprint(n), Tracker: "sales", StartedAt: noon.Add(time.Duration(n/3) * time.Second)}}
		if n == 0 {
			r.Call.Tracker = "support"
		}
		save(t, s, r)
	}
	var keys []string
	var last storage.Call
	err := s.EachCall(t.Context(), storage.CallFilter{Tracker: "sales"}, func(c storage.Call) error {
		keys = append(keys, c.Key)
		if last.ID != "" && c.At().After(last.At()) {
			t.Errorf("call at %s after a call at %s, want newest first", c.At(), last.At())
		}
		last = c
		if len(keys) == 1 { // would deadlock if the store held a lock
			save(t, s, storage.ReceivedCDR{Call: storage.Call{Key: "meanwhile", Tracker: "sales", StartedAt: noon.Add(time.Hour)}})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	if n := len(slices.Compact(keys)); n != total-1 || len(keys) != total-1 {
		t.Errorf("%d calls, %d of them distinct; want %d", len(keys), n, total-1)
	}

	errStop, calls := errors.New("stop"), 0
	err = s.EachCall(t.Context(), storage.CallFilter{}, func(storage.Call) error {
		if calls++; calls == 3 {
			return errStop
		}
		return nil
	})
	if !errors.Is(err, errStop) || err.Error() != errStop.Error() || calls != 3 {
		t.Errorf("error %v after %d calls, want errStop after 3", err, calls)
	}
}

func pageSizes(t *testing.T, s Store) {
	batch := make([]storage.Decision, storage.MaxLimit+34)
	for n := range batch {
		batch[n] = decision(time.Duration(n) * time.Second)
	}
	record(t, s, batch...)
	record(t, s) // no decisions
	for _, tt := range []struct{ limit, want int }{
		{0, storage.DefaultLimit}, {-1, storage.DefaultLimit}, {1, 1}, {storage.MaxLimit, storage.MaxLimit},
		{storage.MaxLimit + 1, storage.MaxLimit},
	} {
		decisions, next, err := s.Decisions(t.Context(), storage.DecisionFilter{}, storage.Page{Limit: tt.limit})
		if err != nil || len(decisions) != tt.want || next == "" {
			t.Errorf("limit %d: %d decisions, next %q, %v; want %d", tt.limit, len(decisions), next, err, tt.want)
		}
	}
	expectPages(t, len(batch), storage.MaxLimit, func(p storage.Page) ([]string, string, error) {
		decisions, next, err := s.Decisions(t.Context(), storage.DecisionFilter{}, p)
		return ids(decisions, decisionID), next, err
	})
}

func badCursors(t *testing.T, s Store) {
	save(t, s, newCDR("c1", 0))
	save(t, s, newCDR("c2", 0))
	_, good, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{Limit: 1})
	if err != nil || good == "" {
		t.Fatalf("cursor %q, %v; want one", good, err)
	}
	plain, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	otherVersion := slices.Clone(plain)
	otherVersion[0]++
	encode := base64.RawURLEncoding.EncodeToString
	for name, bad := range map[string]string{
		"not base64":    "?",
		"padded":        good + "=",
		"too short":     "AAAA",
		"truncated":     encode(plain[:5]),
		"too long":      encode(append(slices.Clone(plain), make([]byte, 200)...)),
		"a NUL":         encode(append(slices.Clone(plain[:20]), 0)),
		"not UTF-8":     encode(append(slices.Clone(plain[:20]), 0xff)),
		"other version": encode(otherVersion),
	} {
		if _, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{Cursor: bad}); !errors.Is(err, storage.ErrBadCursor) {
			t.Errorf("%s: %v, want storage.ErrBadCursor", name, err)
		}
	}
	other := storage.Page{Cursor: good}
	if _, _, err := s.Decisions(t.Context(), storage.DecisionFilter{}, other); !errors.Is(err, storage.ErrBadCursor) {
		t.Errorf("decisions: %v, want storage.ErrBadCursor for a cursor of calls", err)
	}
	if _, _, err := s.Rejections(t.Context(), other); !errors.Is(err, storage.ErrBadCursor) {
		t.Errorf("rejections: %v, want storage.ErrBadCursor for a cursor of calls", err)
	}
	if _, _, err := s.ConfigVersions(t.Context(), other); !errors.Is(err, storage.ErrBadCursor) {
		t.Errorf("configurations: %v, want storage.ErrBadCursor for a cursor of calls", err)
	}
}

func wholeDecision(t *testing.T, s Store) {
	want := storage.Decision{
		ID: newID(), Tracker: "sales", At: noon.Add(1500 * time.Nanosecond), DID: "+97148880001", RawDID: "048880001",
		Caller: "+971551230001", RawCaller: "0551230001", CallID: "c1", Route: "vip ق", Voicemail: true,
		Rules: []rules.Rule{
			{Action: rules.ActionCall, Number: "0551110001", CallerID: "048880001", Timeout: 15},
			{Action: rules.ActionCall, Number: "<&>", Timeout: 20},
		},
		Flags:         []string{rules.FlagDIDUnlisted},
		Trace:         []rules.Step{{Route: "night", Verdict: rules.Closed, Reason: `schedule "night"`}, {Route: "vip ق", Verdict: rules.Matched}},
		ConfigVersion: 12,
	}
	minimal := storage.Decision{ID: newID(), At: noon.Add(-time.Hour)}
	record(t, s, want, minimal)
	want.At = noon.Add(time.Microsecond)
	expectEqual(t, "decision", want, loadDecision(t, s, want.ID))
	expectEqual(t, "minimal decision", minimal, loadDecision(t, s, minimal.ID))
	listed, next, err := s.Decisions(t.Context(), storage.DecisionFilter{}, storage.Page{})
	if err != nil || next != "" {
		t.Fatalf("next %q, %v", next, err)
	}
	expectEqual(t, "list", []storage.Decision{want, minimal}, listed)

	nul := decision(0)
	nul.Route, nul.Flags = "a\x00b\xff", []string{"c\x00d"}
	record(t, s, nul)
	if got := loadDecision(t, s, nul.ID); got.Route != "ab\uFFFD" {
		t.Errorf("route %q, want the valid text", got.Route)
	}
}

func decisionFilters(t *testing.T, s Store) {
	var all []storage.Decision
	for n := range 60 {
		d := decision(time.Duration(n%20) * time.Minute)
		d.Tracker = []string{"sales", "support"}[n%2]
		d.DID = fmt.Sprint("+9714888000", n%4)
		d.Caller = fmt.Sprint("+97155123000", n%5)
		d.Route = []string{"office-hours", "otherwise", "vip"}[n%3]
		all = append(all, d)
	}
	record(t, s, all...)
	ended := all[17]
	saved := save(t, s, editedCDR(cdrWithoutCallID("ended", 0), func(c *storage.Call) {
		c.Tracker, c.DID, c.Caller, c.StartedAt = ended.Tracker, ended.DID, ended.Caller, ended.At
	}))
	calls, err := s.CallsOfDecisions(t.Context(), append(ids(all, decisionID), "none", ended.ID))
	if err != nil {
		t.Fatal(err)
	}
	if call, there := calls[all[0].ID]; len(calls) != len(all) || calls[ended.ID] != saved.ID || call != "" || !there {
		t.Errorf("calls of decisions: %v", calls)
	}
	slices.SortFunc(all, func(a, b storage.Decision) int { return -cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID)) })

	filters := []func(*storage.DecisionFilter){
		func(f *storage.DecisionFilter) { f.From = noon.Add(4 * time.Minute) },
		func(f *storage.DecisionFilter) { f.To = noon.Add(15 * time.Minute) },
		func(f *storage.DecisionFilter) { f.Tracker = "sales" },
		func(f *storage.DecisionFilter) { f.DIDs = []string{"+97148880001", "+97148880002"} },
		func(f *storage.DecisionFilter) { f.Callers = []string{"+971551230001", "+971551230003"} },
		func(f *storage.DecisionFilter) { f.Route = "vip" },
		func(f *storage.DecisionFilter) { f.Open = true },
	}
	for set := range combinations(len(filters)) {
		var f storage.DecisionFilter
		for i, narrow := range filters {
			if set&(1<<i) != 0 {
				narrow(&f)
			}
		}
		want := slices.DeleteFunc(slices.Clone(all), func(d storage.Decision) bool {
			return !f.From.IsZero() && d.At.Before(f.From) || !f.To.IsZero() && !d.At.Before(f.To) ||
				f.Tracker != "" && d.Tracker != f.Tracker ||
				len(f.DIDs) > 0 && !slices.Contains(f.DIDs, d.DID) ||
				len(f.Callers) > 0 && !slices.Contains(f.Callers, d.Caller) ||
				f.Route != "" && d.Route != f.Route || f.Open && d.ID == ended.ID
		})
		got, _, err := s.Decisions(t.Context(), f, storage.Page{Limit: storage.MaxLimit})
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		if diff := gocmp.Diff(ids(want, decisionID), ids(got, decisionID)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", f, diff)
		}
	}
}
