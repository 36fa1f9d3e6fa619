package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"calltracker/storage"
)

// batchCall is one call of a batch, with its stored and its new state. CDRs of the
// same call are merged here in the order in which they arrived, and the row of the
// call is written once.
type batchCall struct {
	requests []*saveRequest
	call     storage.Call
	isNew    bool // the call is not stored yet

	storedAt     int64           // calls.at_us as stored
	digests      map[digest]bool // digests of the call's CDR bodies
	revisions    int             // number of the last revision
	newRevisions []revision

	source                        storage.Source // of the last CDR that was merged
	startReported, startEstimated time.Time      // startTimes after the last CDR that changed the call
	modified                      bool           // the row must be written

	// Result of the decision search that PostgreSQL runs before it is known
	// whether the call is new; used only if it is.
	prefetched         bool
	prefetchedDecision decisionRef
}

// decisionRef identifies a decision; the zero value means none.
type decisionRef struct{ id, route string }

type digest = [sha256.Size]byte

// callIdentity is the unique key of a call.
type callIdentity struct{ key, contactCenter string }

func (c *batchCall) identity() callIdentity { return callIdentity{c.call.Key, c.call.ContactCenter} }

// batchWriter contains the steps of a batch that differ between the databases. A
// statement is a function call in SQLite but a network round trip in PostgreSQL.
type batchWriter interface {
	// inTransaction runs work in a transaction and commits it.
	inTransaction(ctx context.Context, conn *sql.Conn, work func(*transaction) error) error
	// load finds out which calls are stored and which of their CDR bodies the batch
	// repeats. Until the transaction ends, other writers cannot change any of the
	// calls.
	load(ctx context.Context, tx *transaction, calls []*batchCall) error
	// link links calls to their decisions, if those are recorded.
	link(ctx context.Context, tx *transaction, calls []*batchCall) error
	// insert writes the rows of the new calls, the CDR bodies of all calls, and the
	// jobs. It must be the last step of a transaction.
	insert(ctx context.Context, tx *transaction, newCalls, calls []*batchCall, jobs []jobInsert) error
}

// transaction is the transaction of a batch.
type transaction struct {
	runner

	// PostgreSQL only.
	conn *sql.Conn
	open bool // begun and not yet committed
}

// revision is a CDR body to write.
type revision struct {
	number     int
	request    *saveRequest
	digestOnly bool // retention has removed the call's bodies, so store only the digest
}

// commitBatch saves the CDRs of the requests in one transaction and sets the
// result of each request. If a CDR makes the transaction fail, only that CDR
// fails: commitBatch splits the batch until the others are saved.
func (db *database) commitBatch(ctx context.Context, requests []*saveRequest) {
	err := db.saveWithRetries(ctx, requests)
	if err != nil && len(requests) > 1 && ctx.Err() == nil && !errors.Is(translate(err), storage.ErrUnavailable) {
		half := len(requests) / 2
		db.commitBatch(ctx, requests[:half])
		db.commitBatch(ctx, requests[half:])
		return
	}
	for _, r := range requests {
		if r.err = err; err != nil {
			r.result = storage.SaveResult{}
		}
	}
}

// batchAttempts is how often a batch is tried if it conflicts with other
// transactions.
const batchAttempts = 4

func (db *database) saveWithRetries(ctx context.Context, requests []*saveRequest) (err error) {
	for range batchAttempts {
		if err = db.saveOnce(ctx, requests); !isRetryable(err) {
			return err
		}
	}
	return err
}

func (db *database) saveOnce(ctx context.Context, requests []*saveRequest) error {
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	return db.batchWriter.inTransaction(ctx, conn, func(tx *transaction) error { return db.saveAll(ctx, tx, requests) })
}

// saveAll saves the CDRs of the requests within a transaction.
func (db *database) saveAll(ctx context.Context, tx *transaction, requests []*saveRequest) error {
	calls := groupByCall(requests)
	if err := db.batchWriter.load(ctx, tx, calls); err != nil {
		return fmt.Errorf("find calls: %w", err)
	}
	// Round 0 merges the first CDR of every call, round 1 the second, and so on.
	for round := 0; ; round++ {
		var unlinked []*batchCall
		last := true
		for _, c := range calls {
			if round < len(c.requests) {
				last = false
				if err := c.merge(c.requests[round]); err != nil {
					return err
				}
				if c.call.Decision == "" {
					unlinked = append(unlinked, c)
				}
			}
		}
		if last {
			break
		}
		if err := db.batchWriter.link(ctx, tx, unlinked); err != nil {
			return err
		}
	}
	return db.writeAll(ctx, tx, calls)
}

