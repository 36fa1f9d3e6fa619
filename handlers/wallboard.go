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
	ErrLiveEnded        = errors.New("the server is stopping; try again")
)

// Bounds of watching.
const (
	mostListeners = 100
	listenerQueue = 16   // updates that a listener may be behind
	mostChanges   = 200  // in one update; more are told as a whole
	mostLive      = 1000 // calls that were started here
	mostAgents    = 2000 // of a contact center

	centerEvery   = 3 * time.Second
	startsEvery   = time.Second
	centerWait    = 5 * time.Second  // for Ziwo's answer
	startsWait    = 2 * time.Second  // for the database
	longestCenter = 30 * time.Second // between two looks at what fails
	longestStarts = 5 * time.Second
	mostPause     = 5 * time.Minute // that Ziwo can ask for
	staleAfter    = time.Minute     // what a source said that is away since
	liveWindow    = time.Hour       // a call that was started and has not ended by then is taken to be over
	snapshotWait  = centerWait + time.Second
)

// WallboardOptions are what a Wallboard needs.
type WallboardOptions struct {
	Store   startReader
	Config  *Config
	Centers *Centers
	Numbers *Numbers
	Now     func() time.Time
	Logger  *slog.Logger
	Every   time.Duration // between two looks at a contact center; 0: 3 s
}

// Wallboard tells what happens now, to any number of listeners at the cost of
// one: while somebody listens, the database and each contact center are asked
// again and again, by one goroutine each. Make it with NewWallboard; it is safe
// for concurrent use, and needs Run.
type Wallboard struct {
	WallboardOptions
	awake chan struct{} // somebody came first, or left last

	mu        sync.Mutex
	listeners map[*LiveListener]struct{}
	watching  bool // the sources are being asked
	ended     bool
	starts    starts
	centers   map[string]*liveCenter
	view      LiveView
	ids       map[string]string    // of calls, by decision
	over      map[string]time.Time // callIDs of calls whose record came: a phone may show them for some seconds more
	number    uint64               // of the last event
}

// NewWallboard starts nothing yet.
func NewWallboard(o WallboardOptions) *Wallboard {
	if o.Every <= 0 {
		o.Every = centerEvery
	}
	w := &Wallboard{
		WallboardOptions: o, awake: make(chan struct{}, 1),
		listeners: map[*LiveListener]struct{}{}, centers: map[string]*liveCenter{}, over: map[string]time.Time{},
	}
	w.view = w.merge()
	return w
}

// LiveListener gets what happens: first the whole, then changes.
type LiveListener struct {
	board  *Wallboard
	events chan []LiveEvent
	primed bool // it has got the whole
}

// Listen starts to listen. Errors: ErrTooManyListeners, ErrLiveEnded.
func (w *Wallboard) Listen() (*LiveListener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
		return nil, ErrLiveEnded
	case len(w.listeners) >= mostListeners:
		return nil, ErrTooManyListeners
	}
	listener := &LiveListener{board: w, events: make(chan []LiveEvent, listenerQueue)}
	w.listeners[listener] = struct{}{}
	if w.known() {
		w.prime(listener, w.whole())
	}
	w.wake()
	return listener, nil
}

// Events are closed when the listener is too far behind, and when the server
// stops.
func (n *LiveListener) Events() <-chan []LiveEvent { return n.events }

// Prime hands over the whole as far as it is known. Without it, the listener
// waits until every source has answered or failed to.
func (n *LiveListener) Prime() {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	if _, listens := n.board.listeners[n]; listens && !n.primed {
		n.board.prime(n, n.board.whole())
	}
}

// Leave ends listening. A second one does nothing.
func (n *LiveListener) Leave() {
	n.board.mu.Lock()
	defer n.board.mu.Unlock()
	n.board.drop(n)
}

// drop takes a listener away. The caller holds the lock.
func (w *Wallboard) drop(n *LiveListener) {
	if _, listens := w.listeners[n]; !listens {
		return
	}
	delete(w.listeners, n)
	close(n.events)
	w.wake()
}

func (w *Wallboard) wake() {
	select {
	case w.awake <- struct{}{}:
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
	defer listener.Leave()
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
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
	defer w.end()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.awake:
			if w.begin() {
				w.watch(ctx)
			}
		}
	}
}

func (w *Wallboard) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended, w.watching = true, false
	for n := range w.listeners {
		w.drop(n)
	}
}

// begin tells whether anybody listens, and forgets what is too old to show.
func (w *Wallboard) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.listeners) == 0 {
		return false
	}
	now := w.Now() // a little later than Listen looked, which may have found it fresh
	if !w.starts.fresh(now, 2*startsEvery) {
		w.starts = starts{}
	}
	for name, center := range w.centers {
		if !center.fresh(now, 2*w.Every) {
			delete(w.centers, name)
		}
	}
	w.watching = true
	return true
}

