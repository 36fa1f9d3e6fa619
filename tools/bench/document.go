package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"slices"
)

// The keys of every tracker, a current one and an old one that is being rotated
// out. The document refers to environment variables, as a real one should.
const (
	keyVariable    = "BENCH_START_KEY"
	oldKeyVariable = "BENCH_OLD_START_KEY"
	startKey       = "5f1d2c9a7be04c6e8f3390d1a4b7c2e6"
	oldStartKey    = "0c7e51b8d96a4f02b1e4733f5ad8826b"
)

// Sizes of a tracker.
const (
	didsPerTracker   = 3
	phonesPerTracker = 4
)

// The parts of the configuration document that bench generates.
type (
	configuration struct {
		Calendars   map[string][]string   `json:"calendars"`
		Schedules   map[string]schedule   `json:"schedules"`
		Trackers    map[string]tracker    `json:"trackers"`
		Connections map[string]connection `json:"connections,omitempty"`
		Sites       map[string]site       `json:"sites"`

		ContactCenters map[string]map[string]string `json:"contact_centers,omitempty"`
	}
	connection struct {
		Driver   string            `json:"driver"`
		Settings map[string]string `json:"settings"`
	}
	site struct {
		Origins        []string     `json:"origins"`
		WebCallback    *webCallback `json:"webcallback,omitempty"`
		OfflineOutside []string     `json:"offline_outside,omitempty"`
		Jorel          *jorel       `json:"jorel,omitempty"`
		Popup          *popup       `json:"popup,omitempty"`
	}
	jorel struct {
		ContactCenterName string `json:"contactCenterName"`
		DefaultRegionCode string `json:"defaultRegionCode"`
	}
	popup struct {
		Connections []string `json:"connections"`
	}
	webCallback struct {
		ContactCenterName string   `json:"contactCenterName"`
		Extensions        []string `json:"extensions"`
	}
	schedule struct {
		Timezone string   `json:"timezone"`
		Open     []window `json:"open"`
		Closed   []string `json:"closed,omitempty"`
	}
	window struct {
		Days []string `json:"days"`
		From string   `json:"from"`
		To   string   `json:"to"`
	}
	tracker struct {
		Region   string              `json:"region"`
		Timezone string              `json:"timezone"`
		Keys     map[string][]string `json:"keys"`
		CallerID string              `json:"caller_id"`
		Numbers  []did               `json:"numbers"`
		Routes   []route             `json:"routes"`
	}
	did struct {
		DID      string `json:"did"`
		Campaign string `json:"campaign"`
	}
	route struct {
		ID        string      `json:"id"`
		During    []string    `json:"during,omitempty"`
		When      []condition `json:"when,omitempty"`
		Dial      []dial      `json:"dial"`
		Voicemail bool        `json:"voicemail"`
	}
	condition struct {
		Field  string   `json:"field"`
		Op     string   `json:"op"`
		Values []string `json:"values"`
		Not    bool     `json:"not,omitempty"`
	}
	dial struct {
		Number  string `json:"number"`
		Timeout string `json:"timeout"`
	}
)

// extension adds to a generated document the parts that one measurement needs.
type extension func(*configuration)

// document returns a configuration with the given number of trackers and of
// routes for each. It is deterministic.
func document(trackers, routes int, extensions ...extension) ([]byte, error) {
	workdays := []string{"mon", "tue", "wed", "thu", "fri"}
	weekend := []string{"sat", "sun"}
	doc := configuration{
		Calendars: map[string][]string{"holidays": {"2026-12-02", "2026-12-03", "2027-01-01"}},
		Schedules: map[string]schedule{
			"office":  {"Asia/Dubai", []window{{workdays[:4], "09:00", "18:00"}, {workdays[4:], "09:00", "12:30"}}, []string{"holidays"}},
			"evening": {"Asia/Dubai", []window{{workdays, "18:00", "23:00"}}, []string{"holidays"}},
			"night":   {"Asia/Dubai", []window{{slices.Concat(workdays, weekend), "23:00", "07:00"}}, nil},
			"weekend": {"Asia/Riyadh", []window{{weekend, "08:00", "20:00"}}, nil},
		},
		Trackers: make(map[string]tracker, trackers),
		Sites: map[string]site{benchSite: {
			Origins: []string{"https://shop.example.com"}, WebCallback: &webCallback{"aldebaran", []string{"33176431477"}}, OfflineOutside: []string{"office"},
		}},
	}
	for t := range trackers {
		doc.Trackers[trackerID(t)] = newTracker(t, routes)
	}
	for _, extend := range extensions {
		extend(&doc)
	}
	return json.Marshal(doc)
}

