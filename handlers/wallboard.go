package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Why nobody can watch.
var (
	ErrTooManyListeners = errors.New("as many as the server allows are watching; try again later")
	ErrLiveStopped      = errors.New("the server is stopping; try again")
)

// Bounds of watching.
const (
	maxListeners    = 100
	listenerBuffer  = 16   // updates that a listener may be behind
	maxChanges      = 200  // in one update; more are told as a whole
	maxStartedCalls = 1000 // calls that were started here
	maxAgents       = 2000 // of a contact center

	contactCenterInterval    = 3 * time.Second
	startedInterval          = time.Second
	contactCenterTimeout     = 5 * time.Second  // for Ziwo's answer
	startedTimeout           = 2 * time.Second  // for the database
	maxContactCenterInterval = 30 * time.Second // between two looks at what fails
	maxStartedInterval       = 5 * time.Second
	maxZiwoRetryAfter        = 5 * time.Minute // that Ziwo can ask for
	staleAfter               = time.Minute     // what a source said that is away since
	liveWindow               = time.Hour       // a call that was started and has not ended by then is taken to be over
	snapshotTimeout          = contactCenterTimeout + time.Second
)

// WallboardOptions are what a Wallboard needs.
type WallboardOptions struct {
	Store        openCallReader
	Config       *ConfigController
	Clients      *ZiwoClients
	Numbers      *Numbers
	Now          func() time.Time
	Logger       *slog.Logger
	PollInterval time.Duration // between two looks at a contact center; 0: 3 s
}

// Wallboard tells what happens now, to any number of listeners at the cost of
// one: while somebody listens, the database and each contact center are asked
// again and again, by one goroutine each. Make it with NewWallboard; it is safe
// for concurrent use, and needs Run.
type Wallboard struct {
	WallboardOptions
	wakeUp chan struct{} // somebody came first, or left last

	mu             sync.Mutex
	listeners      map[*LiveListener]struct{}
	watching       bool // the sources are being asked
	stopped        bool
	started        startedCalls
	contactCenters map[string]*contactCenterState
	view           LiveView
	callIDs        map[string]string    // of calls, by decision
	endedCallIDs   map[string]time.Time // callIDs of calls whose record came: a phone may show them for some seconds more
	lastEventID    uint64               // of the last event
}

// NewWallboard starts nothing yet.
func NewWallboard(o WallboardOptions) *Wallboard {
	if o.PollInterval <= 0 {
		o.PollInterval = contactCenterInterval
	}
	w := &Wallboard{
		WallboardOptions: o, wakeUp: make(chan struct{}, 1),
		listeners: map[*LiveListener]struct{}{}, contactCenters: map[string]*contactCenterState{}, endedCallIDs: map[string]time.Time{},
	}
	w.view = w.merge()
	return w
}

// LiveListener gets what happens: first the whole, then changes.
type LiveListener struct {
	board       *Wallboard
	events      chan []LiveEvent
	hasSnapshot bool // it has got the whole
}

// Listen starts to listen. Errors: ErrTooManyListeners, ErrLiveEnded.
func (w *Wallboard) Listen() (*LiveListener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
		return nil, ErrLiveStopped
	case len(w.listeners) >= maxListeners:
		return nil, ErrTooManyListeners
	}
	listener := &LiveListener{board: w, events: make(chan []LiveEvent, listenerBuffer)}
	w.listeners[listener] = struct{}{}
	if w.ready() {
		w.sendSnapshot(listener, w.snapshotEvent())
	}
	w.wake()
	return listener, nil
}

// Events are closed when the listener is too far behind, and when the server
// stops.
func (n *LiveListener) Events() <-chan []LiveEvent { return n.events }

// Prime hands over the whole as far as it is known. Without it, the listener
// waits until every source has answered or failed to.
func (n *LiveListener) SendSnapshot() {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	if _, listens := n.board.listeners[n]; listens && !n.hasSnapshot {
		n.board.sendSnapshot(n, n.board.snapshotEvent())
	}
}

// Leave ends listening. A second one does nothing.
func (n *LiveListener) Close() {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	n.board.remove(n)
}

// drop takes a listener away. The caller holds the lock.
func (w *Wallboard) remove(n *LiveListener) {
	if _, listens := w.listeners[n]; !listens {
		return
	}
	delete(w.listeners, n)
	close(n.events)
	w.wake()
}

