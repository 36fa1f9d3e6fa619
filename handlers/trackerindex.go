package handlers

import (
	"sync/atomic"
	"time"

	"calltracker/config"
	"calltracker/rules"
)

// trackerIndex finds the trackers of a configuration by id.
type trackerIndex map[string]*liveTracker

// liveTracker is a tracker in force: all that its calls need. It is immutable,
// except for the counters.
type liveTracker struct {
	router          *rules.Router
	decided         []atomic.Uint64 // start calls answered, by route
	startKeys       config.KeyRing
	endKeys         config.KeyRing
	customerTimeout time.Duration
	blocked         bool
}

func newTrackerIndex(doc *config.Document, set *rules.Set, metrics *Metrics) trackerIndex {
	index := make(trackerIndex, len(doc.Trackers))
	for id, tracker := range doc.Trackers {
		router, _ := set.Router(id) // the set is compiled from the document
		index[id] = &liveTracker{
			router: router, decided: metrics.tally(router).counts,
			startKeys: tracker.Keys.Start.Ring(), endKeys: tracker.Keys.End.Ring(),
			customerTimeout: tracker.CustomerTimeout(), blocked: tracker.Blocked,
		}
	}
	return index
}
