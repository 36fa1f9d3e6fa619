package ziwo

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Tracker is a call tracker as Ziwo keeps it.
type Tracker struct {
	ID              string // a number, as text
	Name            string
	StartRequestURL string
	StartRequestKey string // empty: Ziwo sends none
	StartTimeout    time.Duration
	EndRequestURL   string
	EndRequestKey   string
	EndTimeout      time.Duration // zero: Ziwo's default
	WelcomePlayback string        // storage hash of the music while the caller waits
	ErrorPlayback   string
	Blocked         *bool // nil: Ziwo does not say
}

// String leaves the keys out.
func (t Tracker) String() string { return "call tracker " + t.Name }

const adminPage = 50 // what Ziwo gives at most

// Trackers lists all call trackers.
func (c *Client) Trackers(ctx context.Context) ([]Tracker, error) {
	var trackers []Tracker
	err := c.pages(ctx, request{op: "list call trackers", method: http.MethodGet, path: "/admin/callTrackers/"},
		limitAndSkip(adminPage), []string{"id", "name"}, func(items []value) (bool, error) {
			for _, item := range items {
				trackers = append(trackers, trackerOf(item))
			}
			return true, nil
		})
	if err != nil {
		return nil, err
	}
	return trackers, nil
}

// Tracker is one call tracker; NotFound when there is none.
func (c *Client) Tracker(ctx context.Context, id string) (Tracker, error) {
	const op = "load call tracker"
	a, err := c.do(ctx, request{op: op, method: http.MethodGet, path: "/admin/callTrackers/" + url.PathEscape(id)})
	if err != nil {
		return Tracker{}, err
	}
	items := a.items("id", "name")
	if len(items) == 0 {
		return Tracker{}, &APIError{Op: op, Kind: NotFound}
	}
	return trackerOf(items[0]), nil
}

// CreateTracker makes a call tracker. Its ID and Blocked are not sent.
func (c *Client) CreateTracker(ctx context.Context, t Tracker) error {
	form := t.form()
	form.Set("name", t.Name)
	_, err := c.do(ctx, request{op: "create call tracker", method: http.MethodPost, path: "/admin/callTrackers", form: form})
	return err
}

// UpdateTracker changes everything but the name of the tracker with t.ID.
func (c *Client) UpdateTracker(ctx context.Context, t Tracker) error {
	_, err := c.do(ctx, request{op: "update call tracker", method: http.MethodPut, path: "/admin/callTrackers/" + url.PathEscape(t.ID), form: t.form()})
	return err
}

func (t Tracker) form() url.Values {
	form := url.Values{
		"startRequestURL": {t.StartRequestURL}, "startRequestAPIKey": {t.StartRequestKey},
		"endRequestURL": {t.EndRequestURL}, "endRequestAPIKey": {t.EndRequestKey},
	}
	for name, timeout := range map[string]time.Duration{"startRequestTimeout": t.StartTimeout, "endRequestTimeout": t.EndTimeout} {
		if timeout > 0 {
			form.Set(name, strconv.FormatInt(timeout.Milliseconds(), 10))
		}
	}
	for name, hash := range map[string]string{"welcomePlayback": t.WelcomePlayback, "errorPlayback": t.ErrorPlayback} {
		if hash != "" {
			form.Set(name, hash)
		}
	}
	return form
}

// BlockTracker keeps Ziwo from asking the tracker; idOrName finds it.
func (c *Client) BlockTracker(ctx context.Context, idOrName string) error {
	return c.change(ctx, "block call tracker", http.MethodPut, idOrName, "/block")
}

// UnblockTracker undoes BlockTracker.
func (c *Client) UnblockTracker(ctx context.Context, idOrName string) error {
	return c.change(ctx, "unblock call tracker", http.MethodPut, idOrName, "/unblock")
}

// DeleteTracker removes a tracker.
func (c *Client) DeleteTracker(ctx context.Context, idOrName string) error {
	return c.change(ctx, "delete call tracker", http.MethodDelete, idOrName, "")
}

func (c *Client) change(ctx context.Context, op, method, idOrName, action string) error {
	_, err := c.do(ctx, request{op: op, method: method, path: "/admin/callTrackers/" + url.PathEscape(idOrName) + action, form: url.Values{}})
	return err
}

// TrackerTest is what Ziwo says of its own test of a tracker. Its form is not
// published: OK is false when anything in it says so.
type TrackerTest struct {
	OK      bool
	Message string
	Raw     []byte
}