func (w *Wallboard) wake() {
	select {
	case w.wakeUp <- struct{}{}:
	default:
	}
}

// Listeners is how many listen, and whether the sources are being asked.
func (w *Wallboard) Listeners() (n int, watching bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.listeners), w.watching
}

// Snapshot is what happens now. It waits until every source has answered or
// failed to, for 6 seconds at most. Errors: ErrTooManyListeners, ErrLiveEnded.
//
//	@Summary		What happens now: agents, and calls under way
//	@Description	As JSON once, or with `Accept: text/event-stream` as server-sent events: first `snapshot` (all of it), then the changes `call`, `call-ended`, `agent`, `agent-gone`, `contact-center` and `decisions`, and `snapshot` again when much changes at once. Comments keep the connection alive. A stream that ends should be opened again; it begins with a snapshot whatever Last-Event-ID says.
//	@ID			live
//	@Tags			live
//	@Produce		json,text/event-stream
//	@Param			Last-Event-ID	header		string	false	"Sent by browsers that come back; makes no difference"
//	@Success		200				{object}	LiveView
//	@Failure		401				{object}	Problem
//	@Failure		422				{object}	Problem
//	@Failure		503				{object}	Problem
//	@Header			503				{integer}	Retry-After	"Seconds"
//	@Security	Bearer
//	@Router			/api/v1/live [get]
func (w *Wallboard) Snapshot(ctx context.Context) (LiveView, error) {
	listener, err := w.Listen()
	if err != nil {
		return LiveView{}, err
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-listener.Events():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view, nil
}

// Run asks the sources while somebody listens, until ctx ends; then it lets all
// listeners go and returns nil.
func (w *Wallboard) Run(ctx context.Context) error {
	defer w.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wakeUp:
			if w.startWatching() {
				w.watch(ctx)
			}
		}
	}
}

func (w *Wallboard) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped, w.watching = true, false
	for n := range w.listeners {
		w.remove(n)
	}
}

// begin tells whether anybody listens, and forgets what is too old to show.
func (w *Wallboard) startWatching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.listeners) == 0 {
		return false
	}
	now := w.Now() // a little later than Listen looked, which may have found it fresh
	if !w.started.fresh(now, 2*startedInterval) {
		w.started = startedCalls{}
	}
	for name, state := range w.contactCenters {
		if !state.fresh(now, 2*w.PollInterval) {
			delete(w.contactCenters, name)
		}
	}
	w.watching = true
	return true
}

// finished tells whether the last listener has left.
func (w *Wallboard) stopIfUnused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.listeners) > 0 {
		return false
	}
	w.watching = false
	return true
}

// watch asks the sources until the last listener leaves, or ctx ends.
func (w *Wallboard) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var polls sync.WaitGroup
	defer func() {
		cancel()
		polls.Wait()
	}()
	polling := map[string]context.CancelFunc{}
	poll := func(name string) context.CancelFunc {
		return w.pollRepeatedly(ctx, &polls, func(ctx context.Context) time.Duration { return w.pollContactCenter(ctx, name) }, w.contactCenterDue(name))
	}
	w.syncContactCenters(polling, poll)
	w.pollRepeatedly(ctx, &polls, w.pollStarted, w.startedDue())
	configTicker := time.NewTicker(startedInterval) // at the configuration, which may have other contact centers
	defer configTicker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-configTicker.C:
			w.syncContactCenters(polling, poll)
		case <-w.wakeUp:
			if w.stopIfUnused() {
				return
			}
		}
	}
}

// source asks again and again, after the pause that each answer leads to. The
// function that it returns ends that.
func (w *Wallboard) pollRepeatedly(ctx context.Context, polls *sync.WaitGroup, poll func(context.Context) time.Duration, pause time.Duration) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	polls.Go(func() {
		defer cancel()
		timer := time.NewTimer(pause)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
				timer.Reset(poll(ctx))
			}
		}
	})
	return cancel
}

// centersChange makes those asked equal to the contact centers of the
// configuration.
func (w *Wallboard) syncContactCenters(polling map[string]context.CancelFunc, poll func(name string) context.CancelFunc) {
	names := w.Clients.Names()
	for name, cancel := range polling {
		if !slices.Contains(names, name) {
			cancel()
			delete(polling, name)
		}
	}
	w.mu.Lock()
	changed := false
	for name := range w.contactCenters {
		if !slices.Contains(names, name) {
			delete(w.contactCenters, name)
			changed = true
		}
	}
	for _, name := range names {
		if w.contactCenters[name] == nil {
			w.contactCenters[name] = &contactCenterState{sourceState: sourceState{LiveSource: LiveSource{State: LiveWaiting}}}
			changed = true
		}
	}
	if changed {
		w.update(nil)
	}
	w.mu.Unlock()
	for _, name := range names {
		if polling[name] == nil {
			polling[name] = poll(name)
		}
	}
}

