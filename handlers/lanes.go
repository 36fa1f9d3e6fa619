package handlers

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"calltracker/config"
	"calltracker/rules"
)

// lane is a tracker in force, with what each of its calls would have to look up.
type lane struct {
	router          *rules.Router
	decided         []atomic.Uint64 // calls, by route
	start, end      config.KeyRing
	customerTimeout time.Duration
	blocked         bool
}

// lanes finds the lane of a tracker in fewer steps through memory than a map:
// with thousands of trackers each step is one that waits.
type lanes struct {
	seed  maphash.Seed
	table []laneSlot // open addressing, at most half full; its length is a power of two
}

type laneSlot struct {
	tag uint64 // a hash of the tracker's id; 0 when the slot is free
	lane
}

func newLanes(doc *config.Document, set *rules.Set, metrics *Metrics) lanes {
	ids := set.Trackers()
	size := 1
	for size < 2*len(ids) {
		size *= 2
	}
	l := lanes{seed: maphash.MakeSeed(), table: make([]laneSlot, size)}
	for _, id := range ids {
		router, _ := set.Router(id) // it is one of the set's
		tag := l.tag(id)
		at := tag
		for l.slot(at).tag != 0 {
			at++
		}
		tracker := doc.Trackers[id]
		*l.slot(at) = laneSlot{tag, lane{
			router: router, decided: metrics.tally(router).counts,
			start: tracker.Keys.Start.Ring(), end: tracker.Keys.End.Ring(),
			customerTimeout: tracker.CustomerTimeout(), blocked: tracker.Blocked,
		}}
	}
	return l
}

func (l *lanes) tag(tracker string) uint64 { return maphash.String(l.seed, tracker) | 1<<63 }

func (l *lanes) slot(at uint64) *laneSlot { return &l.table[at&uint64(len(l.table)-1)] }

func (l *lanes) find(tracker string) (lane, bool) {
	tag := l.tag(tracker)
	for at := tag; ; at++ {
		switch s := l.slot(at); s.tag {
		case 0:
			return lane{}, false
		case tag:
			if s.router.ID() == tracker {
				return s.lane, true
			}
		}
	}
}