// TestTracker has Ziwo call both addresses of a tracker with made-up values.
func (c *Client) TestTracker(ctx context.Context, id string) (TrackerTest, error) {
	a, err := c.do(ctx, request{op: "test call tracker", method: http.MethodPut, path: "/admin/callTrackers/" + url.PathEscape(id) + "/test", form: url.Values{}})
	if err != nil {
		return TrackerTest{}, err
	}
	test := TrackerTest{OK: true, Raw: a.content.raw}
	verdict(a.content, "", 0, func(path, said string) {
		test.OK = false
		if test.Message == "" {
			test.Message = c.unsecret(path + ": " + said)
		}
	})
	return test, nil
}

// verdict looks for what says that something failed.
func verdict(v value, path string, depth int, failed func(path, said string)) {
	const deepest = 6
	if depth > deepest {
		return
	}
	switch v.kind {
	case object:
		for all := v.members(); ; {
			name, inner, ok := all.next()
			if !ok {
				return
			}
			at := strings.TrimPrefix(path+"."+string(name), ".")
			if inner.scalar() && says(letters(string(name)), inner) {
				failed(at, string(inner.bytes()))
			}
			verdict(inner, at, depth+1, failed)
		}
	case list:
		for _, inner := range v.elements() {
			verdict(inner, path, depth+1, failed)
		}
	}
}

// says tells whether a member says that something failed.
func says(name string, v value) bool {
	text := strings.ToLower(strings.TrimSpace(string(v.bytes())))
	switch name {
	case "error", "errormessage":
		return text != "" && text != "false" && text != "null"
	case "result", "success", "ok", "passed":
		return text == "false" || text == "0" || text == "failed" || text == "error"
	case "status", "statuscode", "httpstatus", "code":
		if n, ok := numeral([]byte(text)); ok {
			return n >= 300
		}
		return strings.HasPrefix(text, "fail") || strings.HasPrefix(text, "err") || text == "ko"
	default:
		return false
	}
}

// LogQuery narrows the log of start and end calls. Zero fields do not narrow.
type LogQuery struct {
	From, To time.Time // days in UTC, both included
	Trackers []string  // ids
	Start    int       // how many entries to pass over
	Size     int       // of the page
}

// LogEntry is one entry of the log of start and end calls. Ziwo does not
// publish its form: the members are what could be found in it.
type LogEntry struct {
	CallID string
	Kind   LogKind
	At     time.Time
	CDR    *CDR // of an end call whose record is in the entry
	Raw    []byte
}

// LogKind says which request an entry is about. The zero value means that it
// could not be told.
type LogKind string

// The kinds of log entries.
const (
	LogStart LogKind = "start"
	LogEnd   LogKind = "end"
)

// TrackerLogs is one page of the log of start and end calls, and how many
// entries there are in all, -1 when Ziwo does not say. This endpoint has Ziwo's
// older paging, in which fetchStop is the size of the page.
func (c *Client) TrackerLogs(ctx context.Context, q LogQuery) ([]LogEntry, int, error) {
	query := url.Values{"fetchStart": {strconv.Itoa(q.Start)}, "fetchStop": {strconv.Itoa(q.Size)}}
	if !q.From.IsZero() {
		query.Set("fromDate", q.From.UTC().Format(time.DateOnly))
	}
	if !q.To.IsZero() {
		query.Set("toDate", q.To.UTC().Format(time.DateOnly))
	}
	for _, id := range q.Trackers {
		query.Add("callTrackers[]", id)
	}
	a, err := c.do(ctx, request{op: "read call tracker logs", method: http.MethodGet, path: "/admin/callTrackers/logs", query: query})
	if err != nil {
		return nil, 0, err
	}
	items := a.items("id", "callID")
	entries := make([]LogEntry, len(items))
	for i, item := range items {
		entries[i] = logEntryOf(item)
	}
	return entries, a.total(), nil
}

func logEntryOf(v value) LogEntry {
	e := LogEntry{Raw: v.raw}
	e.CallID = v.field("callID", "callId", "call_id", "uuid")
	e.At, _, _ = instant([]byte(v.field("createdAt", "date", "timestamp", "time", "startedAt")))
	switch word := letters(v.field("type", "action", "event", "kind", "name", "requestType")); {
	case strings.Contains(word, "start"):
		e.Kind = LogStart
	case strings.Contains(word, "end"):
		e.Kind = LogEnd
	}
	// What was sent may lie in the entry under any name, as JSON or as JSON in a
	// string.
	for all := v.members(); ; {
		_, member, ok := all.next()
		if !ok {
			break
		}
		inner, ok := member.object(new(notes))
		if !ok {
			continue
		}
		if e.CallID == "" {
			e.CallID = inner.field("callID", "callId", "call_id", "uuid")
		}
		cdr, err := ReadCDR("application/json", "", inner.raw)
		if err == nil && cdr.CallID != "" && !cdr.EndedAt.IsZero() && e.Kind != LogStart {
			e.CDR, e.CallID, e.Raw, e.Kind = &cdr, cdr.CallID, inner.raw, LogEnd
		}
	}
	if url := strings.ToLower(v.field("url", "requestURL")); e.Kind == "" && url != "" {
		switch {
		case strings.Contains(url, "/startcall"):
			e.Kind = LogStart
		case strings.Contains(url, "/endcall"):
			e.Kind = LogEnd
		}
	}
	return e
}

