package ziwotest

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Simulation configures a simulated period. Every field may be zero.
type Simulation struct {
	From time.Time // start of virtual time; default now
	// Length is the length of virtual time. By default, the simulation runs until the
	// context ends, with calls at Rate.
	Length  time.Duration
	Calls   int       // number of calls, distributed over Length by Profile; default by Rate
	Rate    float64   // calls per hour of virtual time; default 60
	Profile []float64 // relative call volumes of equal parts of Length; default constant

	// Speed is the number of seconds of virtual time per second. By default, virtual
	// time passes as fast as the servers under test respond.
	Speed       float64
	Concurrency int // maximum concurrent requests; default 32

	Faults      Faults
	Format      CDRFormat // format of the posted CDRs; default a random one for each call
	HistoryOnly bool      // whether to send no requests, so that calls are only in the call history

	OnStart func(Call) // called when a call rings, concurrently
	OnEnd   func(Call) // called when a call has ended and its CDR was posted, concurrently
}

// BusinessDay returns the Profile of a day with 24 hours.
func BusinessDay() []float64 {
	return []float64{0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.6, 1.5, 4, 7, 8, 7.5, 6, 5, 5.5, 6.5, 7, 6, 4, 3, 2.5, 2, 1, 0.4}
}

// Report is the result of a simulation.
type Report struct {
	Calls      int            // number of calls that ended
	Starts     map[int]int    // number of start calls by HTTP status; 0 for no response
	Ends       map[int]int    // number of end calls by HTTP status; 0 for no response
	Results    map[string]int // number of calls by result
	Faults     map[string]int // number of injected faults by name
	Tests      int            // number of test calls
	Unreadable int            // number of truncated CDRs that a server accepted, each of which is stored as its own record
	Violations []string       // first violations of the protocol in answers to start calls
	Took       time.Duration  // real time
}

// event is an event in virtual time.
type event struct {
	at    time.Time
	order int
	start bool // whether a call starts; otherwise it ends or its CDR is posted
	call  *Call
	body  []byte // CDR to post; nil when the call ends
	last  bool   // whether this is the last event of the call
	fault string // fault of the delivery
	plan  *callPlan
}

// events is a heap of events in the order of virtual time.
type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *events) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// Simulate simulates calls. It returns when the last CDR was posted. If ctx ends
// earlier, it returns the error of ctx and the report so far. At least one number
// must route to a tracker. Simulations of one Ziwo must not overlap.
func (z *Ziwo) Simulate(ctx context.Context, s Simulation) (Report, error) {
	lines := z.lines()
	if len(lines) == 0 {
		return Report{}, errors.New("simulate: no number routes to a tracker")
	}
	if s.From.IsZero() {
		s.From = time.Now()
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 32
	}
	z.mu.Lock()
	before := z.callsStarted
	z.mu.Unlock()
	r := &runner{
		z: z, s: s, lines: lines, before: before,
		report: Report{Starts: map[int]int{}, Ends: map[int]int{}, Results: map[string]int{}, Faults: map[string]int{}},
	}
	r.scheduleArrivals()
	z.SetNow(s.From)
	began := time.Now()
	err := r.runEvents(ctx)
	r.report.Took = time.Since(began)
	z.mu.Lock()
	z.callsStarted += r.next
	z.mu.Unlock()
	return r.report, err
}

// line is a number that routes to a tracker.
type line struct {
	number  Number
	tracker Tracker
}

// lines returns the lines of trackers that are not blocked.
func (z *Ziwo) lines() []line {
	z.mu.Lock()
	defer z.mu.Unlock()
	var out []line
	for _, n := range z.numbers {
		if t := z.trackerByName(n.Tracker); t != nil && !t.Blocked {
			out = append(out, line{n, *t})
		}
	}
	return out
}

