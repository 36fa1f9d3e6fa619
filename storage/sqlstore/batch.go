package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"calltracker/storage"
)

// saving is one call of a batch: what the database had of it and what it will
// have. Reports of one call are merged here, in the order in which they came,
// and its row is written once.
type saving struct {
	reports []*pending
	call    storage.Call
	fresh   bool // the batch makes the call

	placed int64           // calls.at_us as it is in the database
	bodies map[digest]bool // that the call has
	number int             // of its last revision
	added  []revision

	source      storage.Source // of the last report
	told, heard time.Time      // began, of the last report that changed the call
	dirty       bool           // the row has to be written

	// A decision that was looked for ahead, and is told when the call turns out
	// to be new; "" when there is none.
	ahead    bool
	decision decisionFound
}

type decisionFound struct{ id, route string }

type digest = [sha256.Size]byte

// batcher is what the databases do differently with a batch, because of what a
// statement costs: with SQLite it is a call, with PostgreSQL a journey.
type batcher interface {
	// within has work done in a transaction, and commits it.
	within(ctx context.Context, on *sql.Conn, work func(*transaction) error) error
	// reserve finds which calls are there, with those of their bodies that the
	// batch brings again, and keeps other writers from all of them until the
	// transaction ends.
	reserve(ctx context.Context, tx *transaction, calls []*saving) error
	// link links calls to the decisions that they followed, where there are some.
	link(ctx context.Context, tx *transaction, calls []*saving) error
	// insert writes the rows of the calls that are fresh, the bodies of all, and
	// jobs. It is the last that a transaction does.
	insert(ctx context.Context, tx *transaction, fresh, calls []*saving, jobs []jobInsert) error
}

// transaction is that of a batch.
type transaction struct {
	runner

	// PostgreSQL: the session, and whether it has begun and not committed.
	on   *sql.Conn
	open bool
}

// revision is a body that has to be written.
type revision struct {
	number int
	report *pending
	bare   bool // only its digest is kept: the call is too old for bodies
}

// commitBatch saves reports in one transaction and leaves in each what became of
// it. If one of them is what fails, it fails alone: the batch is split until the
// others are through.
func (db *database) commitBatch(ctx context.Context, reports []*pending) {
	err := db.saveTogether(ctx, reports)
	if err != nil && len(reports) > 1 && ctx.Err() == nil && !errors.Is(translate(err), storage.ErrUnavailable) {
		half := len(reports) / 2
		db.commitBatch(ctx, reports[:half])
		db.commitBatch(ctx, reports[half:])
		return
	}
	for _, p := range reports {
		if p.err = err; err != nil {
			p.saved = storage.SaveResult{}
		}
	}
}

// tries is how often a batch is begun that another transaction got in the way of.
const tries = 4

func (db *database) saveTogether(ctx context.Context, reports []*pending) (err error) {
	for range tries {
		if err = db.saveOnce(ctx, reports); !passing(err) {
			return err
		}
	}
	return err
}

func (db *database) saveOnce(ctx context.Context, reports []*pending) error {
	on, err := db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = on.Close() }() // gives it back
	return db.batch.within(ctx, on, func(tx *transaction) error { return db.saveAll(ctx, tx, reports) })
}

// saveAll saves reports within a transaction.
func (db *database) saveAll(ctx context.Context, tx *transaction, reports []*pending) error {
	calls, err := gather(reports)
	if err != nil {
		return err
	}
	if err := db.batch.reserve(ctx, tx, calls); err != nil {
		return fmt.Errorf("find calls: %w", err)
	}
	// Of every call its first report, then the second of those that have one.
	for round := 0; ; round++ {
		var unlinked []*saving
		last := true
		for _, s := range calls {
			if round < len(s.reports) {
				last = false
				if err := s.merge(s.reports[round]); err != nil {
					return err
				}
				if s.call.Decision == "" {
					unlinked = append(unlinked, s)
				}
			}
		}
		if last {
			break
		}
		if err := db.batch.link(ctx, tx, unlinked); err != nil {
			return err
		}
	}
	return db.writeAll(ctx, tx, calls)
}

