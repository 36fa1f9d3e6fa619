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
	"sync"
	"time"
)

// Simulation is a span of calls. The zero value of each field but From is
// sensible.
type Simulation struct {
	From time.Time // the first instant of virtual time; zero: the real clock's now
	// Length is how much virtual time there is; zero: until the context ends,
	// with calls at Rate.
	Length  time.Duration
	Calls   int       // spread over Length by Profile; zero: by Rate
	Rate    float64   // calls in an hour of virtual time; zero: 60
	Profile []float64 // weights of equal parts of Length; empty: even

	// Speed is how many seconds of virtual time pass in a second; zero: as many
	// as the servers under test can take.
	Speed       float64
	Concurrency int // requests at a time; zero: 32

	Faults Faults
	Form   Form // of the records that are posted; empty: each call its own
	Silent bool // nobody is told: the calls stand in Ziwo's history only

	OnStart func(Call) // a call rings; called from several goroutines
	OnEnd   func(Call) // a call has ended and its record was posted
}

// BusinessDay is a profile of the 24 hours of a day.
func BusinessDay() []float64 {
	return []float64{0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.6, 1.5, 4, 7, 8, 7.5, 6, 5, 5.5, 6.5, 7, 6, 4, 3, 2.5, 2, 1, 0.4}
}

// Report is what came of a simulation.
type Report struct {
	Calls      int            // that ended
	Starts     map[int]int    // start calls by status; 0: no answer
	Ends       map[int]int    // end calls by status; 0: no answer
	Results    map[string]int // of the calls
	Faults     map[string]int // that were made
	Tests      int            // test calls
	Unreadable int            // cut records that were taken with 200: each is a record of its own
	Violations []string       // answers to start calls that Ziwo could not follow; the first few
	Took       time.Duration  // of real time
}