// runner is the state of a simulation.
type runner struct {
	z     *Ziwo
	s     Simulation
	lines []line

	starts []time.Time // start times of all calls; nil if calls arrive at Rate
	next   int         // index of the next call
	before int         // number of calls in earlier simulations
	rng    *rand.Rand  // source of the arrivals
	clock  time.Time   // start time of the next call if calls arrive at Rate

	queue events
	order int

	mu     sync.Mutex
	report Report
}

// scheduleArrivals sets the start times of the calls.
func (r *runner) scheduleArrivals() {
	r.rng = rand.New(rand.NewPCG(r.z.options.Seed, 2))
	r.clock = r.s.From
	if r.s.Length <= 0 || r.s.Calls <= 0 {
		return
	}
	profile := r.s.Profile
	if len(profile) == 0 {
		profile = []float64{1}
	}
	sums := make([]float64, len(profile)+1)
	for i, weight := range profile {
		sums[i+1] = sums[i] + weight
	}
	total := sums[len(profile)]
	r.starts = make([]time.Time, r.s.Calls)
	for i := range r.starts {
		mark := r.rng.Float64() * total
		below, _ := slices.BinarySearch(sums, mark)
		part := max(0, min(len(profile)-1, below-1))
		within := (mark - sums[part]) / max(profile[part], math.SmallestNonzeroFloat64)
		share := (float64(part) + within) / float64(len(profile))
		r.starts[i] = r.s.From.Add(time.Duration(share * float64(r.s.Length)))
	}
	slices.SortFunc(r.starts, time.Time.Compare)
}

// nextArrival returns the start time of the next call, or false if there is none.
func (r *runner) nextArrival() (time.Time, bool) {
	if r.starts != nil {
		if r.next >= len(r.starts) {
			return time.Time{}, false
		}
		return r.starts[r.next], true
	}
	if r.s.Length > 0 && r.clock.Sub(r.s.From) >= r.s.Length {
		return time.Time{}, false
	}
	return r.clock, true
}

// advanceArrival moves on to the following call.
func (r *runner) advanceArrival() {
	r.next++
	if r.starts == nil {
		perHour := r.s.Rate
		if perHour <= 0 {
			perHour = 60
		}
		r.clock = r.clock.Add(time.Duration(r.rng.ExpFloat64() / perHour * float64(time.Hour)))
	}
}

