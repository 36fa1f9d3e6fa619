package ziwo

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// HistoryRecord is one record of the call history.
type HistoryRecord struct {
	CDR CDR
	ID  string // Ziwo's number of the record, as text
	Raw []byte // the record as it came, JSON
}

// HistoryQuery is one page of the call history. Zero fields do not narrow.
type HistoryQuery struct {
	FromDate, ToDate time.Time // calendar days, both included, in a time zone that Ziwo does not publish
	Contact          string    // a number
	CallID           string
	Skip, Limit      int
}

// HistoryPage is a part of the call history.
type HistoryPage struct {
	Records    []HistoryRecord
	Items      int // records on the page, those that could not be read included
	Unreadable int
	Total      int // -1 when Ziwo does not say

	first string // the first item as it came, readable or not
}

// maxHistoryPage is the largest page that integrators ask for.
const maxHistoryPage = 1000

// CallHistory is one page of the call history, newest first if Ziwo keeps to
// what it is asked.
func (c *Client) CallHistory(ctx context.Context, q HistoryQuery) (HistoryPage, error) {
	query := url.Values{"order": {"~startedAt"}, "limit": {strconv.Itoa(q.Limit)}, "skip": {strconv.Itoa(q.Skip)}}
	for name, day := range map[string]time.Time{"fromDate": q.FromDate, "toDate": q.ToDate} {
		if !day.IsZero() {
			query.Set(name, day.UTC().Format(time.DateOnly))
		}
	}
	for name, text := range map[string]string{"contactNumber": q.Contact, "callID": q.CallID} {
		if text != "" {
			query.Set(name, text)
		}
	}
	a, err := c.do(ctx, request{op: "read call history", method: http.MethodGet, path: "/callHistory/", query: query})
	if err != nil {
		return HistoryPage{}, err
	}
	return historyPageOf(a), nil
}

func historyPageOf(a answer) HistoryPage {
	items := a.items("callID", "id")
	page := HistoryPage{Records: make([]HistoryRecord, 0, len(items)), Items: len(items), Total: a.total()}
	if len(items) > 0 {
		page.first = string(items[0].raw)
	}
	for _, item := range items {
		record, ok := historyRecordOf(item)
		if !ok {
			page.Unreadable++
			continue
		}
		page.Records = append(page.Records, record)
	}
	return page
}

func historyRecordOf(v value) (HistoryRecord, bool) {
	cdr, err := ReadCDR("application/json", "", v.raw)
	if err != nil {
		return HistoryRecord{}, false
	}
	return HistoryRecord{CDR: cdr, ID: v.field("id"), Raw: v.raw}, true
}

// HistoryCall is one record by Ziwo's number of it; NotFound when there is none.
func (c *Client) HistoryCall(ctx context.Context, id string) (HistoryRecord, error) {
	const op = "load call of the history"
	a, err := c.do(ctx, request{op: op, method: http.MethodGet, path: "/callHistory/" + url.PathEscape(id)})
	if err != nil {
		return HistoryRecord{}, err
	}
	for _, item := range a.items("callID", "id") {
		if record, ok := historyRecordOf(item); ok {
			return record, nil
		}
	}
	return HistoryRecord{}, &APIError{Op: op, Kind: NotFound}
}

// FindCall is the record with a callID; NotFound when there is none.
func (c *Client) FindCall(ctx context.Context, callID string) (HistoryRecord, error) {
	page, err := c.CallHistory(ctx, HistoryQuery{CallID: callID, Limit: 10})
	if err != nil {
		return HistoryRecord{}, err
	}
	for _, record := range page.Records {
		if record.CDR.CallID == callID {
			return record, nil
		}
	}
	return HistoryRecord{}, &APIError{Op: "find call in the history", Kind: NotFound}
}

// Walk tells how a part of the history was read.
type Walk struct {
	Requests   int
	Unreadable int // records that are none
}

// at is the instant by which the history is ordered.
func (r HistoryRecord) at() time.Time { return r.CDR.StartedAt }

