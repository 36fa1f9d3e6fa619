// Package live shows what is happening in the contact centers now: the agents, the calls
// on their phones, and the calls that trackers have started. A Wallboard sends a snapshot
// and then the changes to its listeners.
package live

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"calltracker/config"
	"calltracker/handlers/ziwoclients"
	"calltracker/phone"
)

// Errors of Listen.
var (
	ErrTooManyListeners = errors.New("too many listeners; try again later")
	ErrStopped          = errors.New("the server is shutting down; try again")
)

// Limits and intervals of a Wallboard.
const (
	maxListeners    = 100
	listenerBuffer  = 16   // updates buffered for a slow listener
	maxChanges      = 200  // changes in one update; beyond that, a full snapshot is sent
	maxStartedCalls = 1000 // calls started by trackers
	maxAgents       = 2000 // agents per contact center

	contactCenterInterval    = 3 * time.Second
	startedInterval          = time.Second
	contactCenterTimeout     = 5 * time.Second  // for Ziwo's answer
	startedTimeout           = 2 * time.Second  // for the database
	maxContactCenterInterval = 30 * time.Second // polling interval of a failing contact center
	maxStartedInterval       = 5 * time.Second
	maxZiwoRetryAfter        = 5 * time.Minute // longest wait that Ziwo can request
	staleAfter               = time.Minute     // age at which data of an unavailable source is hidden
	endedCallHidden          = time.Minute     // time for which phones may still show an ended call
	liveWindow               = time.Hour       // age at which a started call is assumed to have ended
	snapshotTimeout          = contactCenterTimeout + time.Second
)

// Options holds the dependencies and settings of a Wallboard. All fields are required
// except PollInterval.
type Options struct {
	Store        openCallStore
	Config       *config.Controller
	Clients      *ziwoclients.Clients
	Numbers      *phone.Cache
	Now          func() time.Time
	Logger       *slog.Logger
	PollInterval time.Duration // polling interval of contact centers; 0 means 3 s
}

// Wallboard reports the current agents and calls to its listeners. While there are
// listeners, one goroutine per source polls the database and the contact centers, so
// the cost does not depend on the number of listeners. Create a Wallboard with New and
// start it with Run. It is safe for concurrent use.
type Wallboard struct {
	store        openCallStore
	config       *config.Controller
	clients      *ziwoclients.Clients
	numbers      *phone.Cache
	now          func() time.Time
	logger       *slog.Logger
	pollInterval time.Duration

	wakeUp chan struct{} // signals the first listener, and the departure of one

	mu             sync.Mutex
	listeners      map[*Listener]struct{}
	watching       bool // whether the sources are polled
	stopped        bool
	started        startedCalls
	contactCenters map[string]*contactCenterState
	view           View
	idByDecision   map[string]string    // IDs of the calls in view, by decision ID
	endedCallIDs   map[string]time.Time // end by callID; see endedCallHidden
	lastEventID    uint64
}

// New returns a Wallboard.
func New(o Options) *Wallboard {
	if o.Store == nil || o.Config == nil || o.Clients == nil || o.Numbers == nil || o.Now == nil || o.Logger == nil {
		panic("live.New: Store, Config, Clients, Numbers, Now, and Logger are required")
	}
	if o.PollInterval <= 0 {
		o.PollInterval = contactCenterInterval
	}
	w := &Wallboard{
		store: o.Store, config: o.Config, clients: o.Clients, numbers: o.Numbers, now: o.Now, logger: o.Logger, pollInterval: o.PollInterval,
		wakeUp:    make(chan struct{}, 1),
		listeners: map[*Listener]struct{}{}, contactCenters: map[string]*contactCenterState{}, endedCallIDs: map[string]time.Time{},
	}
	w.view = w.merge()
	return w
}

// Listener receives a snapshot and then changes.
type Listener struct {
	board       *Wallboard
	events      chan []Event
	hasSnapshot bool // whether the snapshot was sent
}

// Listen adds a listener. Errors: ErrTooManyListeners, ErrStopped.
func (w *Wallboard) Listen() (*Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
		return nil, ErrStopped
	case len(w.listeners) >= maxListeners:
		return nil, ErrTooManyListeners
	}
	listener := &Listener{board: w, events: make(chan []Event, listenerBuffer)}
	w.listeners[listener] = struct{}{}
	if w.ready() {
		w.sendSnapshot(listener, w.snapshotEvent())
	}
	w.wake()
	return listener, nil
}

// Events returns the channel of updates. It is closed if the listener is too slow, and
// when the server stops.
func (n *Listener) Events() <-chan []Event { return n.events }

// SendSnapshot sends the data known so far. Otherwise the snapshot is sent after every
// source has answered or failed.
func (n *Listener) SendSnapshot() {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	if _, listens := n.board.listeners[n]; listens && !n.hasSnapshot {
		n.board.sendSnapshot(n, n.board.snapshotEvent())
	}
}

// Close removes the listener. It may be called more than once.
func (n *Listener) Close() {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	n.board.remove(n)
}

// remove removes a listener. The caller must hold the lock.
func (w *Wallboard) remove(n *Listener) {
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

// Listeners returns the number of listeners and whether the sources are polled.
func (w *Wallboard) Listeners() (n int, watching bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.listeners), w.watching
}

