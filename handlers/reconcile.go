package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"calltracker/jobs"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// reconciliationStore is what Reconciler needs of a store.
type reconciliationStore interface {
	CallsByKey(ctx context.Context, contactCenters, keys []string) ([]storage.Call, error)
	OpenDecisions(ctx context.Context, trackers []string, from, to time.Time, limit int) (int, []string, error)
	RecordReconciliation(ctx context.Context, r storage.Reconciliation) error
	Reconciliations(ctx context.Context, p storage.Page) ([]storage.Reconciliation, string, error)
	LastReconciliation(ctx context.Context, contactCenter string) (reached, done time.Time, err error)
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Reconciler compares the stored calls with those that Ziwo's own history has,
// stores what is missing and completes what is incomplete. Calls go the same way
// as those of endCall and have the same identity, so that a call is one call
// however often and from wherever it comes. Make it with NewReconciler; it is
// safe for concurrent use.
type Reconciler struct {
	Centers *Centers
	Config  *Config
	Calls   *Recorder
	Store   reconciliationStore
	Metrics *Metrics
	Now     func() time.Time
	Logger  *slog.Logger
	Every   time.Duration // between scheduled ones

	began time.Time
	deep  map[string]time.Time // when a contact center was last looked through far back; of the task alone
}

// NewReconciler makes a Reconciler out of its exported fields.
func NewReconciler(r Reconciler) *Reconciler {
	r.began, r.deep = r.Now(), map[string]time.Time{}
	return &r
}

// The spans of time that reconciliation works with. Calls are found by their
// start, and Ziwo has them once they have ended.
const (
	settle      = 30 * time.Second    // records of calls that just ended are on their way here
	lookBack    = 4 * time.Hour       // calls that last long, and recordings that come late
	firstLook   = 24 * time.Hour      // when there was no reconciliation yet
	deepLook    = 48 * time.Hour      // once a day
	farthest    = 31 * 24 * time.Hour // whatever happened
	sliceLength = 24 * time.Hour      // what is compared between two notes of how far it came
	unendedFor  = time.Hour           // after which a call without a record counts as one that never ended
	leaseLength = 30 * time.Second    // of a contact center, extended while it is being reconciled
	leaseRetry  = time.Second         // between attempts to lease a contact center on request
	longestTask = 6 * time.Hour       // of all contact centers; the next one continues
	longRetry   = time.Hour           // longest wait that Ziwo can ask for
	shownOpen   = 20                  // decisions named in the figures
	saversAtOne = 16                  // calls saved side by side: the store commits them together
	mostLogs    = 20                  // pages of the trackers' log in one reconciliation
	logPage     = 1000                // entries
	recordWait  = 5 * time.Second     // to write down how it ended
	mostNote    = 300                 // bytes
)

// Task returns the task that reconciles every contact center on schedule.
func (r *Reconciler) Task() jobs.Task {
	return jobs.Task{Name: "reconcile calls", Every: r.Every, Timeout: longestTask, Run: r.Scheduled}
}

// Scheduled reconciles every contact center, except those that are being reconciled or
// just were. It is for one goroutine at a time.
func (r *Reconciler) Scheduled(ctx context.Context) error {
	var failures []error
	retry := longRetry
	for _, name := range r.Centers.Names() {
		err := r.scheduled(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			continue
		}
		failures = append(failures, fmt.Errorf("reconcile contact center %q: %w", name, err))
		var failure *ziwo.APIError
		if errors.As(err, &failure) {
			retry = min(retry, failure.RetryAfter)
		} else {
			retry = 0
		}
	}
	err := errors.Join(failures...)
	if err != nil && retry >= time.Minute { // otherwise the task is retried with its own pauses
		return jobs.RetryAfter(retry, err)
	}
	return err
}

// scheduled reconciles one contact center, unless it is being reconciled or just was.
func (r *Reconciler) scheduled(ctx context.Context, name string) error {
	lease := r.lease(name)
	if held, err := lease.Acquire(ctx); err != nil || !held {
		return err
	}
	ctx, release := lease.Hold(ctx)
	defer r.release(ctx, release)
	now := r.Now()
	reached, done, err := r.Store.LastReconciliation(ctx, name)
	if err != nil {
		return err
	}
	if !done.IsZero() && now.Sub(done) < r.Every/2 {
		return nil
	}
	from, to := r.span(name, now, reached)
	_, err = r.run(ctx, name, from, to, storage.TriggerSchedule)
	if err == nil && from.Before(to.Add(-lookBack)) {
		r.deep[name] = now
	}
	return err
}

// requested reconciles a span of one contact center, once no other reconciliation of it
// is running.
func (r *Reconciler) requested(ctx context.Context, name string, from, to time.Time) (storage.Reconciliation, error) {
	lease := r.lease(name)
	retry := time.NewTicker(leaseRetry)
	defer retry.Stop()
	for {
		held, err := lease.Acquire(ctx)
		if err != nil {
			return storage.Reconciliation{}, err
		}
		if held {
			break
		}
		select {
		case <-ctx.Done():
			return storage.Reconciliation{}, ctx.Err()
		case <-retry.C:
		}
	}
	ctx, release := lease.Hold(ctx)
	defer r.release(ctx, release)
	return r.run(ctx, name, from, to, storage.TriggerRequest)
}

// lease returns the lease under which a contact center is reconciled.
func (r *Reconciler) lease(name string) *jobs.Lease {
	return jobs.NewLease(r.Store, "reconciliation of "+name, leaseLength, r.Now)
}

func (r *Reconciler) release(ctx context.Context, release func() error) {
	if err := release(); err != nil { // it ends anyway
		r.Logger.LogAttrs(ctx, slog.LevelInfo, "release of the reconciliation's lease failed", slog.Any("error", err))
	}
}

// span is what a scheduled reconciliation looks at: from where the last one came
// to, however long ago that is, and further back for what changed since.
func (r *Reconciler) span(name string, now, reached time.Time) (from, to time.Time) {
	to = now.Add(-settle).UTC().Truncate(time.Second)
	from = to.Add(-lookBack)
	lastDeep, ok := r.deep[name]
	if !ok {
		lastDeep = r.began
	}
	switch {
	case reached.IsZero():
		from = to.Add(-firstLook)
	case reached.Before(to):
		from = reached.Add(-lookBack)
	}
	if now.Sub(lastDeep) >= sliceLength && from.After(to.Add(-deepLook)) {
		from = to.Add(-deepLook)
	}
	if from.Before(to.Add(-farthest)) {
		from = to.Add(-farthest)
	}
	return from, to
}

// comparison is one reconciliation under way.
type comparison struct {
	*Reconciler
	live     *Live
	center   string
	client   *ziwo.Client
	trackers []*ActiveTracker // of the contact center
	from, to time.Time
	out      storage.Reconciliation
	seen     map[string]bool // callIDs
}

// run reconciles a span of one contact center, which must be leased, and records the
// result.
func (r *Reconciler) run(ctx context.Context, name string, from, to time.Time, trigger storage.Trigger) (storage.Reconciliation, error) {
	c := comparison{
		Reconciler: r, center: name, from: from, to: to, seen: map[string]bool{},
		out: storage.Reconciliation{ID: storage.NewID(), ContactCenter: name, Trigger: trigger, From: from, To: to, StartedAt: r.Now().UTC().Truncate(time.Microsecond)},
	}
	err := c.compare(ctx)
	c.out.State, c.out.EndedAt = storage.ReconciliationDone, r.Now().UTC().Truncate(time.Microsecond)
	if err != nil {
		c.out.State, c.out.Error = storage.ReconciliationDelayed, delay(err)
	}
	if errors.Is(ctx.Err(), context.Canceled) && trigger == storage.TriggerSchedule { // the server stops; the next leader continues
		return c.out, context.Cause(ctx)
	}
	r.Metrics.Reconciled(c.out)
	level := slog.LevelDebug
	if c.out.Counts.Backfilled > 0 || c.out.Counts.Enriched > 0 || trigger == storage.TriggerRequest {
		level = slog.LevelInfo
	}
	r.Logger.LogAttrs(ctx, level, "reconciled", slog.String("contact_center", name), slog.String("state", string(c.out.State)),
		slog.Time("from", from), slog.Time("to", to), slog.Int("found", c.out.Counts.Found), slog.Int("backfilled", c.out.Counts.Backfilled),
		slog.Int("enriched", c.out.Counts.Enriched), slog.Int("differing", c.out.Counts.Differing), slog.Int("unended", c.out.Counts.Unended))
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWait)
	defer cancel()
	if recordErr := r.Store.RecordReconciliation(record, c.out); recordErr != nil {
		err = errors.Join(err, recordErr)
	}
	return c.out, err
}