// finished tells whether the last listener has left.
func (w *Wallboard) finished() bool {
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
	var sources sync.WaitGroup
	defer func() {
		cancel()
		sources.Wait()
	}()
	asked := map[string]context.CancelFunc{}
	ask := func(name string) context.CancelFunc {
		return w.source(ctx, &sources, func(ctx context.Context) time.Duration { return w.askCenter(ctx, name) }, w.centerDue(name))
	}
	w.centersChange(asked, ask)
	w.source(ctx, &sources, w.askStarts, w.startsDue())
	look := time.NewTicker(startsEvery) // at the configuration, which may have other contact centers
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			w.centersChange(asked, ask)
		case <-w.awake:
			if w.finished() {
				return
			}
		}
	}
}

// source asks again and again, after the pause that each answer leads to. The
// function that it returns ends that.
func (w *Wallboard) source(ctx context.Context, all *sync.WaitGroup, ask func(context.Context) time.Duration, pause time.Duration) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	all.Go(func() {
		defer cancel()
		timer := time.NewTimer(pause)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
				timer.Reset(ask(ctx))
			}
		}
	})
	return cancel
}

// centersChange makes those asked equal to the contact centers of the
// configuration.
func (w *Wallboard) centersChange(asked map[string]context.CancelFunc, ask func(name string) context.CancelFunc) {
	names := w.Centers.Names()
	for name, cancel := range asked {
		if !slices.Contains(names, name) {
			cancel()
			delete(asked, name)
		}
	}
	w.mu.Lock()
	changed := false
	for name := range w.centers {
		if !slices.Contains(names, name) {
			delete(w.centers, name)
			changed = true
		}
	}
	for _, name := range names {
		if w.centers[name] == nil {
			w.centers[name] = &liveCenter{source: source{LiveSource: LiveSource{State: LiveWaiting}}}
			changed = true
		}
	}
	if changed {
		w.update(nil)
	}
	w.mu.Unlock()
	for _, name := range names {
		if asked[name] == nil {
			asked[name] = ask(name)
		}
	}
}

// known tells whether every source has answered, or failed to, lately. The
// caller holds the lock.
func (w *Wallboard) known() bool {
	now := w.Now()
	if !w.starts.asked(now, startsEvery, w.watching) {
		return false
	}
	for _, name := range w.Centers.Names() {
		if center := w.centers[name]; center == nil || !center.asked(now, w.Every, w.watching) {
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
			w.over[c.CallID] = now
		}
	}
	maps.DeleteFunc(w.over, func(_ string, at time.Time) bool { return now.Sub(at) > staleAfter })
	w.view = w.merge()
	found, all := changes(before, w.view, stored)
	var events, whole []LiveEvent
	if !all {
		for _, c := range found {
			events = append(events, w.event(c.name, c.data))
		}
	}
	known := w.known()
	for n := range w.listeners {
		switch {
		case !n.primed && !known:
		case !n.primed || all:
			if whole == nil {
				whole = w.whole()
			}
			w.prime(n, whole)
		case len(events) > 0:
			w.send(n, events)
		}
	}
}

// whole is everything as one event. The caller holds the lock.
func (w *Wallboard) whole() []LiveEvent { return []LiveEvent{w.event("snapshot", w.view)} }

// prime hands the whole to a listener. The caller holds the lock.
func (w *Wallboard) prime(n *LiveListener, whole []LiveEvent) {
	n.primed = true
	w.send(n, whole)
}

// send never waits: a listener that is too far behind is let go. The caller
// holds the lock.
func (w *Wallboard) send(n *LiveListener, events []LiveEvent) {
	select {
	case n.events <- events:
	default:
		w.drop(n)
	}
}

func (w *Wallboard) event(name string, data any) LiveEvent {
	w.number++
	text, err := json.Marshal(data)
	if err != nil { // of texts, booleans and instants; but an instant may be beyond what JSON can say
		w.Logger.Error("a change cannot be told", slog.String("event", name), slog.Any("error", err))
		text = []byte("null")
	}
	return LiveEvent{ID: w.number, Name: name, Data: text}
}

// merge is the view of what the sources said last. The caller holds the lock.
func (w *Wallboard) merge() LiveView {
	now := w.Now()
	view := LiveView{
		At: now.UTC().Truncate(time.Millisecond), Decisions: w.starts.shown(), ContactCenters: []LiveCenter{}, Agents: []LiveAgent{},
		Truncated: w.starts.truncated,
	}
	var phones []agentCall
	for _, name := range slices.Sorted(maps.Keys(w.centers)) {
		center := w.centers[name]
		view.ContactCenters = append(view.ContactCenters, LiveCenter{Name: name, LiveSource: center.shown()})
		if center.stale(now) {
			continue
		}
		for _, p := range center.calls {
			if _, over := w.over[p.CallID]; over {
				continue
			}
			p.agent += len(view.Agents)
			phones = append(phones, p)
		}
		view.Agents = append(view.Agents, center.agents...)
	}
	var started []LiveCall
	if !w.starts.stale(now) {
		started = slices.Collect(maps.Values(w.starts.open))
	}
	view.Calls = mergeCalls(started, phones, view.Agents, w.ids)
	w.ids = make(map[string]string, len(started))
	for _, c := range view.Calls {
		if c.Decision != "" {
			w.ids[c.Decision] = c.ID
		}
	}
	return view
}