// Snapshot returns the current view. It waits up to 6 seconds until every source has
// answered or failed. Errors: ErrTooManyListeners, ErrStopped.
func (w *Wallboard) Snapshot(ctx context.Context) (View, error) {
	listener, err := w.Listen()
	if err != nil {
		return View{}, err
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

// Run polls the sources while there are listeners, until ctx ends. It then removes all
// listeners and returns nil.
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

// startWatching reports whether there are listeners, and drops outdated data.
func (w *Wallboard) startWatching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.listeners) == 0 {
		return false
	}
	now := w.now() // slightly later than in Listen, which may have found the data fresh
	if !w.started.fresh(now, 2*startedInterval) {
		w.started = startedCalls{}
	}
	for name, state := range w.contactCenters {
		if !state.fresh(now, 2*w.pollInterval) {
			delete(w.contactCenters, name)
		}
	}
	w.watching = true
	return true
}

// stopIfUnused reports whether the last listener has left.
func (w *Wallboard) stopIfUnused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.listeners) > 0 {
		return false
	}
	w.watching = false
	return true
}

// watch polls the sources until the last listener leaves or ctx ends.
func (w *Wallboard) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var polls sync.WaitGroup
	defer func() {
		cancel()
		polls.Wait()
	}()
	polling := map[string]context.CancelFunc{}
	poll := func(name string) context.CancelFunc {
		return w.pollRepeatedly(ctx, &polls, func(ctx context.Context) time.Duration { return w.pollContactCenter(ctx, name) }, w.untilContactCenterPoll(name))
	}
	w.syncContactCenters(polling, poll)
	w.pollRepeatedly(ctx, &polls, w.pollStarted, w.untilStartedPoll())
	configTicker := time.NewTicker(startedInterval) // detects changes of the configured contact centers
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

// pollRepeatedly calls poll repeatedly. Each call returns the pause before the next
// one. The returned function stops polling.
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

// syncContactCenters starts and stops polling so that it matches the configured
// contact centers.
func (w *Wallboard) syncContactCenters(polling map[string]context.CancelFunc, poll func(name string) context.CancelFunc) {
	names := w.clients.Names()
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
			w.contactCenters[name] = &contactCenterState{polledSource: polledSource{Source: Source{State: SourceWaiting}}}
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

// ready reports whether every source has answered or failed recently. The caller must
// hold the lock.
func (w *Wallboard) ready() bool {
	now := w.now()
	if !w.started.polled(now, startedInterval, w.watching) {
		return false
	}
	for _, name := range w.clients.Names() {
		if state := w.contactCenters[name]; state == nil || !state.polled(now, w.pollInterval, w.watching) {
			return false
		}
	}
	return true
}

// update rebuilds the view and sends the changes to the listeners. stored maps the
// decisions of ended calls to the IDs of their stored calls. The caller must hold the
// lock.
func (w *Wallboard) update(stored map[string]string) {
	before, now := w.view, w.now()
	for _, c := range before.Calls {
		if c.CallID != "" && stored[c.Decision] != "" {
			w.endedCallIDs[c.CallID] = now
		}
	}
	maps.DeleteFunc(w.endedCallIDs, func(_ string, at time.Time) bool { return now.Sub(at) > endedCallHidden })
	w.view = w.merge()
	found, full := diff(before, w.view, stored)
	var events, snapshot []Event
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

// snapshotEvent returns the view as an event. The caller must hold the lock.
func (w *Wallboard) snapshotEvent() []Event { return []Event{w.event("snapshot", w.view)} }

// sendSnapshot sends a snapshot to a listener. The caller must hold the lock.
func (w *Wallboard) sendSnapshot(n *Listener, snapshot []Event) {
	n.hasSnapshot = true
	w.send(n, snapshot)
}

// send sends events without blocking, and removes a listener that is too slow. The
// caller must hold the lock.
func (w *Wallboard) send(n *Listener, events []Event) {
	select {
	case n.events <- events:
	default:
		w.remove(n)
	}
}

func (w *Wallboard) event(name string, data any) Event {
	w.lastEventID++
	text, err := json.Marshal(data)
	if err != nil { // only for a time that JSON cannot represent
		w.logger.Error("live event not encoded", slog.String("event", name), slog.Any("error", err))
		text = []byte("null")
	}
	return Event{ID: w.lastEventID, Name: name, Data: text}
}

// merge returns the view of the last answers. The caller must hold the lock.
func (w *Wallboard) merge() View {
	now := w.now()
	view := View{
		At: now.UTC().Truncate(time.Millisecond), Decisions: w.started.view(), ContactCenters: []ContactCenter{}, Agents: []Agent{},
		Truncated: w.started.truncated,
	}
	var phones []agentCall
	for _, name := range slices.Sorted(maps.Keys(w.contactCenters)) {
		state := w.contactCenters[name]
		view.ContactCenters = append(view.ContactCenters, ContactCenter{Name: name, Source: state.view()})
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
	var started []Call
	if !w.started.stale(now) {
		started = slices.Collect(maps.Values(w.started.open))
	}
	view.Calls = mergeCalls(started, phones, view.Agents, w.idByDecision)
	w.idByDecision = make(map[string]string, len(started))
	for _, c := range view.Calls {
		if c.Decision != "" {
			w.idByDecision[c.Decision] = c.ID
		}
	}
	return view
}
