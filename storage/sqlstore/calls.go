package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"gorm.io/gorm"

	"calltracker/storage"
)

// callColumns are the columns that hold a storage.Call, in the order of
// callValues and scanCall.
const callColumns = `id, contact_center, call_key, tracker, call_id, direction, did, raw_did, caller, raw_caller,
	caller_name, started_us, answered_us, ended_us, duration, ring_time, talk_time, hold_time, result, hangup_cause,
	hangup_by, agent, position, recording_file, campaign, route, decision_id, flags, revised_us, received_us`

// callValues are the values of callColumns. The call is tidy.
func callValues(c storage.Call) ([]any, error) {
	flags, err := list(c.Flags)
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

// scanCall reads callColumns and whatever columns follow them.
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
	c.Flags, err = unlist[string](flags)
	return c, err
}

// tidy makes a call what the database will give back.
func tidy(c storage.Call) storage.Call {
	c.Key = key(c.Key)
	for _, field := range []*string{&c.ContactCenter, &c.Tracker, &c.CallID, &c.DID, &c.Caller, &c.Campaign} {
		*field = indexed(*field)
	}
	for _, field := range []*string{
		&c.Direction, &c.RawDID, &c.RawCaller, &c.CallerName, &c.HangupCause,
		&c.HangupBy, &c.Agent, &c.Position, &c.RecordingFile,
	} {
		*field = text(*field)
	}
	c.StartedAt, c.AnsweredAt, c.EndedAt = instant(micros(c.StartedAt)), instant(micros(c.AnsweredAt)), instant(micros(c.EndedAt))
	c.RevisedAt, c.ReceivedAt = instant(micros(c.RevisedAt)), instant(micros(c.ReceivedAt))
	return c
}

// Calls lists calls, newest first, and the cursor of the next page, empty on
// the last. It returns storage.ErrBadCursor for a cursor that is not its own.
// A call that is listed once stays where it was while others are saved.
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
		calls, next = cut(callList, rows, size, placeOfCall)
		return db.addCustomers(ctx, calls)
	})
	return calls, next, err
}

// streamPage is how many calls EachCall holds at a time.
const streamPage = 200

// EachCall gives every call that the filter leaves to use, newest first, and
// stops at its first error, which it returns as it is. Calls are read a page at
// a time: no long transaction is held, memory is bounded, and calls that are
// saved meanwhile may or may not come.
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
		place := placeOfCall(calls[len(calls)-1])
		after = &place
	}
}

// Call is one call and every body that reported it, in the order in which they
// came. It returns storage.ErrNotFound.
func (s *Store) Call(ctx context.Context, id string) (call storage.Call, revisions []storage.Revision, err error) {
	err = s.do("load call "+id, func(db *database) (err error) {
		id := text(id)
		row := db.statements.call.rowOn(ctx, db.read, id)
		if call, err = scanCall(row.Scan); err != nil {
			return err
		}
		rows, err := db.statements.revisions.rowsOn(ctx, db.read, id)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var (
				r        storage.Revision
				received int64
			)
			if err := rows.Scan(&r.Number, &received, &r.Source, &r.Raw); err != nil {
				return err
			}
			r.ReceivedAt = instant(received)
			revisions = append(revisions, r)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		one := []storage.Call{call}
		err = db.addCustomers(ctx, one)
		call = one[0]
		return err
	})
	return call, revisions, err
}

func placeOfCall(c storage.Call) cursor { return cursor{at: micros(c.At()), id: c.ID} }

// calls reads calls after a cursor, newest first.
//
// A filter by several numbers is read one number at a time and merged: each
// number stands in an index in the order of the list, several do not.
func (db *database) calls(ctx context.Context, f storage.CallFilter, after *cursor, limit int) ([]storage.Call, error) {
	var calls []storage.Call
	parts := split(f)
	for _, part := range parts {
		q := newestFirst(db.narrowCalls(db.readGorm.WithContext(ctx).Table("calls").Select(callColumns), part), after, limit)
		rows, err := q.Rows()
		if err != nil {
			return nil, err
		}
		if calls, err = appendCalls(calls, rows); err != nil {
			return nil, err
		}
	}
	if len(parts) > 1 {
		slices.SortFunc(calls, newerFirst)
		calls = calls[:min(len(calls), limit)]
	}
	return calls, nil
}

func appendCalls(calls []storage.Call, rows *sql.Rows) ([]storage.Call, error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		c, err := scanCall(rows.Scan)
		if err != nil {
			return nil, err
		}
		calls = append(calls, c)
	}
	return calls, rows.Err()
}

func newerFirst(a, b storage.Call) int {
	if c := b.At().Compare(a.At()); c != 0 {
		return c
	}
	return strings.Compare(b.ID, a.ID)
}

// maxParts bounds the statements of one page; longer lists of numbers are left
// to the database.
const maxParts = 8

// split makes of a filter whose leading column has several numbers filters by
// one each. No call passes two of them.
func split(f storage.CallFilter) []storage.CallFilter {
	parts := []storage.CallFilter{f}
	switch leading(f) {
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

// leading is the column whose index serves a filter: that of the condition that
// the fewest calls pass.
func leading(f storage.CallFilter) string {
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

// distinct are the numbers as they are stored, each once.
func distinct(numbers []string) []string {
	tidied := make([]string, len(numbers))
	for i, n := range numbers {
		tidied[i] = indexed(n)
	}
	slices.Sort(tidied)
	return slices.Compact(tidied)
}

func (db *database) narrowCalls(q *gorm.DB, f storage.CallFilter) *gorm.DB {
	leads := leading(f)
	column := func(name string) string {
		if name == leads {
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
		q = q.Where("id IN (SELECT of_call FROM call_customers WHERE customer_id = ?)", indexed(f.Customer))
	}
	if f.Tracker != "" {
		q = q.Where(column("tracker")+" = ?", indexed(f.Tracker))
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
		// The second condition is what lets the partial index serve.
		q = q.Where(column("campaign")+" = ? AND campaign <> ''", indexed(f.Campaign))
	}
	return q
}
