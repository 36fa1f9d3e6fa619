package ziwo

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Tracker is a call tracker as configured in Ziwo.
type Tracker struct {
	ID              string // decimal number
	Name            string
	StartRequestURL string
	StartRequestKey string // API key of start calls; empty sends none
	StartTimeout    time.Duration
	EndRequestURL   string
	EndRequestKey   string
	EndTimeout      time.Duration // zero is Ziwo's default
	WelcomePlayback string        // storage hash of the audio for waiting callers
	ErrorPlayback   string
	Blocked         *bool // nil if Ziwo does not send it
}

// String returns the name of t. It omits the keys.
func (t Tracker) String() string { return "call tracker " + t.Name }

const adminPage = 50 // largest page that Ziwo returns

// Trackers returns all call trackers.
func (c *Client) Trackers(ctx context.Context) ([]Tracker, error) {
	var trackers []Tracker
	err := c.listAll(ctx, request{op: "list call trackers", method: http.MethodGet, path: "/admin/callTrackers/"}, []string{"id", "name"}, func(items []value) {
		for _, item := range items {
			trackers = append(trackers, trackerOf(item))
		}
	})
	if err != nil {
		return nil, err
	}
	return trackers, nil
}

// Tracker returns the call tracker with an ID, or a NotFound error.
func (c *Client) Tracker(ctx context.Context, id string) (Tracker, error) {
	const op = "load call tracker"
	res, err := c.do(ctx, request{op: op, method: http.MethodGet, path: "/admin/callTrackers/" + url.PathEscape(id)})
	if err != nil {
		return Tracker{}, err
	}
	items := res.items("id", "name")
	if len(items) == 0 {
		return Tracker{}, &APIError{Op: op, Kind: NotFound}
	}
	return trackerOf(items[0]), nil
}

// CreateTracker creates a call tracker. It ignores t.ID and t.Blocked.
func (c *Client) CreateTracker(ctx context.Context, t Tracker) error {
	form := t.form()
	form.Set("name", t.Name)
	_, err := c.do(ctx, request{op: "create call tracker", method: http.MethodPost, path: "/admin/callTrackers", form: form})
	return err
}

// UpdateTracker updates the call tracker with the ID of t. It ignores t.Name and
// t.Blocked.
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

// BlockTracker stops Ziwo from sending requests to a call tracker.
func (c *Client) BlockTracker(ctx context.Context, idOrName string) error {
	return c.changeTracker(ctx, "block call tracker", http.MethodPut, idOrName, "/block")
}

// UnblockTracker reverts BlockTracker.
func (c *Client) UnblockTracker(ctx context.Context, idOrName string) error {
	return c.changeTracker(ctx, "unblock call tracker", http.MethodPut, idOrName, "/unblock")
}

// DeleteTracker deletes a call tracker.
func (c *Client) DeleteTracker(ctx context.Context, idOrName string) error {
	return c.changeTracker(ctx, "delete call tracker", http.MethodDelete, idOrName, "")
}

func (c *Client) changeTracker(ctx context.Context, op, method, idOrName, action string) error {
	_, err := c.do(ctx, request{op: op, method: method, path: "/admin/callTrackers/" + url.PathEscape(idOrName) + action, form: url.Values{}})
	return err
}

// TrackerTest is the result of Ziwo's own test of a call tracker. Ziwo does not
// publish its format, so OK is false if any member reports a failure.
type TrackerTest struct {
	OK      bool
	Message string // first failure; empty if OK
	Raw     []byte // result as JSON
}

// TestTracker makes Ziwo send test requests to both URLs of a call tracker.
func (c *Client) TestTracker(ctx context.Context, id string) (TrackerTest, error) {
	res, err := c.do(ctx, request{op: "test call tracker", method: http.MethodPut, path: "/admin/callTrackers/" + url.PathEscape(id) + "/test", form: url.Values{}})
	if err != nil {
		return TrackerTest{}, err
	}
	test := TrackerTest{OK: true, Raw: res.content.raw}
	findFailures(res.content, "", 0, func(path, message string) {
		test.OK = false
		if test.Message == "" {
			test.Message = c.redact(path + ": " + message)
		}
	})
	return test, nil
}

