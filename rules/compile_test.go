package rules_test

import (
	"testing"

	"calltracker/phone"
	"calltracker/rules"
	"calltracker/rules/rulestest"
)

func TestCompile(t *testing.T) {
	tests := map[string]struct {
		tracker rules.Tracker
		want    string // the first error, if any
	}{
		"valid":               {rules.Tracker{Routes: []rules.Route{{ID: "a", Voicemail: true}}}, ""},
		"no routes":           {rules.Tracker{}, "trackers.t: routes is missing"},
		"no last route":       {rules.Tracker{Routes: []rules.Route{{ID: "a", When: []rules.Condition{{Field: "did", Op: rules.OpExists}}}}}, "trackers.t.routes[0]: the last route must take every call: remove its during and when"},
		"no field":            {rules.Tracker{Routes: []rules.Route{{ID: "a", When: []rules.Condition{{Op: rules.OpExists}}}, {ID: "b"}}}, `trackers.t.routes[0].when[0].field: unknown field "": use did, caller, caller.country, caller.type, weekday, time, date, campaign, customer.found, customer.tags, customer.connection or request.<name>`},
		"no operator":         {rules.Tracker{Routes: []rules.Route{{ID: "a", When: []rules.Condition{{Field: "time"}}}, {ID: "b"}}}, `trackers.t.routes[0].when[0].op: invalid operator "" for time: use between`},
		"an empty split":      {rules.Tracker{Routes: []rules.Route{{ID: "a", Split: []rules.Share{}}}}, "trackers.t.routes[0].split: all weights are 0: at least one must be greater"},
		"a negative weight":   {rules.Tracker{Routes: []rules.Route{{ID: "a", Split: []rules.Share{{Weight: -1}, {Weight: 1}}}}}, ""},
		"an unknown schedule": {rules.Tracker{Routes: []rules.Route{{ID: "a", During: []string{"s"}}, {ID: "b"}}}, `trackers.t.routes[0].during[0]: unknown schedule "s"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, problems := rules.Compile(rules.Source{Trackers: map[string]rules.Tracker{"t": tt.tracker}})
			got := ""
			if wrong := problems.Errors(); len(wrong) > 0 {
				got = wrong[0].String()
			}
			if got != tt.want || (set == nil) != (tt.want != "") {
				t.Errorf("set %v, error %q, want %q", set != nil, got, tt.want)
			}
			if set != nil {
				router, _ := set.Router("t")
				rulestest.Check(t, router, rules.Facts{})
			}
		})
	}
}

// Callers are parsed only if ReadsCaller says that a decision may depend on them.
func TestReadsCaller(t *testing.T) {
	for document, want := range map[string]bool{
		splitting(`{id: r, voicemail: true}`):                                                   false,
		splitting(`{id: a, when: [{field: did, op: exists}]}`, `{id: r}`):                       false,
		splitting(`{id: a, when: [{field: caller, op: exists}]}`, `{id: r}`):                    true,
		splitting(`{id: a, when: [{field: caller.country, op: is, value: AE}]}`, `{id: r}`):     true,
		splitting(`{id: a, when: [{field: caller.type, op: is, value: withheld}]}`, `{id: r}`):  true,
		splitting(`{id: r, order: random, dial: [{number: "1"}, {number: "2"}]}`):               true,
		splitting(`{id: r, order: rotate, dial: [{number: "1"}, {number: "2"}]}`):               false,
		splitting(split("r", "", 1, 1)):                                                         true,
		splitting(`{id: a, when: [{field: customer.tags, op: is, value: gold}]}`, `{id: last}`): false,
	} {
		if got := router(t, document).ReadsCaller(); got != want {
			t.Errorf("got %v for %s", got, document)
		}
	}
}

func TestFindDID(t *testing.T) {
	r := router(t, splitting(`{id: r}`))
	for _, raw := range []string{"042001000", "+97142001000", "0097142001000", "97142001000"} {
		if n, ok := r.FindDID(raw); !ok || n != (phone.Number{Raw: raw, E164: "+97142001000", Country: "AE", Type: phone.FixedLine}) {
			t.Errorf("%q: %+v %v", raw, n, ok)
		}
	}
	for _, raw := range []string{"", "042001001", "2001000", "+97142001000 "} {
		if _, ok := r.FindDID(raw); ok {
			t.Errorf("%q is found", raw)
		}
	}
}
