package reconcile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"calltracker/config"
	"calltracker/handlers/ziwoclients"
	"calltracker/storage"
	"calltracker/ziwo"
)

// comparison is a running reconciliation.
type comparison struct {
	*Reconciler
	snapshot      *config.Snapshot
	contactCenter string
	client        *ziwo.Client
	trackers      []*config.ActiveTracker // of the contact center
	from, to      time.Time
	result        storage.Reconciliation
	seen          map[string]bool // callIDs already compared
}

// compare compares the span slice by slice, oldest first, so that an error loses only
// the last slice.
func (c *comparison) compare(ctx context.Context) error {
	snapshot := c.config.Current()
	if snapshot == nil {
		return config.ErrNoConfig
	}
	c.snapshot = snapshot
	client, err := c.clients.Client(c.contactCenter)
	if err != nil {
		return err
	}
	c.client = client
	var trackers []string
	for _, id := range snapshot.Set.Trackers() {
		if tracker := snapshot.Trackers[id]; tracker.Router.ContactCenter() == c.contactCenter {
			c.trackers = append(c.trackers, tracker)
			trackers = append(trackers, id)
		}
	}
	counts := &c.result.Counts
	for at := c.from; at.Before(c.to); {
		next := at.Add(sliceLength)
		if next.After(c.to) || c.to.Sub(next) < time.Hour { // avoid a request for a short remainder
			next = c.to
		}
		walk, err := client.WalkHistory(ctx, at, next, func(page []ziwo.HistoryRecord) error { return c.comparePage(ctx, page) })
		counts.Requests += walk.Requests
		counts.Unreadable += walk.Unreadable
		if err != nil {
			return err
		}
		at, c.result.Reached = next, next
	}
	open := func() (err error) {
		counts.Unended, counts.Open, err = c.store.OpenDecisions(ctx, trackers, c.from, minTime(c.to, c.now().Add(-unendedAfter)), maxOpenShown)
		return err
	}
	if err := open(); err != nil {
		return err
	}
	if len(trackers) == 0 || counts.Unended == 0 && c.result.Trigger == storage.TriggerSchedule {
		return nil
	}
	// Calls that are missing in the history may be in the tracker log.
	if err := c.compareLogs(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, storage.ErrUnavailable) {
			return err
		}
		c.result.Notes = append(c.result.Notes, "the call tracker log was not read: "+ziwoclients.DelayReason(err))
	}
	return open()
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// compareLogs searches the call tracker log for records. It reads a limited number of
// pages, newest first as far as Ziwo sorts them.
func (c *comparison) compareLogs(ctx context.Context) error {
	for start, pages := 0, 0; pages < maxLogPages; pages++ {
		entries, total, err := c.client.TrackerLogs(ctx, ziwo.LogQuery{From: c.from, To: c.to.AddDate(0, 0, 1), Start: start, Size: logPageSize})
		c.result.Counts.Requests++
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		var records []ziwo.HistoryRecord
		for _, e := range entries {
			if e.CDR == nil || c.seen[e.CallID] || e.CDR.StartedAt.Before(c.from) || !e.CDR.StartedAt.Before(c.to) {
				continue
			}
			records = append(records, ziwo.HistoryRecord{CDR: *e.CDR, Raw: e.Raw})
		}
		if err := c.comparePage(ctx, records); err != nil {
			return err
		}
		start += len(entries)
		first, last := entries[0].At, entries[len(entries)-1].At
		if total >= 0 && start >= total || !last.IsZero() && !last.After(first) && last.Before(c.from) {
			return nil
		}
	}
	c.result.Notes = append(c.result.Notes, fmt.Sprintf("only the first %d entries of the call tracker log were read", maxLogPages*logPageSize))
	return nil
}

// ziwoCall is a call in Ziwo's history.
type ziwoCall struct {
	call   storage.Call
	from   config.Origin
	record ziwo.HistoryRecord
}