// delay says why a reconciliation is delayed, for people.
func delay(err error) string {
	if errors.Is(err, storage.ErrUnavailable) {
		return "the database cannot be used now"
	}
	text := err.Error()
	if len(text) > mostNote {
		text = text[:mostNote]
	}
	return text
}

// compare goes through the span slice by slice, oldest first, so that a delay
// loses only what the last slice did.
func (c *comparison) compare(ctx context.Context) error {
	live := c.Config.Live()
	if live == nil {
		return ErrNoConfig
	}
	c.live = live
	client, err := c.Centers.Client(c.center)
	if err != nil {
		return err
	}
	c.client = client
	var trackers []string
	for _, id := range live.Set.Trackers() {
		if tracker := live.Trackers[id]; tracker.Router.ContactCenter() == c.center {
			c.trackers = append(c.trackers, tracker)
			trackers = append(trackers, id)
		}
	}
	figures := &c.out.Counts
	for at := c.from; at.Before(c.to); {
		next := at.Add(sliceLength)
		if next.After(c.to) || c.to.Sub(next) < time.Hour { // no request for a sliver
			next = c.to
		}
		walk, err := client.WalkHistory(ctx, at, next, func(page []ziwo.HistoryRecord) error { return c.page(ctx, page) })
		figures.Requests += walk.Requests
		figures.Unreadable += walk.Unreadable
		if err != nil {
			return err
		}
		at, c.out.Reached = next, next
	}
	open := func() (err error) {
		figures.Unended, figures.Open, err = c.Store.OpenDecisions(ctx, trackers, c.from, minTime(c.to, c.Now().Add(-unendedFor)), shownOpen)
		return err
	}
	if err := open(); err != nil {
		return err
	}
	if len(trackers) == 0 || figures.Unended == 0 && c.out.Trigger == storage.TriggerSchedule {
		return nil
	}
	// What the history does not have may be in the trackers' own log.
	if err := c.logs(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, storage.ErrUnavailable) {
			return err
		}
		c.out.Notes = append(c.out.Notes, "the log of the call trackers was not read: "+delay(err))
	}
	return open()
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// logs looks for records in the log of the call trackers, newest first as far as
// Ziwo keeps that order, and for not more than some pages.
func (c *comparison) logs(ctx context.Context) error {
	for start, pages := 0, 0; pages < mostLogs; pages++ {
		entries, total, err := c.client.TrackerLogs(ctx, ziwo.LogQuery{From: c.from, To: c.to.AddDate(0, 0, 1), Start: start, Size: logPage})
		c.out.Counts.Requests++
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
		if err := c.page(ctx, records); err != nil {
			return err
		}
		start += len(entries)
		first, last := entries[0].At, entries[len(entries)-1].At
		if total >= 0 && start >= total || !last.IsZero() && !last.After(first) && last.Before(c.from) {
			return nil
		}
	}
	c.out.Notes = append(c.out.Notes, fmt.Sprintf("of the log of the call trackers, the first %d entries were read", mostLogs*logPage))
	return nil
}

