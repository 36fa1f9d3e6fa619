package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"gorm.io/gorm"

	"calltracker/storage"
)

// callColumns are the columns of a storage.Call, in the order of callValues and
// scanCall.
const callColumns = `id, contact_center, call_key, tracker, call_id, direction, did, raw_did, caller, raw_caller,
	caller_name, started_us, answered_us, ended_us, duration, ring_time, talk_time, hold_time, result, hangup_cause,
	hangup_by, agent, position, recording_file, campaign, route, decision_id, flags, revised_us, received_us`

// callValues returns the values of callColumns. The call must be normalized.
func callValues(c storage.Call) ([]any, error) {
	flags, err := encodeList(c.Flags)
	if err != nil {
		return nil, err
	}
	return []any{
		c.ID, c.ContactCenter, c.Key, c.Tracker, c.CallID, c.Direction, c.DID, c.RawDID, c.Caller, c.RawCaller,
		c.CallerName, micros(c.StartedAt), micros(c.AnsweredAt), micros(c.EndedAt), int64(c.Duration), int64(c.RingTime),
		int64(c.TalkTime), int64(c.HoldTime), string(c.Result), c.HangupCause,
		c.HangupBy, c.Agent, c.Position, c.RecordingFile, c.Campaign, c.Route, c.Decision, flags,
		micros(c.RevisedAt), micros(c.ReceivedAt),
	}, nil
}

// scanCall reads callColumns and the columns that follow them.
func scanCall(scan func(...any) error, rest ...any) (storage.Call, error) {
	var (
		c                                           storage.Call
		started, answered, ended, revised, received int64
		flags                                       string
	)
	err := scan(append([]any{
		&c.ID, &c.ContactCenter, &c.Key, &c.Tracker, &c.CallID, &c.Direction, &c.DID, &c.RawDID, &c.Caller, &c.RawCaller,
		&c.CallerName, &started, &answered, &ended, &c.Duration, &c.RingTime,
		&c.TalkTime, &c.HoldTime, &c.Result, &c.HangupCause,
		&c.HangupBy, &c.Agent, &c.Position, &c.RecordingFile, &c.Campaign, &c.Route, &c.Decision, &flags,
		&revised, &received,
	}, rest...)...)
	if err != nil {
		return storage.Call{}, err
	}
	c.StartedAt, c.AnsweredAt, c.EndedAt = instant(started), instant(answered), instant(ended)
	c.RevisedAt, c.ReceivedAt = instant(revised), instant(received)
	c.Flags, err = decodeList[string](flags)
	return c, err
}

// scanPlainCall is scanCall without further columns, for appendRows.
func scanPlainCall(scan func(...any) error) (storage.Call, error) { return scanCall(scan) }

// normalizeCall returns a call as the database will return it.
func normalizeCall(c storage.Call) storage.Call {
	c.Key = callKey(c.Key)
	for _, field := range []*string{&c.ContactCenter, &c.Tracker, &c.CallID, &c.DID, &c.Caller, &c.Campaign} {
		*field = indexText(*field)
	}
	for _, field := range []*string{
		&c.Direction, &c.RawDID, &c.RawCaller, &c.CallerName, &c.HangupCause,
		&c.HangupBy, &c.Agent, &c.Position, &c.RecordingFile,
	} {
		*field = cleanText(*field)
	}
	c.StartedAt, c.AnsweredAt, c.EndedAt = instant(micros(c.StartedAt)), instant(micros(c.AnsweredAt)), instant(micros(c.EndedAt))
	c.RevisedAt, c.ReceivedAt = instant(micros(c.RevisedAt)), instant(micros(c.ReceivedAt))
	return c
}

// Calls returns a page of calls, newest first, and the cursor of the next page,
// which is empty on the last page. It returns storage.ErrBadCursor for an invalid
// cursor. Calls that are saved while a client reads pages do not shift the others.
func (s *Store) Calls(ctx context.Context, f storage.CallFilter, p storage.Page) (calls []storage.Call, next string, err error) {
	err = s.do("list calls", func(db *database) error {
		after, err := decodeCursor(callList, p.Cursor)
		if err != nil {
			return err
		}
		size := pageSize(p.Limit)
		rows, err := db.calls(ctx, f, after, size+1)
		if err != nil {
			return err
		}
		calls, next = trimPage(callList, rows, size, callCursor)
		return db.addCustomers(ctx, calls)
	})
	return calls, next, err
}

// streamPage is how many calls EachCall reads at a time.
const streamPage = 200

// EachCall calls use for every call that matches the filter, newest first. It stops
// at the first error of use and returns that error unchanged. It reads one page at a
// time, so it needs little memory and holds no long transaction. Calls that are saved
// in the meantime may or may not be included.
func (s *Store) EachCall(ctx context.Context, f storage.CallFilter, use func(storage.Call) error) error {
	var after *cursor
	for {
		var calls []storage.Call
		err := s.do("stream calls", func(db *database) (err error) {
			if calls, err = db.calls(ctx, f, after, streamPage); err != nil {
				return err
			}
			return db.addCustomers(ctx, calls)
		})
		if err != nil {
			return err
		}
		for _, c := range calls {
			if err := use(c); err != nil {
				return err
			}
		}
		if len(calls) < streamPage {
			return nil
		}
		last := callCursor(calls[len(calls)-1])
		after = &last
	}
}

