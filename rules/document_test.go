package rules_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"calltracker/phone"
	"calltracker/rules"
)

func TestParseReadsEveryKey(t *testing.T) {
	office := rules.Date{Year: 2026, Month: time.December, Day: 2}
	no, wait := false, rules.Wait(150*time.Millisecond)
	whole := func(n int) *int { return &n }
	route, numbers := "shares", []string{"045550001"}
	five := rules.Text("5")
	want := &rules.Document{
		Calendars: map[string]rules.Calendar{"public": {
			{From: office, To: office},
			{From: rules.Date{Year: 2026, Month: time.December, Day: 30}, To: rules.Date{Year: 2027, Month: time.January, Day: 1}, Name: "New Year"},
		}},
		Schedules: map[string]rules.Schedule{"office": {
			Timezone: "Asia/Dubai",
			Open: []rules.Window{
				{Days: []rules.Weekday{"mon", "tue", "wed", "thu"}, From: 9 * 60, To: 18 * 60},
				{Days: []rules.Weekday{"sat"}, From: 22 * 60, To: 2 * 60},
			},
			Closed: []string{"public"},
		}},
		Trackers: map[string]rules.Tracker{"sales": {
			Label: "Sales line", ContactCenter: "aldebaran",
			Keys:   rules.Keys{Start: rules.KeyList{Keys: []rules.Secret{rules.NewSecret("k-1"), rules.NewSecret("k-3")}}, End: rules.KeyList{Open: true}},
			Region: "AE", Timezone: "Europe/London",
			Numbers:  []rules.DID{{DID: "061234567"}, {DID: "+97143001234", Label: "Billboard", Campaign: "outdoor"}},
			CallerID: "042789926", Blocked: true, CustomerWait: &wait,
			Routes: []rules.Route{
				{
					ID: "office-hours", During: []string{"office"},
					When: []rules.Condition{
						{Field: "caller.country", Op: rules.OpIn, Values: []rules.Value{rules.Text("AE"), rules.Text("SA")}, Not: true},
						{Field: "request.score", Op: rules.OpIs, Value: &five},
					},
					Dial:  []rules.Dial{{Number: "0505874600", Timeout: 90, CallerID: "044440000"}, {Number: "agent-0029"}},
					Order: rules.Rotate, Voicemail: true,
				},
				{
					ID: "shares", When: []rules.Condition{{Field: "did", Op: rules.OpExists}},
					Split: []rules.Share{{Weight: 70, Dial: []rules.Dial{{Number: "045550001", Timeout: 15}}, Order: rules.Random}, {Weight: 30, Voicemail: true}},
				},
				{ID: "otherwise", Voicemail: true},
			},
		}},
		Connections: map[string]rules.Connection{"shop": {Driver: "kustomer", Label: "The shop", Settings: map[string]rules.Setting{
			"base_url": {Secret: rules.NewSecret("https://acme.example.com")}, "org": {Secret: rules.NewSecret("acme")}, "api_key": {Secret: rules.NewSecret("k-3")},
			"page_size": {Secret: rules.NewSecret("50")}, "sandbox": {Secret: rules.NewSecret("false")},
		}}},
		ContactCenters: map[string]rules.ContactCenter{"aldebaran": {
			API: "https://aldebaran-api.example.com", Username: rules.NewSecret("k-1"), Password: rules.NewSecret("k-1"), AccessToken: rules.NewSecret("k-1"),
			APIKey: rules.NewSecret("k-1"), WebhookKeys: []rules.Secret{rules.NewSecret("k-1")},
			Recordings: rules.Recordings{Styles: []rules.RecordingStyle{rules.SignedURL, rules.Surveillance}, Keep: rules.InS3, Days: 90, S3: &rules.Bucket{
				Endpoint: "https://s3.eu-central-1.amazonaws.com", Region: "eu-central-1", Bucket: "acme-calls", Prefix: "recordings/",
				AccessKey: rules.NewSecret("k-1"), SecretKey: rules.NewSecret("k-1"),
			}},
		}},
		Sites: map[string]rules.Site{"shop": {
			Origins: []string{"https://shop.example.com"}, Keys: []rules.Secret{rules.NewSecret("k-1")}, ContactCenter: "aldebaran", OfflineOutside: []string{"office"},
			WebCallback: &rules.WebCallback{
				ContactCenterName: "aldebaran", Extensions: []string{"33176431400"}, CallerIDNumber: "+971557520000", NumberOfRetries: whole(0),
				Timeout: whole(30), ExtensionTimeout: whole(20), ExtensionDelay: whole(1), PositionClass: "bottom-right",
				ReplacementTargetID: "call-us", DefaultCountryFlags: []string{"ae", "fr"}, Offline: &no,
				CustomTexts: map[string]rules.Translation{"title": {Text: "Call us"}, "fr": {Texts: map[string]string{"title": "Appelez-nous"}}},
				Other:       object{"aKeyOfTomorrow": object{"a": []any{json.Number("1"), nil}}},
			},
			Jorel: &rules.Jorel{
				ContactCenterName: "aldebaran", DefaultPosition: "top-right", DefaultSize: "normal", DefaultRegionCode: "AE",
				FixedPositionAndSize: true, DeactivateMinimization: true, DeactivateConsoleOutput: true,
				ClickToCall: &rules.ClickToCall{Links: true, Selectors: []string{".phone"}, Text: true},
			},
			Popup: &rules.Popup{Connections: []string{"shop"}, On: []string{"ringing", "early"}, Many: "choose", None: "search", Unavailable: "nothing", Open: "card",
				Texts: map[string]rules.Translation{"open": {Text: "Show"}, "fr": {Texts: map[string]string{"open": "Voir"}}}},
		}},
		Retention: &rules.Retention{RawDays: 90, PersonalDays: 400},
		Tests: []rules.Test{{
			Name: "Sunday evening", Tracker: "sales", At: time.Date(2026, time.November, 22, 16, 0, 0, 0, time.UTC),
			Call:     map[string]rules.Value{"didCalled": rules.Text("061234567"), "callerIDNumber": rules.Text("+33176431400"), "score": rules.Text("4")},
			Customer: &rules.TestCustomer{Found: true, Connection: "shop", Tags: []string{"gold"}},
			Expect:   rules.Expectation{Route: &route, Numbers: &numbers, Voicemail: &no},
		}},
	}
	yaml := readFile(t, "testdata/whole.yaml")
	asJSON, err := rules.Convert(yaml, rules.YAML, rules.JSON)
	if err != nil {
		t.Fatal(err)
	}
	for format, text := range map[rules.Format][]byte{rules.YAML: yaml, rules.JSON: asJSON} {
		got, problems := rules.Parse(text, format, resolve)
		if len(problems) > 0 {
			t.Errorf("%s: %v", format, problems)
		}
		if diff := cmp.Diff(want, got,
			cmpopts.IgnoreUnexported(rules.Document{}),
			cmp.Comparer(func(a, b rules.Secret) bool { return a.Reveal() == b.Reveal() }),
			cmp.Comparer(func(a, b rules.Value) bool { return a.Text == b.Text }),
		); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestEmptyDocument(t *testing.T) {
	for format, texts := range map[rules.Format][]string{rules.YAML: {"", "# nothing\n", "null", "{}"}, rules.JSON: {"{}", "null", " {} "}} {
		for _, text := range texts {
			set, problems := rules.Load([]byte(text), format, nil)
			if set == nil || len(problems) > 0 || len(set.Trackers()) != 0 {
				t.Errorf("%s %q: set %v, %v", format, text, set != nil, problems)
			}
		}
	}
}

func TestCompileOfADocumentBuiltByHand(t *testing.T) {
	tests := map[string]struct {
		tracker rules.Tracker
		want    string // the first error; empty when there is none
	}{
		"fine":              {rules.Tracker{Routes: []rules.Route{{ID: "a", Voicemail: true}}}, ""},
		"no routes":         {rules.Tracker{}, "0:0: trackers.t: routes is missing"},
		"no last route":     {rules.Tracker{Routes: []rules.Route{{ID: "a", When: []rules.Condition{{Field: "did", Op: rules.OpExists}}}}}, "0:0: trackers.t.routes[0]: the last route must take every call: it can have neither during nor when"},
		"no field":          {rules.Tracker{Routes: []rules.Route{{ID: "a", When: []rules.Condition{{Op: rules.OpExists}}}, {ID: "b"}}}, `0:0: trackers.t.routes[0].when[0].field: unknown field ""; known are did, caller, caller.country, caller.type, weekday, time, date, campaign, customer.found, customer.tags, customer.connection and request.<name>`},
		"no operator":       {rules.Tracker{Routes: []rules.Route{{ID: "a", When: []rules.Condition{{Field: "time"}}}, {ID: "b"}}}, `0:0: trackers.t.routes[0].when[0].op: time cannot be compared by ""; it takes between`},
		"an empty split":    {rules.Tracker{Routes: []rules.Route{{ID: "a", Split: []rules.Share{}}}}, "0:0: trackers.t.routes[0].split: the weights add up to nothing; at least one must be over 0"},
		"a weight below":    {rules.Tracker{Routes: []rules.Route{{ID: "a", Split: []rules.Share{{Weight: -1}, {Weight: 1}}}}}, ""},
		"an unknown window": {rules.Tracker{Routes: []rules.Route{{ID: "a", During: []string{"s"}}, {ID: "b"}}}, `0:0: trackers.t.routes[0].during[0]: unknown schedule "s"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, problems := rules.Compile(&rules.Document{Trackers: map[string]rules.Tracker{"t": tt.tracker}})
			got := ""
			if errors := problems.Errors(); len(errors) > 0 {
				got = errors[0].String()
			}
			if got != tt.want || (set == nil) != (tt.want != "") {
				t.Errorf("set %v, error %q, must be %q", set != nil, got, tt.want)
			}
			if set != nil {
				router, _ := set.Router("t")
				answers(t, router, rules.Facts{})
			}
		})
	}
}

func TestKeys(t *testing.T) {
	set := mustLoad(t, `
contact_centers:
  one: {webhook_keys: ["w-1", "shared"]}
  two: {webhook_keys: ["w-2", "shared", ""]}
trackers:
  several: {keys: {start: ["a", "b", ""], end: ["c"]}, contact_center: two, routes: [{id: r, voicemail: true}]}
  open: {keys: {start: open, end: []}, routes: [{id: r, voicemail: true}]}
  none: {routes: [{id: r, voicemail: true}]}
`, rules.YAML)
	tests := []struct {
		tracker, key string
		start, end   bool
	}{
		{"several", "a", true, false},
		{"several", "b", true, false},
		{"several", "c", false, true},
		{"several", "ab", false, false},
		{"several", "", false, false}, // although an empty key is listed
		{"open", "", true, false},
		{"open", "anything", true, false},
		{"none", "", false, false},
		{"none", "a", false, false},
	}
	for _, tt := range tests {
		router, ok := set.Router(tt.tracker)
		if !ok {
			t.Fatalf("no tracker %q", tt.tracker)
		}
		if start, end := router.StartKeys().Admits(tt.key), router.EndKeys().Admits(tt.key); start != tt.start || end != tt.end {
			t.Errorf("%s, key %q: start %v, end %v; must be %v, %v", tt.tracker, tt.key, start, end, tt.start, tt.end)
		}
	}
	for key, want := range map[string]string{"w-1": "one", "w-2": "two", "shared": "one", "": "", "w-3": "", "a": ""} {
		if got, ok := set.Webhook(key); got != want || ok != (want != "") {
			t.Errorf("webhook key %q: %q %v, must be %q", key, got, ok, want)
		}
	}
	if router, _ := set.Router("several"); router.ContactCenter() != "two" {
		t.Errorf("contact center is %q, must be two", router.ContactCenter())
	}
	if router, _ := set.Router("none"); router.ContactCenter() != "" {
		t.Errorf("contact center is %q although there are two", router.ContactCenter())
	}
	if _, ok := set.Router("example"); ok {
		t.Error("there is a tracker example")
	}
}

func TestTheOnlyContactCenterIsMeant(t *testing.T) {
	set := mustLoad(t, "contact_centers: {one: {}}\ntrackers: {t: {routes: [{id: r}]}}\n", rules.YAML)
	if router, _ := set.Router("t"); router.ContactCenter() != "one" {
		t.Errorf("contact center is %q, must be one", router.ContactCenter())
	}
}

// A decision depends on the caller only where a router says so: else callers
// are not even parsed.
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
			t.Errorf("%v for %s", got, document)
		}
	}
}

func TestListedKeepsWhatCame(t *testing.T) {
	r := router(t, splitting(`{id: r}`))
	for _, raw := range []string{"042001000", "+97142001000", "0097142001000", "97142001000"} {
		if n, ok := r.Listed(raw); !ok || n != (phone.Number{Raw: raw, E164: "+97142001000", Country: "AE", Type: phone.FixedLine}) {
			t.Errorf("%q: %+v %v", raw, n, ok)
		}
	}
	for _, raw := range []string{"", "042001001", "2001000", "+97142001000 "} {
		if _, ok := r.Listed(raw); ok {
			t.Errorf("%q is listed", raw)
		}
	}
}

func TestTestPlace(t *testing.T) {
	set := mustLoad(t, `trackers: {t: {routes: [{id: r}]}}
tests:
  - {name: one, tracker: t, at: 2026-11-22T20:00:00Z, call: {didCalled: "1"}, expect: {route: r}}

  - name: two
    tracker: t
    at: 2026-11-22T20:00:00Z
    call: {didCalled: "1"}
    expect: {route: r}
`, rules.YAML)
	for i, want := range [][2]int{{3, 5}, {5, 5}} {
		if line, column := set.TestPlace(i); line != want[0] || column != want[1] {
			t.Errorf("test %d stands at %d:%d, must be %v", i, line, column, want)
		}
	}
}

// A secret leaves the document only through Reveal.
func TestSecretsHide(t *testing.T) {
	const secret = "k-very-secret"
	doc, problems := rules.Parse([]byte(`
trackers: {t: {keys: {start: ["${env:KEY}"], end: [k-very-secret]}, routes: [{id: r}]}}
connections: {c: {driver: d, settings: {api_key: "${secret:key}", base_url: "${secret:key}"}}}
contact_centers: {one: {password: "${secret:key}", webhook_keys: ["${secret:key}"]}}
`), rules.YAML, func(string, string) (string, error) { return secret, nil })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	_, problems = rules.Compile(doc)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("document", slog.Any("key", doc.Trackers["t"].Keys.Start.Keys[0]), slog.Any("setting", doc.Connections["c"].Settings["api_key"]))
	encoded, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	for how, text := range map[string]string{
		"printed": fmt.Sprintf("%v %+v %s", doc.Trackers, doc.Connections["c"].Settings["api_key"], doc.ContactCenters["one"].Password),
		"as JSON": string(encoded), "logged": log.String(), "in problems": fmt.Sprint(problems),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s: %s", how, text)
		}
	}
	key := doc.Trackers["t"].Keys
	if key.Start.Keys[0].Reveal() != secret || key.Start.Keys[0].Literal() || !key.End.Keys[0].Literal() {
		t.Errorf("start %q literal %v, end literal %v", key.Start.Keys[0].Reveal(), key.Start.Keys[0].Literal(), key.End.Keys[0].Literal())
	}
}