// event is something that happens at an instant of virtual time.
type event struct {
	at    time.Time
	order int
	start bool
	call  *Call
	body  []byte
	last  bool // of its call
	fault string
	fate  *fate
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push is for container/heap.
func (q *events) Push(x any) { *q = append(*q, x.(event)) }

// Pop is for container/heap.
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// Simulate lives through calls and returns when the last record was posted, or
// when ctx ends, whose error it then returns with what came of it so far. At
// least one number must lead to a tracker. Simulations of one Ziwo run one
// after the other.
func (z *Ziwo) Simulate(ctx context.Context, s Simulation) (Report, error) {
	lines := z.lines()
	if len(lines) == 0 {
		return Report{}, errors.New("simulate: no number leads to a tracker")
	}
	if s.From.IsZero() {
		s.From = time.Now()
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 32
	}
	z.mu.Lock()
	before := z.begun
	z.mu.Unlock()
	r := &run{
		z: z, s: s, lines: lines, before: before,
		report: Report{Starts: map[int]int{}, Ends: map[int]int{}, Results: map[string]int{}, Faults: map[string]int{}},
	}
	r.arrivals()
	z.SetNow(s.From)
	began := time.Now()
	err := r.all(ctx)
	r.report.Took = time.Since(began)
	z.mu.Lock()
	z.begun += r.next
	z.mu.Unlock()
	return r.report, err
}

// line is a number that leads to a tracker.
type line struct {
	number  Number
	tracker Tracker
}

func (z *Ziwo) lines() []line {
	z.mu.Lock()
	defer z.mu.Unlock()
	var out []line
	for _, n := range z.numbers {
		if t := z.trackerNamed(n.Tracker); t != nil && !t.Blocked {
			out = append(out, line{n, *t})
		}
	}
	return out
}

// run is a simulation under way.
type run struct {
	z     *Ziwo
	s     Simulation
	lines []line

	at     []time.Time // of the calls, when their number is known
	next   int         // index of the next call
	before int         // calls of the simulations before
	rng    *rand.Rand  // of the gaps, when it is not
	clock  time.Time   // of the next call then

	queue events
	order int

	mu     sync.Mutex
	report Report
}

// arrivals decides when the calls come.
func (r *run) arrivals() {
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
	whole := sums[len(profile)]
	r.at = make([]time.Time, r.s.Calls)
	for i := range r.at {
		mark := r.rng.Float64() * whole
		part := max(0, min(len(profile)-1, countBelow(sums, mark)-1))
		within := (mark - sums[part]) / max(profile[part], math.SmallestNonzeroFloat64)
		share := (float64(part) + within) / float64(len(profile))
		r.at[i] = r.s.From.Add(time.Duration(share * float64(r.s.Length)))
	}
	slices.SortFunc(r.at, time.Time.Compare)
}

func countBelow(sums []float64, mark float64) int {
	n, _ := slices.BinarySearch(sums, mark)
	return n
}

// arrival is the instant of the next call; false when there is none.
func (r *run) arrival() (time.Time, bool) {
	if r.at != nil {
		if r.next >= len(r.at) {
			return time.Time{}, false
		}
		return r.at[r.next], true
	}
	if r.s.Length > 0 && r.clock.Sub(r.s.From) >= r.s.Length {
		return time.Time{}, false
	}
	return r.clock, true
}

// arrived moves on to the call after the next.
func (r *run) arrived() {
	r.next++
	if r.at == nil {
		perHour := r.s.Rate
		if perHour <= 0 {
			perHour = 60
		}
		r.clock = r.clock.Add(time.Duration(r.rng.ExpFloat64() / perHour * float64(time.Hour)))
	}
}

// done is what a worker gives back: events that follow.
type done []event

// all lets everything happen in the order of virtual time. Requests are under
// way side by side, so that their ends may differ a little from it.
func (r *run) all(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	jobs, results := make(chan event), make(chan done, r.s.Concurrency)
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
		e, ok := r.upcoming()
		if !ok && busy == 0 {
			return ctx.Err()
		}
		var out chan event
		var wait <-chan time.Time
		var timer *time.Timer
		if ok {
			out = jobs
			if r.s.Speed > 0 {
				due := began.Add(time.Duration(float64(e.at.Sub(r.s.From)) / r.s.Speed))
				if pause := time.Until(due); pause > 0 {
					out, timer = nil, time.NewTimer(pause)
					wait = timer.C
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case out <- e:
			r.taken(e)
			busy++
		case after := <-results:
			busy--
			for _, next := range after {
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

// upcoming is what happens next: the next call, or what waits for its instant.
func (r *run) upcoming() (event, bool) {
	at, more := r.arrival()
	if len(r.queue) > 0 && (!more || r.queue[0].at.Before(at)) {
		return r.queue[0], true
	}
	if !more {
		return event{}, false
	}
	return event{at: at, start: true, order: r.next}, true
}

func (r *run) taken(e event) {
	if e.start {
		r.arrived()
		return
	}
	heap.Pop(&r.queue)
}

func (r *run) handle(ctx context.Context, e event) done {
	r.z.advance(e.at)
	if e.start {
		return r.start(ctx, e)
	}
	return r.end(ctx, e)
}

// fate is all that is decided about a call before it begins.
type fate struct {
	rng      *rand.Rand
	line     line
	patience time.Duration // of the caller
	faults   faults
	form     Form
}

// start lets a caller dial, asks where the call goes and lives through it.
func (r *run) start(ctx context.Context, e event) done {
	z := r.z
	rng := rand.New(rand.NewPCG(z.options.Seed, 1000+uint64(r.before+e.order)))
	f := fate{rng: rng, line: r.lines[rng.IntN(len(r.lines))], patience: time.Duration(20+rng.IntN(90)) * time.Second, form: r.s.Form}
	if f.form == "" {
		f.form = []Form{Form2016, Form2026}[rng.IntN(2)]
	}
	c := &Call{
		ContactCenter: z.options.ContactCenter, Tracker: f.line.tracker.Name, CallID: newCallID(rng), Direction: "inbound",
		DID: f.line.number.E164, RawDID: f.line.number.Called, StartedAt: e.at.UTC().Truncate(time.Second), Form: f.form,
	}
	z.caller(rng, c)
	f.faults = r.s.Faults.draw(rng)
	if f.faults.test {
		z.TestCall(ctx, f.line.tracker.Name)
	}
	answer := startAnswer{status: 200}
	if !r.s.Silent {
		answer = z.askStart(ctx, f.line.tracker, c, f.faults)
	}
	c.StartStatus, c.Rules, c.Voicemail = answer.status, answer.rules, answer.voicemail
	if r.s.Silent {
		c.Rules = []Rule{{Action: "call", Number: "0501112233", Timeout: 15}, {Action: "call", Number: "045556677", Timeout: 20}}
		c.Voicemail = true
	}
	z.liveThrough(c, &f)
	z.mu.Lock()
	z.live[c.CallID] = c
	if !r.s.Silent {
		z.logs = append(z.logs, logEntry{&f.line.tracker, true, c, c.StartedAt, answer.status})
	}
	z.mu.Unlock()
	if r.s.OnStart != nil {
		r.s.OnStart(*c)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if f.faults.test {
		r.report.Tests++
		r.report.Faults["test call"]++
	}
	if f.faults.start != "" {
		r.report.Faults[f.faults.start]++
	}
	r.report.Starts[answer.status]++
	const shown = 20
	if answer.violation != "" && len(r.report.Violations) < shown {
		r.report.Violations = append(r.report.Violations, answer.violation)
	}
	return done{{at: c.EndedAt, call: c, fate: &f}}
}

// caller decides who calls, and how the number is written.
func (z *Ziwo) caller(rng *rand.Rand, c *Call) {
	who := z.customers[rng.IntN(len(z.customers))]
	style := rng.IntN(20)
	c.Caller = who.E164
	national, emirati := cutCountry(who.E164, "+971")
	switch {
	case style == 0:
		c.Caller, c.RawCaller = "anonymous", "anonymous"
	case style < 4:
		c.RawCaller = "00" + who.E164[1:]
	case style < 8 || !emirati:
		c.RawCaller = who.E164
	default:
		c.RawCaller = "0" + national
	}
	c.CallerName = c.RawCaller
}

func cutCountry(e164, code string) (string, bool) {
	if len(e164) > len(code) && e164[:len(code)] == code {
		return e164[len(code):], true
	}
	return e164, false
}

// liveThrough walks the rules of the answer with people.
func (z *Ziwo) liveThrough(c *Call, f *fate) {
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
		if f.faults.lateRecording {
			c.RecordedAt = c.EndedAt.Add(time.Duration(2+f.rng.IntN(28)) * time.Minute)
		}
	}
	if c.StartStatus != 200 {
		end(5*time.Second, "failed", "NORMAL_TEMPORARY_FAILURE", "originatee") // after the error playback
		return
	}
	var passed time.Duration
	last, cause := "missed", "NO_ANSWER"
	for _, rule := range c.Rules {
		ring, does := person(f.rng, rule)
		if passed+ring > f.patience {
			end(f.patience, "missed", "ORIGINATOR_CANCEL", "originator")
			return
		}
		passed += ring
		switch does {
		case answers:
			c.AnsweredAt = c.StartedAt.Add(passed)
			c.Position = rule.Number
			talk := time.Duration(8+f.rng.IntN(400)) * time.Second
			if f.rng.IntN(3) == 0 {
				c.HoldTime = f.rng.IntN(int(talk/time.Second)/2 + 1)
			}
			by := "originatee"
			if f.rng.IntN(2) == 0 {
				by = "originator"
			}
			end(passed+talk, "answered", "NORMAL_CLEARING", by)
			if f.rng.IntN(2) == 0 {
				agent := &z.agents[f.rng.IntN(len(z.agents))]
				c.Agent, c.talk = agent.CCLogin, agent
			}
			return
		case isBusy:
			last, cause = "busy", "USER_BUSY"
		case declines:
			last, cause = "failed", "CALL_REJECTED"
		default:
			last, cause = "missed", "NO_ANSWER"
		}
	}
	if c.Voicemail {
		c.AnsweredAt = c.StartedAt.Add(passed + time.Second)
		end(passed+time.Second+time.Duration(4+f.rng.IntN(50))*time.Second, "voicemail", "NORMAL_CLEARING", "originator")
		return
	}
	end(passed+time.Second, last, cause, "originatee")
}

// reaction is what somebody whose phone rings does.
type reaction uint8

const (
	misses reaction = iota
	answers
	isBusy
	declines
)

func person(rng *rand.Rand, rule Rule) (ring time.Duration, does reaction) {
	timeout := max(rule.Timeout, 1)
	mood, delay := rng.IntN(100), 1+rng.IntN(timeout)
	switch {
	case mood < 55:
		return time.Duration(delay) * time.Second, answers
	case mood < 63:
		return time.Second, isBusy
	case mood < 70:
		return time.Duration(delay) * time.Second, declines
	default:
		return time.Duration(timeout) * time.Second, misses
	}
}

// end writes the record of a call into the history and posts it, once or as
// often as the faults want.
func (r *run) end(ctx context.Context, e event) done {
	c, f := e.call, e.fate
	if e.body == nil {
		r.finish(c, f)
		return r.deliveries(c, f)
	}
	d := r.z.postEnd(ctx, f.line.tracker, e.body, f.faults.with(e.fault))
	r.z.mu.Lock()
	c.Ends = append(c.Ends, d)
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

func (r *run) finish(c *Call, f *fate) {
	r.z.mu.Lock()
	r.z.keep(c)
	if !r.s.Silent {
		r.z.logs = append(r.z.logs, logEntry{&f.line.tracker, false, c, c.EndedAt, 0})
	}
	r.z.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Calls++
	r.report.Results[c.Result]++
	for _, fault := range f.faults.names() {
		r.report.Faults[fault]++
	}
}

// deliveries are when and how the record is posted.
func (r *run) deliveries(c *Call, f *fate) done {
	if r.s.Silent || f.faults.drop {
		if r.s.OnEnd != nil {
			r.s.OnEnd(*c)
		}
		return nil
	}
	recorded := c.RecordedAt.IsZero()
	write := c.page2016
	if f.form == Form2026 {
		write = c.today
	}
	body := write(recorded)
	at := c.EndedAt.Add(f.faults.delay)
	out := done{{at: at, call: c, fate: f, fault: f.faults.end, body: f.faults.write(body, f.rng), last: !f.faults.duplicate}}
	if f.faults.duplicate {
		again := out[0]
		again.at, again.last = at.Add(time.Duration(f.rng.IntN(120))*time.Second), true
		out = append(out, again)
	}
	return out
}

// newCallID makes ids in the form of UUIDs (version 4).
func newCallID(rng *rand.Rand) string {
	a, b := rng.Uint64(), rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a), uint16(a>>32), uint16(a>>48)&0xfff, 0x8000|uint16(b)&0x3fff, b>>16)
}

// startAnswer is what a server answered to a start call.
type startAnswer struct {
	status    int // 0: none
	rules     []Rule
	voicemail bool
	violation string
}

// readStart reads an answer as strictly as a platform might.
func (z *Ziwo) readStart(didCalled string, status int, body []byte) startAnswer {
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
	bad := func(format string, args ...any) startAnswer {
		a.violation = fmt.Sprintf(format, args...)
		a.status = 0
		return a
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return bad("the answer is not the JSON that was agreed: %v", err)
	}
	if !envelope.Result || envelope.Info == nil {
		return bad("the answer has no result, or no info")
	}
	if err := json.Unmarshal(envelope.Content["didCalled"], &echoed); err != nil || echoed != didCalled {
		return bad("didCalled came back as %q instead of %q", echoed, didCalled)
	}
	if err := json.Unmarshal(envelope.Content["rules"], &a.rules); err != nil || a.rules == nil {
		return bad("rules are no list: %v", err)
	}
	for i, rule := range a.rules {
		if rule.Action != "call" || rule.Number == "" || rule.Timeout < 1 {
			return bad("rule %d cannot be followed", i)
		}
	}
	if flag, ok := envelope.Content[z.options.VoicemailField]; ok {
		if err := json.Unmarshal(flag, &a.voicemail); err != nil {
			return bad("the voicemail flag is no boolean")
		}
	}
	return a
}
