package endurance

import (
	"crypto/sha256"
	"fmt"
	"sync"
)

// digest is that of a body.
type digest [sha256.Size]byte

// ledger is what was acknowledged: the bodies of each callID. It is safe for
// concurrent use.
type ledger struct {
	mu     sync.Mutex
	bodies map[string]map[digest]bool

	acknowledged int            // answers of 200
	statuses     map[int]int    // of all answers
	broken       int            // requests without an answer
	odd          map[string]int // answers that should not come, each with its count
}

func newLedger() *ledger {
	return &ledger{bodies: map[string]map[digest]bool{}, statuses: map[int]int{}, odd: map[string]int{}}
}

// enter notes an answer.
func (l *ledger) enter(callID string, body []byte, status int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[status]++
	switch status {
	case 200:
		l.acknowledged++
		if l.bodies[callID] == nil {
			l.bodies[callID] = map[digest]bool{}
		}
		l.bodies[callID][sha256.Sum256(body)] = true
	case 503:
	default:
		l.odd[fmt.Sprintf("%d %.200s", status, text)]++
	}
}

func (l *ledger) unanswered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken++
}

func (l *ledger) answers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledged
}

// found is what the server has: of each callID, how many calls, and how often
// each body.
type found struct {
	calls  int
	bodies map[digest]int
}

// verdict compares the ledger with what was found. What is there without an
// acknowledgement is fine: the answer may have been cut off.
func (l *ledger) verdict(all map[string]*found) (v Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.Acknowledged, v.Unanswered, v.Refused, v.Odd = len(l.bodies), l.broken, l.statuses[503], l.odd
	for callID, bodies := range l.bodies {
		call := all[callID]
		if call == nil {
			v.Lost++
			v.complain("%s was acknowledged and is not there", callID)
			continue
		}
		v.Found++
		for body := range bodies {
			if call.bodies[body] == 0 {
				v.Damaged++
				v.complain("%s: a body that was acknowledged is not there", callID)
			}
		}
	}
	for callID, call := range all {
		doubled := call.calls > 1
		for _, n := range call.bodies {
			doubled = doubled || n > 1
		}
		if doubled {
			v.Doubled++
			v.complain("%s is there %d times, or one of its bodies is", callID, call.calls)
		}
	}
	return v
}

func digestOf(body []byte) digest { return sha256.Sum256(body) }