// comparePage compares a page of Ziwo's records with the stored calls.
func (c *comparison) comparePage(ctx context.Context, records []ziwo.HistoryRecord) error {
	var (
		calls []ziwoCall
		keys  []string
	)
	for _, record := range records {
		id := record.CDR.CallID
		if id == "" {
			c.result.Counts.Unreadable++
			continue
		}
		if c.seen[id] { // the record moved to the next page between requests
			continue
		}
		c.seen[id] = true
		from := c.origin(record.CDR)
		calls = append(calls, ziwoCall{c.recorder.Call(record.CDR, from), from, record})
		keys = append(keys, id)
	}
	if len(calls) == 0 {
		return nil
	}
	stored, err := c.store.CallsByKey(ctx, []string{c.contactCenter, ""}, keys)
	if err != nil {
		return err
	}
	storedByKey := make(map[string]storage.Call, len(stored))
	for _, call := range stored {
		if other, ok := storedByKey[call.Key]; !ok || other.ContactCenter != c.contactCenter {
			storedByKey[call.Key] = call
		}
	}
	c.result.Counts.Found += len(calls)
	var missing, improved []ziwoCall
	for _, reported := range calls {
		call, ok := storedByKey[reported.call.Key]
		if !ok {
			missing = append(missing, reported)
			continue
		}
		c.result.Counts.Present++
		enriches, differs, changes := compareCalls(call, reported.call)
		if differs {
			c.result.Counts.Differing++
		}
		if enriches {
			c.result.Counts.Enriched++
		}
		if enriches || changes {
			reported.from.ContactCenter = call.ContactCenter
			improved = append(improved, reported)
		}
	}
	created, err := c.save(ctx, missing)
	c.result.Counts.Backfilled += created
	if err != nil {
		return err
	}
	c.result.Counts.Present += len(missing) - created // stored by another request in the meantime
	_, err = c.save(ctx, improved)
	return err
}

// save stores calls concurrently and returns how many were new.
func (c *comparison) save(ctx context.Context, calls []ziwoCall) (created int, err error) {
	var (
		saves sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, maxSavers)
	)
	for _, reported := range calls {
		slots <- struct{}{}
		mu.Lock()
		failed := err != nil
		mu.Unlock()
		if failed || ctx.Err() != nil {
			<-slots
			break
		}
		saves.Go(func() {
			defer func() { <-slots }()
			saved, saveErr := c.recorder.Backfill(ctx, reported.from, reported.record.Raw)
			mu.Lock()
			defer mu.Unlock()
			if saveErr != nil && err == nil {
				err = saveErr
			}
			if saved.Created {
				created++
			}
		})
	}
	saves.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return created, err
}

// origin returns the tracker that handled a call, as endCall determines it, so that the
// call has the same identity from both sources.
func (c *comparison) origin(cdr ziwo.CDR) config.Origin {
	if tracker, ok := c.snapshot.Trackers[cdr.Tracker]; ok && (tracker.Router.ContactCenter() == c.contactCenter || tracker.Router.ContactCenter() == "") {
		return tracker.Origin()
	}
	if cdr.Direction == "inbound" || cdr.Direction == "" {
		for _, tracker := range c.trackers {
			if _, listed := tracker.Router.FindDID(cdr.DIDCalled); listed {
				return tracker.Origin()
			}
		}
	}
	return c.snapshot.Origin(c.contactCenter)
}

// compareCalls reports whether a record of Ziwo completes a stored call, whether the two
// differ, and whether saving the record would change the call. It ignores number formats
// and receive times.
func compareCalls(known, reported storage.Call) (enriches, differs, changes bool) {
	reported.ID, reported.Key, reported.ContactCenter = known.ID, known.Key, known.ContactCenter
	reported.Decision, reported.Route = known.Decision, known.Route
	before := comparableFields(known)
	preferStored, preferReported := comparableFields(storage.FillBlanks(known, reported)), comparableFields(storage.FillBlanks(reported, known))
	return !reflect.DeepEqual(before, preferStored), !reflect.DeepEqual(preferStored, preferReported),
		!reflect.DeepEqual(before, comparableFields(storage.Merge(known, reported)))
}

func comparableFields(c storage.Call) storage.Call {
	c.RawDID, c.RawCaller, c.Flags = "", "", nil
	c.RevisedAt, c.ReceivedAt = time.Time{}, time.Time{}
	return c
}
