package rules

import (
	"slices"

	"calltracker/phone"
)

// Set is a compiled Source. It is immutable and safe for concurrent use.
type Set struct {
	ids       []string // of the trackers, sorted
	routers   map[string]*Router
	schedules map[string]*schedule
	centers   map[string]*center
	regions   []string // sorted
}

// center is what the trackers of a contact center have in common.
type center struct {
	region string // "" if they disagree
	dids   didIndex
}

func newSet(routers map[string]*Router, schedules map[string]*schedule) *Set {
	s := &Set{ids: sortedKeys(routers), routers: routers, schedules: schedules, centers: map[string]*center{}}
	regions := map[string]bool{}
	for _, id := range s.ids {
		r := routers[id]
		if r.region != "" {
			regions[r.region] = true
		}
		c, known := s.centers[r.contactCenter]
		if !known {
			c = &center{region: r.region, dids: didIndex{}}
			s.centers[r.contactCenter] = c
		}
		if c.region != r.region {
			c.region = ""
		}
		for spelling, d := range r.dids {
			if _, taken := c.dids[spelling]; !taken { // the first tracker wins
				c.dids[spelling] = d
			}
		}
	}
	s.regions = sortedKeys(regions)
	return s
}

// Router returns the router of a tracker.
func (s *Set) Router(tracker string) (*Router, bool) {
	r, ok := s.routers[tracker]
	return r, ok
}

// Trackers returns the IDs of all trackers, sorted.
func (s *Set) Trackers() []string { return slices.Clone(s.ids) }

// Region returns the country whose national numbers the trackers of a contact
// center use, or "" if they disagree.
func (s *Set) Region(contactCenter string) string {
	if c, ok := s.centers[contactCenter]; ok {
		return c.region
	}
	return ""
}

// Regions returns the regions of all trackers, sorted.
func (s *Set) Regions() []string { return slices.Clone(s.regions) }

// Campaign returns the campaign of a DID that a tracker of the contact center
// lists, or "". If several trackers list it, the first by ID counts.
func (s *Set) Campaign(contactCenter string, n phone.Number) string {
	if c, ok := s.centers[contactCenter]; ok {
		if d := c.dids.find(n); d != nil {
			return d.campaign
		}
	}
	return ""
}