func trackerID(t int) string { return fmt.Sprintf("line-%05d", t) }

// nationalDID returns the i-th DID of a tracker in national format.
func nationalDID(tracker, i int) string {
	return fmt.Sprintf("043%06d", tracker*didsPerTracker+i)
}

func newTracker(t, routes int) tracker {
	d := generator(t)
	out := tracker{
		Region: "AE", Timezone: "Asia/Dubai", CallerID: fmt.Sprintf("044%06d", t),
		Keys: map[string][]string{
			"start": {"${env:" + keyVariable + "}", "${env:" + oldKeyVariable + "}"}, "end": {"${env:" + keyVariable + "}"},
		},
	}
	for i := range didsPerTracker {
		out.Numbers = append(out.Numbers, did{nationalDID(t, i), fmt.Sprintf("campaign-%d", i)})
	}
	for r := range routes {
		next := route{ID: fmt.Sprintf("route-%02d", r), Voicemail: true, Dial: []dial{
			{fmt.Sprintf("050%06d%d", t, d.intn(phonesPerTracker)), "10s"}, {fmt.Sprintf("047%05d%d", t, d.intn(phonesPerTracker)), "20s"},
		}}
		if r < routes-1 {
			next.During, next.When = conditions(&d, t)
		}
		out.Routes = append(out.Routes, next)
	}
	return out
}

// conditions returns the schedules and conditions of one route. Each kind of
// condition matches a small share of the calls, so that a call passes several
// routes before one matches.
func conditions(d *generator, t int) (during []string, when []condition) {
	during = []string{d.pick("office", "evening", "night", "weekend")}
	did := nationalDID(t, d.intn(didsPerTracker))
	mobile := []string{"+9715" + d.pick("0", "2", "4"), "+9715" + d.pick("5", "6", "8")}
	compare := func(field, op, value string) condition {
		return condition{Field: field, Op: op, Values: []string{value}}
	}
	switch d.intn(8) {
	case 0:
		return during, []condition{compare("did", "is", did)}
	case 1:
		return nil, []condition{{Field: "caller.country", Op: "in", Values: []string{d.pick("IN", "PK", "EG"), d.pick("GB", "FR", "DE")}}}
	case 2:
		return nil, []condition{{Field: "caller", Op: "prefix", Values: mobile}}
	case 3:
		return nil, []condition{compare("request.language", "is", d.pick("ar", "en", "fr"))}
	case 4:
		return during, []condition{{Field: "caller", Op: "prefix", Values: mobile}, compare("caller.country", "is", "AE")}
	case 5:
		return nil, []condition{{Field: "weekday", Op: "in", Values: []string{"sat", "sun"}}, compare("caller.type", "is", d.pick("toll_free", "voip"))}
	case 6:
		return nil, []condition{compare("campaign", "is", fmt.Sprintf("campaign-%d", d.intn(didsPerTracker))), compare("caller", "suffix", d.pick("1", "3", "5", "7", "9"))}
	default:
		return during, []condition{{Field: "caller.country", Op: "in", Values: []string{"AE", "SA"}, Not: true}, compare("did", "suffix", did[6:])}
	}
}

// A call that no route with conditions matches: on a Monday morning in Dubai, from
// a landline in the United Arab Emirates, to a DID that the tracker does not list.
const (
	unmatchedAt     = "2026-11-23T10:00:00+04:00"
	unmatchedCaller = "+97143334444"
	unmatchedDID    = "042999999"
)