// Call returns a call and its revisions in the order of arrival. It returns
// storage.ErrNotFound if the call does not exist.
func (s *Store) Call(ctx context.Context, id string) (call storage.Call, revisions []storage.Revision, err error) {
	err = s.do("load call "+id, func(db *database) (err error) {
		id := cleanText(id)
		row := db.statements.call.rowOn(ctx, db.read, id)
		if call, err = scanCall(row.Scan); err != nil {
			return err
		}
		rows, err := db.statements.revisions.rowsOn(ctx, db.read, id)
		if err != nil {
			return err
		}
		revisions, err = appendRows(nil, rows, func(scan func(...any) error) (storage.Revision, error) {
			var (
				r        storage.Revision
				received int64
			)
			err := scan(&r.Number, &received, &r.Source, &r.Raw)
			r.ReceivedAt = instant(received)
			return r, err
		})
		if err != nil {
			return err
		}
		one := []storage.Call{call}
		err = db.addCustomers(ctx, one)
		call = one[0]
		return err
	})
	return call, revisions, err
}

func callCursor(c storage.Call) cursor { return cursor{at: micros(c.At()), id: c.ID} }

// calls reads calls after a cursor, newest first.
//
// If the filter has several numbers, it reads the calls of each number separately
// and merges them: an index has the calls of one number in the order of the list,
// but not those of several numbers.
func (db *database) calls(ctx context.Context, f storage.CallFilter, after *cursor, limit int) ([]storage.Call, error) {
	var calls []storage.Call
	parts := splitByNumber(f)
	for _, part := range parts {
		q := newestFirst(db.narrowCalls(db.readGorm.WithContext(ctx).Table("calls").Select(callColumns), part), after, limit)
		rows, err := q.Rows()
		if err != nil {
			return nil, err
		}
		if calls, err = appendRows(calls, rows, scanPlainCall); err != nil {
			return nil, err
		}
	}
	if len(parts) > 1 {
		slices.SortFunc(calls, newerFirst)
		calls = calls[:min(len(calls), limit)]
	}
	return calls, nil
}

// appendRows appends one item for each row, and closes the rows.
func appendRows[T any](items []T, rows *sql.Rows, scanItem func(scan func(...any) error) (T, error)) ([]T, error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		item, err := scanItem(rows.Scan)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

func newerFirst(a, b storage.Call) int {
	if c := b.At().Compare(a.At()); c != 0 {
		return c
	}
	return strings.Compare(b.ID, a.ID)
}

// maxParts limits the statements of one page. Longer lists of numbers use a single
// statement.
const maxParts = 8

// splitByNumber splits a filter with several numbers in its leading column into one
// filter for each number. No call matches two of them.
func splitByNumber(f storage.CallFilter) []storage.CallFilter {
	parts := []storage.CallFilter{f}
	switch leadingColumn(f) {
	case "caller":
		if numbers := distinct(f.Callers); len(numbers) <= maxParts {
			parts = slices.Repeat(parts, len(numbers))
			for i := range parts {
				parts[i].Callers = numbers[i : i+1]
			}
		}
	case "did":
		if numbers := distinct(f.DIDs); len(numbers) <= maxParts {
			parts = slices.Repeat(parts, len(numbers))
			for i := range parts {
				parts[i].DIDs = numbers[i : i+1]
			}
		}
	}
	return parts
}

// leadingColumn returns the column whose index serves a filter: the column whose
// condition matches the fewest calls.
func leadingColumn(f storage.CallFilter) string {
	switch {
	case f.Customer != "":
		return "id"
	case len(f.Callers) > 0:
		return "caller"
	case len(f.DIDs) > 0:
		return "did"
	case f.Campaign != "":
		return "campaign"
	case f.Tracker != "":
		return "tracker"
	case f.Result != "":
		return "result"
	default:
		return "at_us"
	}
}

// distinct returns the stored form of the values, without duplicates.
func distinct(values []string) []string {
	stored := make([]string, len(values))
	for i, v := range values {
		stored[i] = indexText(v)
	}
	slices.Sort(stored)
	return slices.Compact(stored)
}

func (db *database) narrowCalls(q *gorm.DB, f storage.CallFilter) *gorm.DB {
	leading := leadingColumn(f)
	column := func(name string) string {
		if name == leading {
			return name
		}
		return db.dialect.unindexed(name)
	}
	if !f.From.IsZero() {
		q = q.Where("at_us >= ?", micros(f.From))
	}
	if !f.To.IsZero() {
		q = q.Where("at_us < ?", micros(f.To))
	}
	if f.Customer != "" {
		q = q.Where("id IN (SELECT of_call FROM call_customers WHERE customer_id = ?)", indexText(f.Customer))
	}
	if f.Tracker != "" {
		q = q.Where(column("tracker")+" = ?", indexText(f.Tracker))
	}
	if len(f.DIDs) > 0 {
		q = q.Where(column("did")+" IN ?", distinct(f.DIDs))
	}
	if len(f.Callers) > 0 {
		q = q.Where(column("caller")+" IN ?", distinct(f.Callers))
	}
	if f.Result != "" {
		q = q.Where(column("result")+" = ?", string(f.Result))
	}
	if f.Campaign != "" {
		// The second condition lets the database use the partial index.
		q = q.Where(column("campaign")+" = ? AND campaign <> ''", indexText(f.Campaign))
	}
	return q
}
