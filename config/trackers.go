package config

import (
	"time"

	"calltracker/phone"
	"calltracker/rules"
)

// ActiveTracker is a tracker of the configuration in force. It is immutable.
type ActiveTracker struct {
	Version            int64 // of the configuration
	Router             *rules.Router
	StartKeys, EndKeys KeyRing
	CustomerTimeout    time.Duration // how long a start call waits for customer lookups
	Blocked            bool          // start calls are refused
}

// Origin returns the origin of the CDRs that Ziwo sends to this tracker.
func (t *ActiveTracker) Origin() Origin {
	return Origin{Tracker: t.Router.ID(), ContactCenter: t.Router.ContactCenter(), Region: t.Router.Region(), campaign: t.Router.Campaign}
}

// activeTrackers returns the trackers of a document by their id.
func activeTrackers(version int64, doc *Document, set *rules.Set) map[string]*ActiveTracker {
	ids := set.Trackers()
	trackers := make(map[string]*ActiveTracker, len(ids))
	for _, id := range ids {
		router, _ := set.Router(id) // every id of the set has one
		tracker := doc.Trackers[id]
		trackers[id] = &ActiveTracker{
			Version: version, Router: router, StartKeys: tracker.Keys.Start.Ring(), EndKeys: tracker.Keys.End.Ring(),
			CustomerTimeout: tracker.CustomerTimeout(), Blocked: tracker.Blocked,
		}
	}
	return trackers
}

// Origin identifies where a CDR comes from, and with it how its numbers are
// read.
type Origin struct {
	Tracker       string // "" if the sender names none
	ContactCenter string
	Region        string // country of national numbers, or ""

	campaign func(did phone.Number) string
}

// Campaign returns the campaign of a DID, or "".
func (o Origin) Campaign(did phone.Number) string { return o.campaign(did) }

// Origin returns the origin of CDRs of a contact center that name no tracker.
func (s *Snapshot) Origin(contactCenter string) Origin {
	return Origin{
		ContactCenter: contactCenter, Region: s.Set.Region(contactCenter),
		campaign: func(did phone.Number) string { return s.Set.Campaign(contactCenter, did) },
	}
}