// callers returns n distinct phone numbers in the formats that carriers use. Most
// are national.
func callers(n int) []string {
	d := generator(1)
	out := make([]string, n)
	for i := range out {
		switch kind := d.intn(100); { // i makes the numbers distinct
		case kind < 45:
			out[i] = fmt.Sprintf("+9715%s%07d", d.pick("0", "2", "4", "5", "6", "8"), 1_000_000+17*i)
		case kind < 60:
			out[i] = fmt.Sprintf("05%s%07d", d.pick("0", "2", "4", "5", "6", "8"), 2_000_000+17*i)
		case kind < 70:
			out[i] = fmt.Sprintf("009714%07d", 2_000_000+17*i)
		case kind < 85:
			out[i] = fmt.Sprintf("+9665%s%07d", d.pick("0", "3", "4", "5"), 1_000_000+17*i)
		case kind < 93:
			out[i] = fmt.Sprintf("9198%08d", 10_000_000+17*i)
		default:
			out[i] = fmt.Sprintf("+4477%08d", 12_000_000+17*i)
		}
	}
	return out
}

// formatDID returns a national number in one of the formats that Ziwo may send,
// most often unchanged.
func formatDID(d *generator, national string) string {
	switch d.intn(10) {
	case 0, 1:
		return "+971" + national[1:]
	case 2:
		return "971" + national[1:]
	case 3:
		return "00971" + national[1:]
	case 4:
		return national[:2] + " " + national[2:5] + " " + national[5:]
	default:
		return national
	}
}

// request is one HTTP request as sent. It belongs to one client, which overwrites
// the callID before each send.
type request struct {
	wire      []byte
	callID    []byte // last digits of the callID, a part of wire; nil if it has none
	didCalled string // DID, or the caller of a pop-up request
}

// Requests look like those of curl, as in Ziwo's example
// (https://www.ziwo.io/api-integration-developers/).
const (
	boundary     = "------------------------VcQ8mzZdUxM4hJt0bNkRwe"
	callIDPrefix = "9b1deb4d-3b7d-4bad-9bdd-"
	callIDDigits = "000000000000"
)

// startRequests returns a start call from each of n callers to random trackers and
// DIDs.
func startRequests(trackers, n int) ([]request, error) {
	d := generator(2)
	out := make([]request, n)
	for i, caller := range callers(n) {
		t := d.intn(trackers)
		var err error
		if out[i], err = startRequest(trackerID(t), formatDID(&d, nationalDID(t, d.intn(didsPerTracker))), caller); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func startRequest(tracker, did, caller string) (request, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.SetBoundary(boundary); err != nil {
		return request{}, err
	}
	for _, field := range [][2]string{{"didCalled", did}, {"callerIDNumber", caller}, {"callID", callIDPrefix + callIDDigits}} {
		if err := form.WriteField(field[0], field[1]); err != nil {
			return request{}, err
		}
	}
	if err := form.Close(); err != nil {
		return request{}, err
	}
	wire := fmt.Appendf(nil, "POST /callTrackers/%s/startCall HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n"+
		"X-API-Key: %s\r\nContent-Length: %d\r\nContent-Type: %s\r\n\r\n%s", tracker, startKey, body.Len(), form.FormDataContentType(), body.Bytes())
	digits := bytes.Index(wire, []byte(callIDPrefix)) + len(callIDPrefix)
	return request{wire: wire, callID: wire[digits : digits+len(callIDDigits)], didCalled: did}, nil
}

// generator is a linear congruential generator with the constants of Knuth's MMIX.
// It returns the same numbers with every version of Go.
type generator uint64

// intn returns a number from 0 to n-1.
func (d *generator) intn(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407
	return int(uint64(*d) >> 33 % uint64(n))
}

// pick returns one of the words.
func (d *generator) pick(words ...string) string { return words[d.intn(len(words))] }