// told is a call as Ziwo tells of it.
type told struct {
	call   storage.Call
	from   Origin
	record ziwo.HistoryRecord
}

// page compares some of Ziwo's records with the stored calls.
func (c *comparison) page(ctx context.Context, records []ziwo.HistoryRecord) error {
	var (
		calls []told
		keys  []string
	)
	for _, record := range records {
		id := record.CDR.CallID
		if id == "" {
			c.out.Counts.Unreadable++
			continue
		}
		if c.seen[id] { // it moved from one page to the next
			continue
		}
		c.seen[id] = true
		from := c.origin(record.CDR)
		calls = append(calls, told{c.Calls.Call(record.CDR, from), from, record})
		keys = append(keys, id)
	}
	if len(calls) == 0 {
		return nil
	}
	stored, err := c.Store.CallsByKey(ctx, []string{c.center, ""}, keys)
	if err != nil {
		return err
	}
	known := make(map[string]storage.Call, len(stored))
	for _, call := range stored {
		if other, ok := known[call.Key]; !ok || other.ContactCenter != c.center {
			known[call.Key] = call
		}
	}
	c.out.Counts.Found += len(calls)
	var missing, better []told
	for _, t := range calls {
		call, ok := known[t.call.Key]
		if !ok {
			missing = append(missing, t)
			continue
		}
		c.out.Counts.Present++
		enriches, differs, changes := compareCalls(call, t.call)
		if differs {
			c.out.Counts.Differing++
		}
		if enriches {
			c.out.Counts.Enriched++
		}
		if enriches || changes {
			t.from.ContactCenter = call.ContactCenter
			better = append(better, t)
		}
	}
	created, err := c.save(ctx, missing)
	c.out.Counts.Backfilled += created
	if err != nil {
		return err
	}
	c.out.Counts.Present += len(missing) - created // they came meanwhile
	_, err = c.save(ctx, better)
	return err
}