// findFailures calls report for each member in v that reports a failure.
func findFailures(v value, path string, depth int, report func(path, message string)) {
	const maxDepth = 6
	if depth > maxDepth {
		return
	}
	switch v.kind {
	case kindObject:
		for all := v.members(); ; {
			name, inner, ok := all.next()
			if !ok {
				return
			}
			at := strings.TrimPrefix(path+"."+string(name), ".")
			if inner.isScalar() && reportsFailure(alphanumeric(string(name)), inner) {
				report(at, string(inner.bytes()))
			}
			findFailures(inner, at, depth+1, report)
		}
	case kindArray:
		for _, inner := range v.elements() {
			findFailures(inner, path, depth+1, report)
		}
	}
}

// reportsFailure reports whether a member means that something failed.
func reportsFailure(name string, v value) bool {
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

// LogQuery filters the log of start and end calls. Zero fields do not filter.
type LogQuery struct {
	From, To time.Time // first and last day in UTC
	Trackers []string  // IDs of call trackers
	Start    int       // number of entries to skip
	Size     int       // page size
}

// LogEntry is one entry of the log of start and end calls. Ziwo does not publish
// its format, so any field but Raw may be empty.
type LogEntry struct {
	CallID string
	Kind   LogKind
	At     time.Time
	CDR    *CDR   // CDR of an end call; nil if the entry has none
	Raw    []byte // CDR, or else the entry, as JSON
}

// LogKind is the kind of request that an entry records. The zero value means that
// the kind is unknown.
type LogKind string

// The kinds of log entries.
const (
	LogStart LogKind = "start"
	LogEnd   LogKind = "end"
)

// TrackerLogs returns one page of the log of start and end calls, and the total
// number of entries, or -1 if Ziwo does not send it. This endpoint uses Ziwo's
// older pagination, in which fetchStop is the page size.
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
	res, err := c.do(ctx, request{op: "read call tracker logs", method: http.MethodGet, path: "/admin/callTrackers/logs", query: query})
	if err != nil {
		return nil, 0, err
	}
	items := res.items("id", "callID")
	entries := make([]LogEntry, len(items))
	for i, item := range items {
		entries[i] = logEntryOf(item)
	}
	return entries, res.total(), nil
}

func logEntryOf(v value) LogEntry {
	e := LogEntry{Raw: v.raw}
	e.CallID = v.lookup("callID", "callId", "call_id", "uuid")
	e.At, _, _ = instant([]byte(v.lookup("createdAt", "date", "timestamp", "time", "startedAt")))
	switch word := alphanumeric(v.lookup("type", "action", "event", "kind", "name", "requestType")); {
	case strings.Contains(word, "start"):
		e.Kind = LogStart
	case strings.Contains(word, "end"):
		e.Kind = LogEnd
	}
	// The entry may hold the request under any name, as an object or as JSON in a
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
			e.CallID = inner.lookup("callID", "callId", "call_id", "uuid")
		}
		cdr, err := ParseCDR("application/json", "", inner.raw)
		if err == nil && cdr.CallID != "" && !cdr.EndedAt.IsZero() && e.Kind != LogStart {
			e.CDR, e.CallID, e.Raw, e.Kind = &cdr, cdr.CallID, inner.raw, LogEnd
		}
	}
	if requestURL := strings.ToLower(v.lookup("url", "requestURL")); e.Kind == "" {
		switch {
		case strings.Contains(requestURL, "/startcall"):
			e.Kind = LogStart
		case strings.Contains(requestURL, "/endcall"):
			e.Kind = LogEnd
		}
	}
	return e
}