// known tells whether every source has answered, or failed to, lately. The
// caller holds the lock.
func (w *Wallboard) ready() bool {
	now := w.Now()
	if !w.started.polled(now, startedInterval, w.watching) {
		return false
	}
	for _, name := range w.Clients.Names() {
		if state := w.contactCenters[name]; state == nil || !state.polled(now, w.PollInterval, w.watching) {
			return false
		}
	}
	return true
}

// update makes the view anew and tells the listeners what changed. stored are
// the ids of stored calls by decision, of those that ended. The caller holds the
// lock.
func (w *Wallboard) update(stored map[string]string) {
	before, now := w.view, w.Now()
	for _, c := range before.Calls {
		if c.CallID != "" && stored[c.Decision] != "" {
			w.endedCallIDs[c.CallID] = now
		}
	}
	maps.DeleteFunc(w.endedCallIDs, func(_ string, at time.Time) bool { return now.Sub(at) > staleAfter })
	w.view = w.merge()
	found, full := diff(before, w.view, stored)
	var events, snapshot []LiveEvent
	if !full {
		for _, c := range found {
			events = append(events, w.event(c.name, c.data))
		}
	}
	ready := w.ready()
	for n := range w.listeners {
		switch {
		case !n.hasSnapshot && !ready:
		case !n.hasSnapshot || full:
			if snapshot == nil {
				snapshot = w.snapshotEvent()
			}
			w.sendSnapshot(n, snapshot)
		case len(events) > 0:
			w.send(n, events)
		}
	}
}

// whole is everything as one event. The caller holds the lock.
func (w *Wallboard) snapshotEvent() []LiveEvent { return []LiveEvent{w.event("snapshot", w.view)} }

// prime hands the whole to a listener. The caller holds the lock.
func (w *Wallboard) sendSnapshot(n *LiveListener, snapshot []LiveEvent) {
	n.hasSnapshot = true
	w.send(n, snapshot)
}

// send never waits: a listener that is too far behind is let go. The caller
// holds the lock.
func (w *Wallboard) send(n *LiveListener, events []LiveEvent) {
	select {
	case n.events <- events:
	default:
		w.remove(n)
	}
}

func (w *Wallboard) event(name string, data any) LiveEvent {
	w.lastEventID++
	text, err := json.Marshal(data)
	if err != nil { // of texts, booleans and instants; but an instant may be beyond what JSON can say
		w.Logger.Error("a change cannot be told", slog.String("event", name), slog.Any("error", err))
		text = []byte("null")
	}
	return LiveEvent{ID: w.lastEventID, Name: name, Data: text}
}

// merge is the view of what the sources said last. The caller holds the lock.
func (w *Wallboard) merge() LiveView {
	now := w.Now()
	view := LiveView{
		At: now.UTC().Truncate(time.Millisecond), Decisions: w.started.view(), ContactCenters: []LiveContactCenter{}, Agents: []LiveAgent{},
		Truncated: w.started.truncated,
	}
	var phones []agentCall
	for _, name := range slices.Sorted(maps.Keys(w.contactCenters)) {
		state := w.contactCenters[name]
		view.ContactCenters = append(view.ContactCenters, LiveContactCenter{Name: name, LiveSource: state.view()})
		if state.stale(now) {
			continue
		}
		for _, p := range state.calls {
			if _, over := w.endedCallIDs[p.CallID]; over {
				continue
			}
			p.agent += len(view.Agents)
			phones = append(phones, p)
		}
		view.Agents = append(view.Agents, state.agents...)
	}
	var started []LiveCall
	if !w.started.stale(now) {
		started = slices.Collect(maps.Values(w.started.open))
	}
	view.Calls = mergeCalls(started, phones, view.Agents, w.callIDs)
	w.callIDs = make(map[string]string, len(started))
	for _, c := range view.Calls {
		if c.Decision != "" {
			w.callIDs[c.Decision] = c.ID
		}
	}
	return view
}