func trackerOf(v value) Tracker {
	t := Tracker{
		ID: v.field("id"), Name: v.field("name"),
		StartRequestURL: v.field("startRequestURL"), StartRequestKey: v.field("startRequestAPIKey"),
		EndRequestURL: v.field("endRequestURL"), EndRequestKey: v.field("endRequestAPIKey"),
		StartTimeout: millisecondsOf(v.at("startRequestTimeout")), EndTimeout: millisecondsOf(v.at("endRequestTimeout")),
		WelcomePlayback: v.field("welcomePlayback"), ErrorPlayback: v.field("errorPlayback"),
	}
	if blocked := v.at("blocked"); blocked.scalar() {
		is := strings.EqualFold(string(blocked.bytes()), "true") || string(blocked.bytes()) == "1"
		t.Blocked = &is
	} else if status := v.field("status"); status != "" {
		is := strings.EqualFold(status, "blocked")
		t.Blocked = &is
	}
	return t
}

func millisecondsOf(v value) time.Duration {
	if !v.scalar() || v.kind == boolean {
		return 0
	}
	n, ok := numeral(v.bytes())
	if !ok || n < 0 || n > 1e9 {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// Number is a number of the contact center and where it leads.
type Number struct {
	DID        string
	DIDCalled  string
	DIDDisplay string
	LinkType   string // callTracker, queue, ...
	LinkData   string // the name of what it leads to
}

// LeadsToTracker tells whether the number leads to a call tracker.
func (n Number) LeadsToTracker() bool { return strings.EqualFold(n.LinkType, "callTracker") }

// Numbers lists the numbers of the contact center.
func (c *Client) Numbers(ctx context.Context) ([]Number, error) {
	var numbers []Number
	err := c.pages(ctx, request{op: "list numbers", method: http.MethodGet, path: "/admin/numbers/"},
		limitAndSkip(adminPage), []string{"id", "did"}, func(items []value) (bool, error) {
			for _, v := range items {
				numbers = append(numbers, Number{
					DID: v.field("did"), DIDCalled: v.field("didCalled"), DIDDisplay: v.field("didDisplay"),
					LinkType: v.field("linkType"), LinkData: v.field("linkData"),
				})
			}
			return true, nil
		})
	if err != nil {
		return nil, err
	}
	return numbers, nil
}

// Profile says who the credentials belong to, and what time it is at Ziwo.
type Profile struct {
	Username string
	At       time.Time // zero when Ziwo does not say
}

// Profile checks the credentials.
func (c *Client) Profile(ctx context.Context) (Profile, error) {
	a, err := c.do(ctx, request{op: "load profile", method: http.MethodGet, path: "/profile"})
	if err != nil {
		return Profile{}, err
	}
	return Profile{Username: a.content.field("username", "email", "user.username"), At: a.at}, nil
}

// paging adds to a query which records are wanted.
type paging struct {
	size int
	set  func(query url.Values, from, size int)
}

// limitAndSkip is the paging of most lists.
func limitAndSkip(size int) paging {
	return paging{size: size, set: func(query url.Values, from, size int) {
		query.Set("limit", strconv.Itoa(size))
		query.Set("skip", strconv.Itoa(from))
	}}
}

// maxPages bounds a list whose end never comes.
const maxPages = 10_000

// pages reads a list to its end, or until use returns false. Ziwo may give
// fewer records a page than were asked for, so only what came counts.
func (c *Client) pages(ctx context.Context, r request, p paging, marks []string, use func(items []value) (bool, error)) error {
	var last string
	for got, page := 0, 0; page < maxPages; page++ {
		query := url.Values{}
		maps.Copy(query, r.query)
		p.set(query, got, p.size)
		asked := r
		asked.query = query
		a, err := c.do(ctx, asked)
		if err != nil {
			return err
		}
		items := a.items(marks...)
		if len(items) == 0 {
			return nil
		}
		first := string(items[0].raw)
		if first == last { // it gives the same page whatever is asked
			return nil
		}
		last = first
		if more, err := use(items); err != nil || !more {
			return err
		}
		got += len(items)
		if total := a.total(); total >= 0 && got >= total {
			return nil
		}
	}
	return &APIError{Op: r.op, Kind: Unreadable, Message: "the list has no end"}
}
