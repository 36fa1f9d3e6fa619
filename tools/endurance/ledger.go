package endurance

import (
	"crypto/sha256"
	"fmt"
	"sync"
)

// digest is the SHA-256 digest of a body.
type digest [sha256.Size]byte

// ledger records which bodies of each callID were acknowledged. It is safe for
// concurrent use.
type ledger struct {
	mu     sync.Mutex
	bodies map[string]map[digest]bool

	acknowledged int            // 200 answers
	statuses     map[int]int    // number of answers by status
	broken       int            // requests without an answer
	unexpected   map[string]int // number of answers other than 200 and 503
}

func newLedger() *ledger {
	return &ledger{bodies: map[string]map[digest]bool{}, statuses: map[int]int{}, unexpected: map[string]int{}}
}

// record records an answer.
func (l *ledger) record(callID string, body []byte, status int, text string) {
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
		l.unexpected[fmt.Sprintf("%d %.200s", status, text)]++
	}
}

// unanswered records a request without an answer.
func (l *ledger) unanswered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken++
}

// answers returns the number of 200 answers.
func (l *ledger) answers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledged
}

// storedCopies has the number of stored calls with one callID, and of each of their
// bodies.
type storedCopies struct {
	calls  int
	bodies map[digest]int
}

// verdict compares the ledger with the stored calls. A stored call without an
// acknowledgment is not an error: the answer may have been lost.
func (l *ledger) verdict(all map[string]*storedCopies) (v CrashVerdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.Acknowledged, v.Unanswered, v.Unavailable, v.Unexpected = len(l.bodies), l.broken, l.statuses[503], l.unexpected
	for callID, bodies := range l.bodies {
		call := all[callID]
		if call == nil {
			v.Lost++
			v.complain("call %s was acknowledged but is not stored", callID)
			continue
		}
		v.Found++
		for body := range bodies {
			if call.bodies[body] == 0 {
				v.Damaged++
				v.complain("call %s: an acknowledged body is not stored", callID)
			}
		}
	}
	for callID, call := range all {
		duplicated := call.calls > 1
		for _, n := range call.bodies {
			duplicated = duplicated || n > 1
		}
		if duplicated {
			v.Duplicated++
			v.complain("call %s is stored %d times, or one of its bodies is stored more than once", callID, call.calls)
		}
	}
	return v
}

func digestOf(body []byte) digest { return sha256.Sum256(body) }