// gather sorts reports by their call, in the order of arrival, and gives each
// call the id that it will have if it is new.
func gather(reports []*pending) ([]*saving, error) {
	type identity struct{ key, contactCenter string }
	calls := make([]*saving, 0, len(reports))
	known := make(map[identity]*saving, len(reports))
	for _, p := range reports {
		c := &p.report.Call
		s := known[identity{c.Key, c.ContactCenter}]
		if s == nil {
			id, err := uuid.NewV7()
			if err != nil {
				return nil, fmt.Errorf("make id: %w", err)
			}
			s = &saving{call: *c, fresh: true, bodies: map[digest]bool{}, placed: micros(c.At())}
			s.call.ID, s.call.Decision, s.call.Route = id.String(), "", ""
			known[identity{c.Key, c.ContactCenter}] = s
			calls = append(calls, s)
		}
		p.digest = sha256.Sum256(p.report.Raw)
		s.reports = append(s.reports, p)
	}
	return calls, nil
}

// found makes a saving that of a call which is there.
func (s *saving) found(known storage.Call, revisions int) {
	s.fresh, s.call, s.number, s.placed = false, known, revisions, micros(known.At())
}

// merge adds a report to what is known of its call. What may still be missing is
// the decision that it followed.
func (s *saving) merge(p *pending) error {
	p.saved = storage.SaveResult{ID: s.call.ID}
	s.source = p.report.Source
	if !s.bodies[p.digest] {
		s.bodies[p.digest] = true
		s.number++
		s.added = append(s.added, revision{s.number, p, slices.Contains(s.call.Flags, storage.BodiesRemoved)})
		if s.fresh && s.number == 1 {
			p.saved.Created = true
		} else {
			p.saved.Revised = true
			s.call = storage.Merge(s.call, p.report.Call)
		}
		s.changed()
		return nil
	}
	before, err := callValues(s.call)
	if err != nil {
		return err
	}
	s.call = storage.FillBlanks(s.call, p.report.Call)
	after, err := callValues(s.call)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		s.changed()
	}
	return nil
}

func (s *saving) linked(decision, route string) {
	s.call.Decision, s.call.Route = decision, route
	s.changed()
}

func (s *saving) changed() {
	s.told, s.heard = began(s.call, s.source)
	s.dirty = true
}

// rowValues are the values of a whole row of calls.
func (s *saving) rowValues() ([]any, error) {
	values, err := callValues(s.call)
	return append(values, micros(s.call.At()), micros(s.told), micros(s.heard), int64(s.number)), err
}

// writeAll writes what a batch has come to.
func (db *database) writeAll(ctx context.Context, tx *transaction, calls []*saving) error {
	var fresh []*saving
	for _, s := range calls {
		switch {
		case s.fresh:
			fresh = append(fresh, s)
		case s.dirty:
			values, err := s.rowValues()
			if err != nil {
				return err
			}
			if _, err := db.statements.updateCall.exec(ctx, tx, append(values[identityColumns:], s.call.ID, s.placed)...); err != nil {
				return fmt.Errorf("update call: %w", err)
			}
		}
		if at := micros(s.call.At()); db.dialect.keyed && at != s.placed {
			if _, err := db.statements.moveKey.exec(ctx, tx, at, s.call.Key, s.call.ContactCenter); err != nil {
				return fmt.Errorf("move key: %w", err)
			}
		}
	}
	var jobs []jobInsert
	for _, s := range calls {
		for _, p := range s.reports {
			caused, err := causedJobs(p.saved, p.report)
			if err != nil {
				return err
			}
			jobs = append(jobs, caused...)
		}
	}
	return db.batch.insert(ctx, tx, fresh, calls, jobs)
}

// values are those of a row of call_revisions.
func (r revision) values(call string) []any {
	c := &r.report.report
	return []any{call, int64(r.number), micros(c.Call.ReceivedAt), text(string(c.Source)), r.report.digest[:], r.body()}
}

// body is what is kept of it; never nil.
func (r revision) body() []byte {
	if r.bare || r.report.report.Raw == nil {
		return []byte{}
	}
	return r.report.report.Raw
}

// known reads a call with the number of its revisions, for query.each.
func known(use func(call storage.Call, revisions int)) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var revisions int
		call, err := scanCall(scan, &revisions)
		if err == nil {
			use(call, revisions)
		}
		return err
	}
}

// single reads the only column of a row, for query.each.
func single(use func(string)) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var value string
		err := scan(&value)
		if err == nil {
			use(value)
		}
		return err
	}
}
