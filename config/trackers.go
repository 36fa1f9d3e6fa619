package config

import (
	"time"

	"calltracker/phone"
	"calltracker/rules"
)

// ActiveTracker is a tracker of the active configuration. It is immutable.
type ActiveTracker struct {
	Version            int64 // version of the configuration
	Router             *rules.Router
	StartKeys, EndKeys KeyRing
	CustomerTimeout    time.Duration // maximum time that a start call waits for a customer lookup
	Blocked            bool          // whether start calls are refused
}

// Origin returns the origin of the CDRs that Ziwo sends to this tracker.
func (t *ActiveTracker) Origin() Origin {
	return Origin{Tracker: t.Router.ID(), ContactCenter: t.Router.ContactCenter(), Region: t.Router.Region(), campaign: t.Router.Campaign}
}

// activeTrackers returns the trackers of a document by ID.
func activeTrackers(version int64, doc *Document, set *rules.Set) map[string]*ActiveTracker {
	ids := set.Trackers()
	trackers := make(map[string]*ActiveTracker, len(ids))
	for _, id := range ids {
		router, _ := set.Router(id) // every ID of the set has a router
		tracker := doc.Trackers[id]
		trackers[id] = &ActiveTracker{
			Version: version, Router: router, StartKeys: tracker.Keys.Start.Ring(), EndKeys: tracker.Keys.End.Ring(),
			CustomerTimeout: tracker.CustomerTimeout(), Blocked: tracker.Blocked,
		}
	}
	return trackers
}

// Origin is the source of a CDR. It determines how the numbers in the CDR are parsed.
type Origin struct {
	Tracker       string // "" if the sender names no tracker
	ContactCenter string
	Region        string // region of national numbers, or ""

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