// runEvents handles all events in the order of virtual time. Workers send requests
// concurrently, so requests may end in a slightly different order.
func (r *runner) runEvents(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	jobs, results := make(chan event), make(chan []event, r.s.Concurrency)
	var workers sync.WaitGroup
	for range r.s.Concurrency {
		workers.Go(func() {
			for e := range jobs {
				results <- r.handle(ctx, e)
			}
		})
	}
	defer func() {
		cancel()
		close(jobs)
		go func() {
			workers.Wait()
			close(results)
		}()
		for range results {
		}
	}()
	began, busy := time.Now(), 0
	for {
		e, ok := r.nextEvent()
		if !ok && busy == 0 {
			return ctx.Err()
		}
		var ready chan event // jobs if e is due
		var wait <-chan time.Time
		var timer *time.Timer
		if ok {
			ready = jobs
			if r.s.Speed > 0 {
				due := began.Add(time.Duration(float64(e.at.Sub(r.s.From)) / r.s.Speed))
				if pause := time.Until(due); pause > 0 {
					ready, timer = nil, time.NewTimer(pause)
					wait = timer.C
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ready <- e:
			r.remove(e)
			busy++
		case followUps := <-results:
			busy--
			for _, next := range followUps {
				r.order++
				next.order = r.order
				heap.Push(&r.queue, next)
			}
		case <-wait:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// nextEvent returns the next event: the start of a call or the head of the queue.
func (r *runner) nextEvent() (event, bool) {
	at, more := r.nextArrival()
	if len(r.queue) > 0 && (!more || r.queue[0].at.Before(at)) {
		return r.queue[0], true
	}
	if !more {
		return event{}, false
	}
	return event{at: at, start: true, order: r.next}, true
}

// remove removes an event that nextEvent returned.
func (r *runner) remove(e event) {
	if e.start {
		r.advanceArrival()
		return
	}
	heap.Pop(&r.queue)
}

// handle handles an event and returns the events that follow from it.
func (r *runner) handle(ctx context.Context, e event) []event {
	r.z.advance(e.at)
	if e.start {
		return r.start(ctx, e)
	}
	return r.end(ctx, e)
}

// callPlan holds the random choices of a call.
type callPlan struct {
	rng      *rand.Rand
	line     line
	patience time.Duration // time until the caller hangs up
	faults   callFaults
	format   CDRFormat
}

// start starts a call, sends the start call and simulates the call until it ends.
func (r *runner) start(ctx context.Context, e event) []event {
	z := r.z
	rng := rand.New(rand.NewPCG(z.options.Seed, 1000+uint64(r.before+e.order)))
	plan := callPlan{rng: rng, line: r.lines[rng.IntN(len(r.lines))], patience: time.Duration(20+rng.IntN(90)) * time.Second, format: r.s.Format}
	if plan.format == "" {
		plan.format = []CDRFormat{Format2016, Format2026}[rng.IntN(2)]
	}
	c := &Call{
		ContactCenter: z.options.ContactCenter, Tracker: plan.line.tracker.Name, CallID: newCallID(rng), Direction: "inbound",
		DID: plan.line.number.E164, RawDID: plan.line.number.DIDCalled, StartedAt: e.at.UTC().Truncate(time.Second), Format: plan.format,
	}
	z.caller(rng, c)
	plan.faults = r.s.Faults.draw(rng)
	if plan.faults.test {
		z.TestCall(ctx, plan.line.tracker.Name)
	}
	answer := startAnswer{status: 200}
	if !r.s.HistoryOnly {
		answer = z.sendStart(ctx, plan.line.tracker, c, plan.faults)
	}
	c.StartStatus, c.Rules, c.Voicemail = answer.status, answer.rules, answer.voicemail
	if r.s.HistoryOnly {
		c.Rules = []Rule{{Action: "call", Number: "0501112233", Timeout: 15}, {Action: "call", Number: "045556677", Timeout: 20}}
		c.Voicemail = true
	}
	z.playCall(c, &plan)
	z.mu.Lock()
	z.live[c.CallID] = c
	if !r.s.HistoryOnly {
		z.logs = append(z.logs, logEntry{&plan.line.tracker, true, c, c.StartedAt, answer.status})
	}
	z.mu.Unlock()
	if r.s.OnStart != nil {
		r.s.OnStart(*c)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if plan.faults.test {
		r.report.Tests++
		r.report.Faults["test call"]++
	}
	if plan.faults.start != "" {
		r.report.Faults[plan.faults.start]++
	}
	r.report.Starts[answer.status]++
	const maxViolations = 20
	if answer.violation != "" && len(r.report.Violations) < maxViolations {
		r.report.Violations = append(r.report.Violations, answer.violation)
	}
	return []event{{at: c.EndedAt, call: c, plan: &plan}}
}

// caller sets the caller of c and the format of the number.
func (z *Ziwo) caller(rng *rand.Rand, c *Call) {
	customer := z.customers[rng.IntN(len(z.customers))]
	style := rng.IntN(20)
	c.Caller = customer.E164
	national, emirati := strings.CutPrefix(customer.E164, "+971")
	switch {
	case style == 0:
		c.Caller, c.RawCaller = "anonymous", "anonymous"
	case style < 4:
		c.RawCaller = "00" + customer.E164[1:]
	case style < 8 || !emirati:
		c.RawCaller = customer.E164
	default:
		c.RawCaller = "0" + national
	}
	c.CallerName = c.RawCaller
}

// playCall simulates the call by following its rules.
func (z *Ziwo) playCall(c *Call, plan *callPlan) {
	end := func(after time.Duration, result, cause, by string) {
		c.EndedAt = c.StartedAt.Add(after)
		c.Duration = int(after / time.Second)
		c.Result, c.HangupCause, c.HangupBy = result, cause, by
		if c.AnsweredAt.IsZero() {
			c.RingTime = c.Duration
			return
		}
		c.RingTime = int(c.AnsweredAt.Sub(c.StartedAt) / time.Second)
		c.TalkTime = c.Duration - c.RingTime
		c.RecordingFile = c.CallID + ".mp3"
		if plan.faults.lateRecording {
			c.RecordedAt = c.EndedAt.Add(time.Duration(2+plan.rng.IntN(28)) * time.Minute)
		}
	}
	if c.StartStatus != 200 {
		end(5*time.Second, "failed", "NORMAL_TEMPORARY_FAILURE", "originatee") // the error playback takes 5 seconds
		return
	}
	var elapsed time.Duration
	result, cause := "missed", "NO_ANSWER"
	for _, rule := range c.Rules {
		ring, reaction := react(plan.rng, rule)
		if elapsed+ring > plan.patience {
			end(plan.patience, "missed", "ORIGINATOR_CANCEL", "originator")
			return
		}
		elapsed += ring
		switch reaction {
		case reactionAnswer:
			c.AnsweredAt = c.StartedAt.Add(elapsed)
			c.Position = rule.Number
			talk := time.Duration(8+plan.rng.IntN(400)) * time.Second
			if plan.rng.IntN(3) == 0 {
				c.HoldTime = plan.rng.IntN(int(talk/time.Second)/2 + 1)
			}
			by := "originatee"
			if plan.rng.IntN(2) == 0 {
				by = "originator"
			}
			end(elapsed+talk, "answered", "NORMAL_CLEARING", by)
			if plan.rng.IntN(2) == 0 {
				agent := &z.agents[plan.rng.IntN(len(z.agents))]
				c.Agent, c.answeredBy = agent.CCLogin, agent
			}
			return
		case reactionBusy:
			result, cause = "busy", "USER_BUSY"
		case reactionDecline:
			result, cause = "failed", "CALL_REJECTED"
		default:
			result, cause = "missed", "NO_ANSWER"
		}
	}
	if c.Voicemail {
		c.AnsweredAt = c.StartedAt.Add(elapsed + time.Second)
		end(elapsed+time.Second+time.Duration(4+plan.rng.IntN(50))*time.Second, "voicemail", "NORMAL_CLEARING", "originator")
		return
	}
	end(elapsed+time.Second, result, cause, "originatee")
}

// reaction is the reaction of a person whose phone rings.
type reaction uint8

const (
	reactionMiss reaction = iota
	reactionAnswer
	reactionBusy
	reactionDecline
)

// react returns how long a phone rings, and the reaction.
func react(rng *rand.Rand, rule Rule) (ring time.Duration, result reaction) {
	timeout := max(rule.Timeout, 1)
	percentile, delay := rng.IntN(100), 1+rng.IntN(timeout)
	switch {
	case percentile < 55:
		return time.Duration(delay) * time.Second, reactionAnswer
	case percentile < 63:
		return time.Second, reactionBusy
	case percentile < 70:
		return time.Duration(delay) * time.Second, reactionDecline
	default:
		return time.Duration(timeout) * time.Second, reactionMiss
	}
}

// end handles the end of a call and the deliveries of its CDR.
func (r *runner) end(ctx context.Context, e event) []event {
	c, plan := e.call, e.plan
	if e.body == nil {
		r.finish(c, plan)
		return r.deliveries(c, plan)
	}
	d := r.z.sendEnd(ctx, plan.line.tracker, e.body, plan.faults.with(e.fault))
	r.z.mu.Lock()
	c.Deliveries = append(c.Deliveries, d)
	r.z.mu.Unlock()
	r.mu.Lock()
	r.report.Ends[d.Status]++
	if d.Fault == "truncated" && d.Status == 200 {
		r.report.Unreadable++
	}
	r.mu.Unlock()
	if e.last && r.s.OnEnd != nil {
		r.z.mu.Lock()
		call := *c
		r.z.mu.Unlock()
		r.s.OnEnd(call)
	}
	return nil
}

// finish adds an ended call to the history and the report.
func (r *runner) finish(c *Call, plan *callPlan) {
	r.z.mu.Lock()
	r.z.addToHistory(c)
	if !r.s.HistoryOnly {
		r.z.logs = append(r.z.logs, logEntry{&plan.line.tracker, false, c, c.EndedAt, 0})
	}
	r.z.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Calls++
	r.report.Results[c.Result]++
	for _, fault := range plan.faults.names() {
		r.report.Faults[fault]++
	}
}

// deliveries returns the events that post the CDR, according to its faults.
func (r *runner) deliveries(c *Call, plan *callPlan) []event {
	if r.s.HistoryOnly || plan.faults.drop {
		if r.s.OnEnd != nil {
			r.s.OnEnd(*c)
		}
		return nil
	}
	recorded := c.RecordedAt.IsZero()
	write := c.cdr2016
	if plan.format == Format2026 {
		write = c.cdr2026
	}
	body := write(recorded)
	at := c.EndedAt.Add(plan.faults.delay)
	out := []event{{at: at, call: c, plan: plan, fault: plan.faults.end, body: plan.faults.apply(body, plan.rng), last: !plan.faults.duplicate}}
	if plan.faults.duplicate {
		again := out[0]
		again.at, again.last = at.Add(time.Duration(plan.rng.IntN(120))*time.Second), true
		out = append(out, again)
	}
	return out
}

// newCallID returns a call ID in the form of a UUID version 4.
func newCallID(rng *rand.Rand) string {
	a, b := rng.Uint64(), rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48)&0xfff, 0x8000|uint16(b)&0x3fff, b>>16)
}

// startAnswer is the answer of a server to a start call.
type startAnswer struct {
	status    int // HTTP status; 0 if there was no valid response
	rules     []Rule
	voicemail bool
	violation string // violation of the protocol; empty if there is none
}

// parseStartAnswer parses an answer as strictly as the platform might.
func (z *Ziwo) parseStartAnswer(didCalled string, status int, body []byte) startAnswer {
	a := startAnswer{status: status}
	if status != 200 {
		return a
	}
	var envelope struct {
		Result  bool                       `json:"result"`
		Content map[string]json.RawMessage `json:"content"`
		Info    map[string]any             `json:"info"`
	}
	var echoed string
	invalid := func(format string, args ...any) startAnswer {
		a.violation = fmt.Sprintf(format, args...)
		a.status = 0
		return a
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return invalid("the answer is not valid JSON of the protocol: %v", err)
	}
	if !envelope.Result || envelope.Info == nil {
		return invalid("the answer has no result or no info")
	}
	if err := json.Unmarshal(envelope.Content["didCalled"], &echoed); err != nil || echoed != didCalled {
		return invalid("the answer has didCalled %q, want %q", echoed, didCalled)
	}
	if err := json.Unmarshal(envelope.Content["rules"], &a.rules); err != nil || a.rules == nil {
		return invalid("rules is not an array: %v", err)
	}
	for i, rule := range a.rules {
		if rule.Action != "call" || rule.Number == "" || rule.Timeout < 1 {
			return invalid("rule %d is invalid", i)
		}
	}
	if flag, ok := envelope.Content[z.options.VoicemailField]; ok {
		if err := json.Unmarshal(flag, &a.voicemail); err != nil {
			return invalid("the voicemail flag is not a boolean")
		}
	}
	return a
}
