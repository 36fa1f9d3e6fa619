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
	ID  string // Ziwo's decimal number of the record
	Raw []byte // record as JSON
}

// HistoryQuery selects one page of the call history. Zero fields do not filter.
type HistoryQuery struct {
	FromDate, ToDate time.Time // first and last calendar day, in a time zone that Ziwo does not publish
	Contact          string    // phone number
	CallID           string
	Skip, Limit      int
}

// HistoryPage is one page of the call history.
type HistoryPage struct {
	Records    []HistoryRecord
	Items      int // number of items on the page, including unreadable ones
	Unreadable int // number of items that are not CDRs
	Total      int // number of records on all pages; -1 if Ziwo does not send it

	first string // first item as JSON, readable or not
}

// maxHistoryPage is the largest page size that integrators of Ziwo use.
const maxHistoryPage = 1000

// CallHistory returns one page of the call history. It requests the newest records
// first, but Ziwo may ignore the order.
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
	res, err := c.do(ctx, request{op: "read call history", method: http.MethodGet, path: "/callHistory/", query: query})
	if err != nil {
		return HistoryPage{}, err
	}
	return historyPageOf(res), nil
}

func historyPageOf(res response) HistoryPage {
	items := res.items("callID", "id")
	page := HistoryPage{Records: make([]HistoryRecord, 0, len(items)), Items: len(items), Total: res.total()}
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
	cdr, err := ParseCDR("application/json", "", v.raw)
	if err != nil {
		return HistoryRecord{}, false
	}
	return HistoryRecord{CDR: cdr, ID: v.lookup("id"), Raw: v.raw}, true
}

// HistoryCall returns the record with Ziwo's number id, or a NotFound error.
func (c *Client) HistoryCall(ctx context.Context, id string) (HistoryRecord, error) {
	const op = "load call from the history"
	res, err := c.do(ctx, request{op: op, method: http.MethodGet, path: "/callHistory/" + url.PathEscape(id)})
	if err != nil {
		return HistoryRecord{}, err
	}
	for _, item := range res.items("callID", "id") {
		if record, ok := historyRecordOf(item); ok {
			return record, nil
		}
	}
	return HistoryRecord{}, &APIError{Op: op, Kind: NotFound}
}

// FindCall returns the record of the call with a callID, or a NotFound error.
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

// WalkStats counts the work of WalkHistory.
type WalkStats struct {
	Requests   int
	Unreadable int // items that are not CDRs
}

// startedAt returns the time by which the history is ordered.
func (r HistoryRecord) startedAt() time.Time { return r.CDR.StartedAt }

// WalkHistory passes the calls that started at or after from and before to to
// handle, one page at a time, newest first. It also passes records without a start
// time. It stops at the first error of handle and returns that error unchanged. If
// new calls arrive during the walk, a call may be passed twice; none is skipped.
//
// Ziwo filters by calendar days in a time zone that it does not publish, so
// WalkHistory requests one more day on either side and uses the order of the
// records to find the pages where the period begins and ends. A walk takes one
// request for each 1000 calls and a few more.
func (c *Client) WalkHistory(ctx context.Context, from, to time.Time, handle func([]HistoryRecord) error) (WalkStats, error) {
	w := walker{
		client: c, from: from, to: to, ordered: true, handle: handle,
		query: HistoryQuery{FromDate: from.AddDate(0, 0, -1), ToDate: to.AddDate(0, 0, 1), Limit: maxHistoryPage},
	}
	err := w.walk(ctx)
	return w.stats, err
}

// walker is the state of one WalkHistory.
type walker struct {
	client   *Client
	query    HistoryQuery
	from, to time.Time
	ordered  bool      // whether all pages so far were newest first
	last     time.Time // start of the last record so far
	handle   func([]HistoryRecord) error
	stats    WalkStats
}

func (w *walker) walk(ctx context.Context) error {
	page, err := w.page(ctx, 0, maxHistoryPage)
	if err != nil {
		return err
	}
	w.checkOrder(page)
	if oldest := oldestStart(page); w.ordered && !oldest.Before(w.to) && page.Total > page.Items {
		first, err := w.seek(ctx, page.Items, page.Total)
		if err != nil {
			return err
		}
		if !w.ordered { // the skipped pages may hold calls of the period
			first = page.Items
			if err := w.deliver(page); err != nil {
				return err
			}
		}
		return w.readFrom(ctx, first, "")
	}
	if err := w.deliver(page); err != nil {
		return err
	}
	if w.finished(page, page.Items) {
		return nil
	}
	return w.readFrom(ctx, page.Items, page.first)
}

// readFrom delivers all pages from the offset skip on. previous is the first item
// of the page before, if any.
func (w *walker) readFrom(ctx context.Context, skip int, previous string) error {
	for range maxPages {
		page, err := w.page(ctx, skip, maxHistoryPage)
		if err != nil {
			return err
		}
		if page.Items == 0 {
			return nil
		}
		if page.first == previous {
			return nil // the endpoint ignores skip
		}
		previous = page.first
		w.checkOrder(page)
		if err := w.deliver(page); err != nil {
			return err
		}
		skip += page.Items
		if w.finished(page, skip) {
			return nil
		}
	}
	return &APIError{Op: "read call history", Kind: Unreadable, Message: "the list does not end"}
}

func (w *walker) page(ctx context.Context, skip, limit int) (HistoryPage, error) {
	q := w.query
	q.Skip, q.Limit = skip, limit
	w.stats.Requests++
	return w.client.CallHistory(ctx, q)
}

// seek returns an offset at or shortly before the newest call of the period, by
// binary search. The record at low is newer than the period; high is the end of the
// list. Calls that arrive meanwhile only move the others to higher offsets, so the
// result never skips a call.
func (w *walker) seek(ctx context.Context, low, high int) (int, error) {
	for high-low > maxHistoryPage/4 {
		middle := low + (high-low)/2
		page, err := w.page(ctx, middle, 1)
		if err != nil {
			return 0, err
		}
		at := oldestStart(page)
		switch {
		case page.Items != 1 || at.IsZero() || at.After(w.last): // the endpoint ignores order or skip
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

// checkOrder updates w.ordered with the records of a page.
func (w *walker) checkOrder(page HistoryPage) {
	for _, r := range page.Records {
		at := r.startedAt()
		if at.IsZero() {
			continue
		}
		// Calls that arrive between two pages push older ones onto the second page,
		// which may therefore begin with newer calls than the first one ended with.
		if !w.last.IsZero() && at.After(w.last.Add(overlap)) {
			w.ordered = false
		}
		w.last = at
	}
}

// overlap is the longest period of calls that two consecutive pages may share.
const overlap = 2 * time.Minute

// finished reports whether no call of the period can follow page. read is the
// number of items read so far.
func (w *walker) finished(page HistoryPage, read int) bool {
	if page.Total >= 0 && read >= page.Total {
		return true
	}
	oldest := oldestStart(page)
	return w.ordered && !oldest.IsZero() && oldest.Before(w.from.Add(-overlap))
}

// deliver passes the calls of the period on page to w.handle.
func (w *walker) deliver(page HistoryPage) error {
	w.stats.Unreadable += page.Unreadable
	records := page.Records[:0:0]
	for _, r := range page.Records {
		if at := r.startedAt(); at.IsZero() || !at.Before(w.from) && at.Before(w.to) {
			records = append(records, r)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return w.handle(records)
}

// oldestStart returns the start of the last record on page that has one.
func oldestStart(page HistoryPage) time.Time {
	for _, r := range slices.Backward(page.Records) {
		if at := r.startedAt(); !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}