// save stores calls side by side and counts those that were new.
func (c *comparison) save(ctx context.Context, calls []told) (created int, err error) {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, saversAtOne)
	)
	for _, t := range calls {
		slots <- struct{}{}
		mu.Lock()
		failed := err != nil
		mu.Unlock()
		if failed || ctx.Err() != nil {
			<-slots
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			kept, saveErr := c.Calls.Record(ctx, EndRequest{ContentType: "application/json", Body: t.record.Raw}, storage.FromReconciliation, t.from)
			mu.Lock()
			defer mu.Unlock()
			if saveErr != nil && err == nil {
				err = saveErr
			}
			if kept.Saved.Created {
				created++
			}
		})
	}
	all.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return created, err
}

// origin is the tracker that a call came by, as endCall would have told, so that
// the call has the same identity from both.
func (c *comparison) origin(cdr ziwo.CDR) Origin {
	if tracker, ok := c.live.Trackers[cdr.Tracker]; ok && (tracker.Router.ContactCenter() == c.center || tracker.Router.ContactCenter() == "") {
		return tracker.Origin()
	}
	if cdr.Direction == "inbound" || cdr.Direction == "" {
		for _, tracker := range c.trackers {
			if _, listed := tracker.Router.Listed(cdr.DIDCalled); listed {
				return tracker.Origin()
			}
		}
	}
	return c.live.Origin(c.center)
}

// compareCalls tells what a record of Ziwo adds to a stored call, whether the two
// contradict each other, and whether saving it would change the call at all. How
// a number was written and when a record was does not count.
func compareCalls(known, told storage.Call) (enriches, differs, changes bool) {
	told.ID, told.Key, told.ContactCenter = known.ID, known.Key, known.ContactCenter
	told.Decision, told.Route = known.Decision, known.Route
	before := essence(known)
	ours, theirs := essence(storage.FillBlanks(known, told)), essence(storage.FillBlanks(told, known))
	return !reflect.DeepEqual(before, ours), !reflect.DeepEqual(ours, theirs),
		!reflect.DeepEqual(before, essence(storage.Merge(known, told)))
}

func essence(c storage.Call) storage.Call {
	c.RawDID, c.RawCaller, c.Flags = "", "", nil
	c.RevisedAt, c.ReceivedAt = time.Time{}, time.Time{}
	return c
}

// ReconciliationInput is the body of POST /api/v1/reconciliation.
type ReconciliationInput struct {
	From          time.Time `json:"from" validate:"required" format:"date-time" example:"2026-11-22T00:00:00Z"`
	To            time.Time `json:"to" validate:"required" format:"date-time" example:"2026-11-23T00:00:00Z"`
	ContactCenter string    `json:"contactCenter,omitempty" example:"aldebaran"` // all when empty
}

// ReconciliationView is one reconciliation as it is shown.
type ReconciliationView struct {
	ID            string     `json:"id"`
	ContactCenter string     `json:"contactCenter" example:"aldebaran"`
	Trigger       string     `json:"trigger" enums:"schedule,request"`
	From          time.Time  `json:"from" format:"date-time"` // calls that started from here
	To            time.Time  `json:"to" format:"date-time"`   // up to here, not included
	Reached       *time.Time `json:"reached" format:"date-time" extensions:"x-nullable"`
	StartedAt     time.Time  `json:"startedAt" format:"date-time"`
	EndedAt       time.Time  `json:"endedAt" format:"date-time"`
	State         string     `json:"state" enums:"done,delayed"`
	Error         string     `json:"error"` // why it is delayed
	Notes         []string   `json:"notes"`
	Requests      int        `json:"requests"`   // to Ziwo
	Found         int        `json:"found"`      // calls at Ziwo
	Present       int        `json:"present"`    // that were here
	Backfilled    int        `json:"backfilled"` // that were missing, and are stored now
	Enriched      int        `json:"enriched"`   // that were here and are complete now
	Differing     int        `json:"differing"`  // of which Ziwo tells another story
	Unreadable    int        `json:"unreadable"` // records of Ziwo that are none
	Unended       int        `json:"unended"`    // calls that started here and never ended
	Open          []string   `json:"open"`       // the newest of their decisions
}