// WalkHistory gives use the calls that started from an instant up to, but not
// at, another, a page at a time and newest first, and stops at its first error,
// which it returns as it is. A record without a start is given as well. A call
// may come twice when new ones arrive meanwhile; none is left out.
//
// Ziwo narrows by calendar days of a zone that it does not publish, so a day
// more is asked for on each side, and the pages on which the span begins and
// ends are found by their order: a span costs one request for each 1000 of its
// calls and a few more.
func (c *Client) WalkHistory(ctx context.Context, from, to time.Time, use func([]HistoryRecord) error) (Walk, error) {
	w := walker{
		client: c, from: from, to: to, ordered: true, use: use,
		query: HistoryQuery{FromDate: from.AddDate(0, 0, -1), ToDate: to.AddDate(0, 0, 1), Limit: maxHistoryPage},
	}
	err := w.walk(ctx)
	return w.done, err
}

type walker struct {
	client   *Client
	query    HistoryQuery
	from, to time.Time
	ordered  bool // the pages so far are newest first
	last     time.Time
	use      func([]HistoryRecord) error
	done     Walk
}

func (w *walker) walk(ctx context.Context) error {
	page, err := w.page(ctx, 0, maxHistoryPage)
	if err != nil {
		return err
	}
	w.inOrder(page)
	if oldest := lastTime(page); w.ordered && !oldest.Before(w.to) && page.Total > page.Items {
		first, err := w.find(ctx, page.Items, page.Total)
		if err != nil {
			return err
		}
		if !w.ordered { // nothing that was skipped can be trusted
			first = page.Items
			if err := w.give(page); err != nil {
				return err
			}
		}
		return w.rest(ctx, first, "")
	}
	if err := w.give(page); err != nil {
		return err
	}
	if w.finished(page, page.Items) {
		return nil
	}
	return w.rest(ctx, page.Items, page.first)
}

// rest reads pages from an offset on.
func (w *walker) rest(ctx context.Context, skip int, before string) error {
	for range maxPages {
		page, err := w.page(ctx, skip, maxHistoryPage)
		if err != nil {
			return err
		}
		if page.Items == 0 {
			return nil
		}
		if page.first == before {
			return nil // it gives the same page whatever is asked
		}
		before = page.first
		w.inOrder(page)
		if err := w.give(page); err != nil {
			return err
		}
		skip += page.Items
		if w.finished(page, skip) {
			return nil
		}
	}
	return &APIError{Op: "read call history", Kind: Unreadable, Message: "the list has no end"}
}

func (w *walker) page(ctx context.Context, skip, limit int) (HistoryPage, error) {
	q := w.query
	q.Skip, q.Limit = skip, limit
	w.done.Requests++
	return w.client.CallHistory(ctx, q)
}

// find is an offset at or shortly before the first call of the span: low is
// known to be newer, high is the end. What arrives meanwhile only moves calls to
// higher offsets, so that the answer stays on the safe side.
func (w *walker) find(ctx context.Context, low, high int) (int, error) {
	for high-low > maxHistoryPage/4 {
		middle := low + (high-low)/2
		page, err := w.page(ctx, middle, 1)
		if err != nil {
			return 0, err
		}
		at := lastTime(page)
		switch {
		case page.Items != 1 || at.IsZero() || at.After(w.last): // it does not keep to the order, or not to the offsets
			w.ordered = false
			return 0, nil
		case at.Before(w.to):
			high = middle
		default:
			low = middle
		}
	}
	return low, nil
}

// inOrder notes whether a page keeps the order.
func (w *walker) inOrder(page HistoryPage) {
	for _, r := range page.Records {
		at := r.at()
		if at.IsZero() {
			continue
		}
		// Newer than the one before: calls that arrive push old ones onto the next
		// page, so at the seam that is no disorder if it was seen already.
		if !w.last.IsZero() && at.After(w.last.Add(seam)) {
			w.ordered = false
		}
		w.last = at
	}
}

// seam is how far back in time the calls may reach that arrive between two
// pages.
const seam = 2 * time.Minute

// finished tells whether nothing of the span can follow.
func (w *walker) finished(page HistoryPage, read int) bool {
	if page.Total >= 0 && read >= page.Total {
		return true
	}
	oldest := lastTime(page)
	return w.ordered && !oldest.IsZero() && oldest.Before(w.from.Add(-seam))
}

func (w *walker) give(page HistoryPage) error {
	w.done.Unreadable += page.Unreadable
	records := page.Records[:0:0]
	for _, r := range page.Records {
		if at := r.at(); at.IsZero() || !at.Before(w.from) && at.Before(w.to) {
			records = append(records, r)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return w.use(records)
}

func lastTime(page HistoryPage) time.Time {
	for _, r := range slices.Backward(page.Records) {
		if at := r.at(); !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}
