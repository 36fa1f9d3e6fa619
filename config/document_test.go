package config_test

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

	"calltracker/config"
	"calltracker/rules"
	"calltracker/rules/rulestest"
)

func TestParseReadsEveryKey(t *testing.T) {
	office := rules.Date{Year: 2026, Month: time.December, Day: 2}
	no, wait := false, config.Wait(150*time.Millisecond)
	whole := func(n int) *int { return &n }
	route, numbers := "shares", []string{"045550001"}
	five := rules.Value{Text: "5"}
	want := &config.Document{
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
		Trackers: map[string]config.Tracker{"sales": {
			Label: "Sales line", ContactCenter: "aldebaran",
			Keys:   config.Keys{Start: config.KeyList{Keys: []config.Secret{config.NewSecret("k-1"), config.NewSecret("k-3")}}, End: config.KeyList{Open: true}},
			Region: "AE", Timezone: "Europe/London",
			Numbers:  []rules.DID{{DID: "061234567"}, {DID: "+97143001234", Label: "Billboard", Campaign: "outdoor"}},
			CallerID: "042789926", Blocked: true, CustomerWait: &wait,
			Routes: []rules.Route{
				{
					ID: "office-hours", During: []string{"office"},
					When: []rules.Condition{
						{Field: "caller.country", Op: rules.OpIn, Values: []rules.Value{{Text: "AE"}, {Text: "SA"}}, Not: true},
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
		Connections: map[string]config.Connection{"shop": {Driver: "kustomer", Label: "The shop", Settings: map[string]config.Setting{
			"base_url": {Secret: config.NewSecret("https://acme.example.com")}, "org": {Secret: config.NewSecret("acme")}, "api_key": {Secret: config.NewSecret("k-3")},
			"page_size": {Secret: config.NewSecret("50")}, "sandbox": {Secret: config.NewSecret("false")},
		}}},
		ContactCenters: map[string]config.ContactCenter{"aldebaran": {
			API: "https://aldebaran-api.example.com", Username: config.NewSecret("k-1"), Password: config.NewSecret("k-1"), AccessToken: config.NewSecret("k-1"),
			APIKey: config.NewSecret("k-1"), WebhookKeys: []config.Secret{config.NewSecret("k-1")},
			Recordings: config.Recordings{Styles: []config.RecordingStyle{config.RecordingSignedURL, config.RecordingSurveillance}, Keep: config.KeepInS3, Days: 90, S3: &config.Bucket{
				Endpoint: "https://s3.eu-central-1.amazonaws.com", Region: "eu-central-1", Bucket: "acme-calls", Prefix: "recordings/",
				AccessKey: config.NewSecret("k-1"), SecretKey: config.NewSecret("k-1"),
			}},
		}},
		Sites: map[string]config.Site{"shop": {
			Origins: []string{"https://shop.example.com"}, Keys: []config.Secret{config.NewSecret("k-1")}, ContactCenter: "aldebaran", OfflineOutside: []string{"office"},
			WebCallback: &config.WebCallback{
				ContactCenterName: "aldebaran", Extensions: []string{"33176431400"}, CallerIDNumber: "+971557520000", NumberOfRetries: whole(0),
				Timeout: whole(30), ExtensionTimeout: whole(20), ExtensionDelay: whole(1), PositionClass: "bottom-right",
				ReplacementTargetID: "call-us", DefaultCountryFlags: []string{"ae", "fr"}, Offline: &no,
				CustomTexts: map[string]config.Translation{"title": {Text: "Call us"}, "fr": {Texts: map[string]string{"title": "Appelez-nous"}}},
				Other:       object{"aKeyOfTomorrow": object{"a": []any{json.Number("1"), nil}}},
			},
			Jorel: &config.Jorel{
				ContactCenterName: "aldebaran", DefaultPosition: "top-right", DefaultSize: "normal", DefaultRegionCode: "AE",
				FixedPositionAndSize: true, DeactivateMinimization: true, DeactivateConsoleOutput: true,
				ClickToCall: &config.ClickToCall{Links: true, Selectors: []string{".phone"}, Text: true},
			},
			Popup: &config.Popup{Connections: []string{"shop"}, On: []string{"ringing", "early"}, Many: "choose", None: "search", Unavailable: "nothing", Open: "card",
				Texts: map[string]config.Translation{"open": {Text: "Show"}, "fr": {Texts: map[string]string{"open": "Voir"}}}},
		}},
		Retention: &config.Retention{RawDays: 90, PersonalDays: 400},
		Tests: []config.Test{{
			Name: "Sunday evening", Tracker: "sales", At: time.Date(2026, time.November, 22, 16, 0, 0, 0, time.UTC),
			Call:     map[string]rules.Value{"didCalled": {Text: "061234567"}, "callerIDNumber": {Text: "+33176431400"}, "score": {Text: "4"}},
			Customer: &config.TestCustomer{Found: true, Connection: "shop", Tags: []string{"gold"}},
			Expect:   config.Expectation{Route: &route, Numbers: &numbers, Voicemail: &no},
		}},
	}
	asYAML := rulestest.ReadFile(t, "testdata/whole.yaml")
	asJSON, err := config.Convert(asYAML, config.YAML, config.JSON)
	if err != nil {
		t.Fatal(err)
	}
	for format, text := range map[config.Format][]byte{config.YAML: asYAML, config.JSON: asJSON} {
		got, problems := config.Parse(text, format, resolve)
		if len(problems) > 0 {
			t.Errorf("%s: %v", format, problems)
		}
		if diff := cmp.Diff(want, got,
			cmpopts.IgnoreUnexported(config.Document{}),
			cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() }),
			cmp.Comparer(func(a, b rules.Value) bool { return a.Text == b.Text }),
		); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestEmptyDocument(t *testing.T) {
	for format, texts := range map[config.Format][]string{config.YAML: {"", "# nothing\n", "null", "{}"}, config.JSON: {"{}", "null", " {} "}} {
		for _, text := range texts {
			_, set, problems := config.Load([]byte(text), format, nil)
			if set == nil || len(problems) > 0 || len(set.Trackers()) != 0 {
				t.Errorf("%s %q: set %v, %v", format, text, set != nil, problems)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	doc, set := mustLoad(t, `
contact_centers:
  one: {webhook_keys: ["w-1", "shared"]}
  two: {webhook_keys: ["w-2", "shared", ""]}
trackers:
  several: {keys: {start: ["a", "b", ""], end: ["c"]}, contact_center: two, routes: [{id: r, voicemail: true}]}
  open: {keys: {start: open, end: []}, routes: [{id: r, voicemail: true}]}
  none: {routes: [{id: r, voicemail: true}]}
`)
	tests := []struct {
		tracker, key string
		start, end   bool
	}{
		{"several", "a", true, false},
		{"several", "b", true, false},
		{"several", "c", false, true},
		{"several", "ab", false, false},
		{"several", "", false, false}, // even though an empty key is listed
		{"open", "", true, false},
		{"open", "anything", true, false},
		{"none", "", false, false},
		{"none", "a", false, false},
	}
	for _, tt := range tests {
		keys := doc.Trackers[tt.tracker].Keys
		if start, end := keys.Start.Ring().Admits(tt.key), keys.End.Ring().Admits(tt.key); start != tt.start || end != tt.end {
			t.Errorf("%s, key %q: start %v, end %v; want %v, %v", tt.tracker, tt.key, start, end, tt.start, tt.end)
		}
	}
	webhooks := doc.WebhookKeys()
	for key, want := range map[string]string{"w-1": "one", "w-2": "two", "shared": "one", "": "", "w-3": "", "a": ""} {
		if got, ok := webhooks.ContactCenter(key); got != want || ok != (want != "") {
			t.Errorf("webhook key %q: got %q %v, want %q", key, got, ok, want)
		}
	}
	if router, _ := set.Router("several"); router.ContactCenter() != "two" {
		t.Errorf("got contact center %q, want two", router.ContactCenter())
	}
	if router, _ := set.Router("none"); router.ContactCenter() != "" {
		t.Errorf("got contact center %q although there are two", router.ContactCenter())
	}
	if _, ok := set.Router("example"); ok {
		t.Error("there is a tracker example")
	}
}

func TestOnlyContactCenterIsTheDefault(t *testing.T) {
	_, set := mustLoad(t, "contact_centers: {one: {}}\ntrackers: {t: {routes: [{id: r}]}}\n")
	if router, _ := set.Router("t"); router.ContactCenter() != "one" {
		t.Errorf("got contact center %q, want one", router.ContactCenter())
	}
}

func TestPosition(t *testing.T) {
	doc, _ := mustLoad(t, `trackers: {t: {routes: [{id: r}]}}
tests:
  - {name: one, tracker: t, at: 2026-11-22T20:00:00Z, call: {didCalled: "1"}, expect: {route: r}}

  - name: two
    tracker: t
    at: 2026-11-22T20:00:00Z
    call: {didCalled: "1"}
    expect: {route: r}
`)
	for i, want := range [][2]int{{3, 5}, {5, 5}} {
		if line, column := doc.Position(fmt.Sprintf("tests[%d]", i)); line != want[0] || column != want[1] {
			t.Errorf("position of test %d: got %d:%d, want %v", i, line, column, want)
		}
	}
}

// Only Reveal returns the value of a secret.
func TestSecretsAreHidden(t *testing.T) {
	const secret = "k-very-secret"
	const text = `
trackers: {t: {keys: {start: ["${env:KEY}"], end: [k-very-secret]}, routes: [{id: r}]}}
connections: {c: {driver: d, settings: {api_key: "${secret:key}", base_url: "${secret:key}"}}}
contact_centers: {one: {password: "${secret:key}", webhook_keys: ["${secret:key}"]}}
`
	resolve := func(string, string) (string, error) { return secret, nil }
	doc, problems := config.Parse([]byte(text), config.YAML, resolve)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	_, _, problems = config.Load([]byte(text), config.YAML, resolve)
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