// groupByCall groups requests by call, in the order of arrival. It gives each call
// an ID in case the call is new.
func groupByCall(requests []*saveRequest) []*batchCall {
	calls := make([]*batchCall, 0, len(requests))
	byIdentity := make(map[callIdentity]*batchCall, len(requests))
	for _, r := range requests {
		call := &r.cdr.Call
		c := byIdentity[callIdentity{call.Key, call.ContactCenter}]
		if c == nil {
			c = &batchCall{call: *call, isNew: true, digests: map[digest]bool{}, storedAt: micros(call.At())}
			c.call.ID, c.call.Decision, c.call.Route = storage.NewID(), "", ""
			byIdentity[c.identity()] = c
			calls = append(calls, c)
		}
		r.digest = sha256.Sum256(r.cdr.Raw)
		c.requests = append(c.requests, r)
	}
	return calls
}

// setStored replaces the state of a call with its stored state.
func (c *batchCall) setStored(call storage.Call, revisions int) {
	c.isNew, c.call, c.revisions, c.storedAt = false, call, revisions, micros(call.At())
}

// merge merges the CDR of a request into the call. It does not search for the
// decision.
func (c *batchCall) merge(r *saveRequest) error {
	r.result = storage.SaveResult{ID: c.call.ID}
	c.source = r.cdr.Source
	if !c.digests[r.digest] {
		c.digests[r.digest] = true
		c.revisions++
		c.newRevisions = append(c.newRevisions, revision{c.revisions, r, slices.Contains(c.call.Flags, storage.BodiesRemoved)})
		if c.isNew && c.revisions == 1 {
			r.result.Created = true
		} else {
			r.result.Revised = true
			c.call = storage.Merge(c.call, r.cdr.Call)
		}
		c.setModified()
		return nil
	}
	before, err := callValues(c.call)
	if err != nil {
		return err
	}
	c.call = storage.FillBlanks(c.call, r.cdr.Call)
	after, err := callValues(c.call)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		c.setModified()
	}
	return nil
}

func (c *batchCall) setDecision(d decisionRef) {
	c.call.Decision, c.call.Route = d.id, d.route
	c.setModified()
}

func (c *batchCall) setModified() {
	c.startReported, c.startEstimated = startTimes(c.call, c.source)
	c.modified = true
}

// rowValues returns the values of a complete row of calls.
func (c *batchCall) rowValues() ([]any, error) {
	values, err := callValues(c.call)
	return append(values, micros(c.call.At()), micros(c.startReported), micros(c.startEstimated), int64(c.revisions)), err
}

// writeAll writes the merged calls of a batch.
func (db *database) writeAll(ctx context.Context, tx *transaction, calls []*batchCall) error {
	var newCalls []*batchCall
	for _, c := range calls {
		switch {
		case c.isNew:
			newCalls = append(newCalls, c)
		case c.modified:
			values, err := c.rowValues()
			if err != nil {
				return err
			}
			if _, err := db.statements.updateCall.exec(ctx, tx, append(values[identityColumns:], c.call.ID, c.storedAt)...); err != nil {
				return fmt.Errorf("update call: %w", err)
			}
		}
		if at := micros(c.call.At()); db.dialect.hasKeyTable && at != c.storedAt {
			if _, err := db.statements.moveKey.exec(ctx, tx, at, c.call.Key, c.call.ContactCenter); err != nil {
				return fmt.Errorf("move key: %w", err)
			}
		}
	}
	var jobs []jobInsert
	for _, c := range calls {
		for _, r := range c.requests {
			inserts, err := cdrJobs(r.result, r.cdr)
			if err != nil {
				return err
			}
			jobs = append(jobs, inserts...)
		}
	}
	return db.batchWriter.insert(ctx, tx, newCalls, calls, jobs)
}

// values returns the values of a row of call_revisions.
func (r revision) values(callID string) []any {
	cdr := &r.request.cdr
	return []any{callID, int64(r.number), micros(cdr.Call.ReceivedAt), cleanText(string(cdr.Source)), r.request.digest[:], r.body()}
}

// body returns the body to store. It is never nil.
func (r revision) body() []byte {
	if r.digestOnly {
		return []byte{}
	}
	return notNil(r.request.cdr.Raw)
}

// eachCall adapts use for query.each. Each row is a call and the number of its
// revisions.
func eachCall(use func(call storage.Call, revisions int)) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var revisions int
		call, err := scanCall(scan, &revisions)
		if err == nil {
			use(call, revisions)
		}
		return err
	}
}