// ReconciliationList is reconciliations, newest first.
type ReconciliationList struct {
	Runs []ReconciliationView `json:"runs"`
	Next string               `json:"next"`
}

func viewOf(r storage.Reconciliation) ReconciliationView {
	f := r.Counts
	return ReconciliationView{
		ID: r.ID, ContactCenter: r.ContactCenter, Trigger: string(r.Trigger), From: r.From, To: r.To, Reached: instant(r.Reached),
		StartedAt: r.StartedAt, EndedAt: r.EndedAt, State: string(r.State), Error: r.Error, Notes: append([]string{}, r.Notes...),
		Requests: f.Requests, Found: f.Found, Present: f.Present, Backfilled: f.Backfilled, Enriched: f.Enriched, Differing: f.Differing,
		Unreadable: f.Unreadable, Unended: f.Unended, Open: append([]string{}, f.Open...),
	}
}

// List returns the last reconciliations, newest first.
//
//	@Summary	The last comparisons with Ziwo's call history
//	@ID		listReconciliations
//	@Tags		calls
//	@Produce	json
//	@Param		cursor	query		string	false	"From the page before"
//	@Param		limit	query		int		false	"1 to 1000, 50 by default"
//	@Success	200		{object}	ReconciliationList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/reconciliation [get]
func (r *Reconciler) List(ctx context.Context, page storage.Page) (ReconciliationList, error) {
	runs, next, err := r.Store.Reconciliations(ctx, page)
	if err != nil {
		return ReconciliationList{}, fmt.Errorf("list reconciliations: %w", err)
	}
	out := ReconciliationList{Runs: make([]ReconciliationView, len(runs)), Next: next}
	for i, run := range runs {
		out.Runs[i] = viewOf(run)
	}
	return out, nil
}

// Reconcile compares a span of time now, and returns one run for each contact
// center. A Ziwo that cannot be used is a run that is delayed, not an error.
// Errors: *Invalid, storage.ErrUnavailable.
//
//	@Summary		Compare a span of time with Ziwo's call history now, and store what is missing
//	@Description	Answers when it is done: a day of 50,000 calls takes some seconds. A Ziwo that cannot be used is told as the state delayed.
//	@ID		reconcile
//	@Tags			calls
//	@Accept			json
//	@Produce		json
//	@Param			body	body		ReconciliationInput	true	"Span, at most 31 days"
//	@Success		200		{object}	ReconciliationList
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/reconciliation [post]
func (r *Reconciler) Reconcile(ctx context.Context, in ReconciliationInput) (ReconciliationList, error) {
	if err := validateInput(in); err != nil {
		return ReconciliationList{}, err
	}
	names := r.Centers.Names()
	switch {
	case !in.From.Before(in.To):
		return ReconciliationList{}, problem.Errorf("to", "must be after from")
	case in.To.Sub(in.From) > farthest:
		return ReconciliationList{}, problem.Errorf("from", "is more than 31 days before to; ask for one month after the other")
	case in.ContactCenter != "" && !slices.Contains(names, in.ContactCenter):
		return ReconciliationList{}, problem.Errorf("contactCenter", "the configuration has no contact center %q with credentials", problem.Clip(in.ContactCenter))
	case in.ContactCenter != "":
		names = []string{in.ContactCenter}
	case len(names) == 0:
		return ReconciliationList{}, problem.Errorf("contactCenter", "the configuration has no contact center with credentials")
	}
	out := ReconciliationList{Runs: []ReconciliationView{}}
	for _, name := range names {
		run, err := r.requested(ctx, name, in.From.UTC(), in.To.UTC())
		if errors.Is(err, storage.ErrUnavailable) {
			return ReconciliationList{}, err
		}
		if ctx.Err() != nil {
			return ReconciliationList{}, ctx.Err()
		}
		out.Runs = append(out.Runs, viewOf(run))
	}
	return out, nil
}