func trackerOf(v value) Tracker {
	t := Tracker{
		ID: v.lookup("id"), Name: v.lookup("name"),
		StartRequestURL: v.lookup("startRequestURL"), StartRequestKey: v.lookup("startRequestAPIKey"),
		EndRequestURL: v.lookup("endRequestURL"), EndRequestKey: v.lookup("endRequestAPIKey"),
		StartTimeout: millisecondsOf(v.get("startRequestTimeout")), EndTimeout: millisecondsOf(v.get("endRequestTimeout")),
		WelcomePlayback: v.lookup("welcomePlayback"), ErrorPlayback: v.lookup("errorPlayback"),
	}
	if blocked := v.get("blocked"); blocked.isScalar() {
		isBlocked := strings.EqualFold(string(blocked.bytes()), "true") || string(blocked.bytes()) == "1"
		t.Blocked = &isBlocked
	} else if status := v.lookup("status"); status != "" {
		isBlocked := strings.EqualFold(status, "blocked")
		t.Blocked = &isBlocked
	}
	return t
}

func millisecondsOf(v value) time.Duration {
	if !v.isScalar() || v.kind == kindBool {
		return 0
	}
	n, ok := numeral(v.bytes())
	if !ok || n < 0 || n > 1e9 {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// Number is a number of the contact center and its destination.
type Number struct {
	DID        string
	DIDCalled  string
	DIDDisplay string
	LinkType   string // type of the destination, such as callTracker or queue
	LinkData   string // name of the destination
}

// RoutesToTracker reports whether calls to the number go to a call tracker.
func (n Number) RoutesToTracker() bool { return strings.EqualFold(n.LinkType, "callTracker") }

// Numbers returns the numbers of the contact center.
func (c *Client) Numbers(ctx context.Context) ([]Number, error) {
	var numbers []Number
	err := c.listAll(ctx, request{op: "list numbers", method: http.MethodGet, path: "/admin/numbers/"}, []string{"id", "did"}, func(items []value) {
		for _, v := range items {
			numbers = append(numbers, Number{
				DID: v.lookup("did"), DIDCalled: v.lookup("didCalled"), DIDDisplay: v.lookup("didDisplay"),
				LinkType: v.lookup("linkType"), LinkData: v.lookup("linkData"),
			})
		}
	})
	if err != nil {
		return nil, err
	}
	return numbers, nil
}

// Profile is the authenticated user.
type Profile struct {
	Username string
	At       time.Time // Ziwo's clock; zero if Ziwo does not send it
}

// Profile returns the authenticated user. It serves to check the credentials.
func (c *Client) Profile(ctx context.Context) (Profile, error) {
	res, err := c.do(ctx, request{op: "load profile", method: http.MethodGet, path: "/profile"})
	if err != nil {
		return Profile{}, err
	}
	return Profile{Username: res.content.lookup("username", "email", "user.username"), At: res.date}, nil
}

// maxPages bounds the pages of a list that never ends.
const maxPages = 10_000

// listAll passes all records of the admin list r to add, one page at a time. A
// page may have fewer records than requested, so the next page starts after the
// records received so far.
func (c *Client) listAll(ctx context.Context, r request, idFields []string, add func(items []value)) error {
	var last string
	for received, page := 0, 0; page < maxPages; page++ {
		r.query = url.Values{"limit": {strconv.Itoa(adminPage)}, "skip": {strconv.Itoa(received)}}
		res, err := c.do(ctx, r)
		if err != nil {
			return err
		}
		items := res.items(idFields...)
		if len(items) == 0 {
			return nil
		}
		first := string(items[0].raw)
		if first == last { // the endpoint ignores skip
			return nil
		}
		last = first
		add(items)
		received += len(items)
		if total := res.total(); total >= 0 && received >= total {
			return nil
		}
	}
	return &APIError{Op: r.op, Kind: Unreadable, Message: "the list does not end"}
}
