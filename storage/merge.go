package storage

import (
	"slices"
	"strings"
	"time"
)

// Merge is what is known of a call after another body of it came: every fact
// of either, and where they differ that of the better body. A readable body is
// better than an unreadable one; else the one that was written later, if both
// say when (RevisedAt); else incoming, the later one to arrive.
//
// Two things do not follow that rule, so that knowledge only grows. A call that
// was answered or went to voicemail stays so: one party's late "missed" does
// not undo it. And a number that could be read is kept against one that could
// not, since the same number may come without the region that explains it.
//
// The identity of the call (ID, Key, ContactCenter, Decision and Route) is that
// of known, and ReceivedAt the earlier of the two.
func Merge(known, incoming Call) Call {
	if better(known, incoming) {
		return join(known, incoming, known)
	}
	return join(incoming, known, known)
}

// Complete is Merge for a body that had been merged before: it fills what is
// blank in known and wins no conflict, so that a body sent again does not undo
// what came after it.
func Complete(known, repeated Call) Call { return join(known, repeated, known) }

// better tells whether known wins conflicts against incoming.
func better(known, incoming Call) bool {
	if readable := known.Result != Unreadable; readable != (incoming.Result != Unreadable) {
		return readable
	}
	return !known.RevisedAt.IsZero() && !incoming.RevisedAt.IsZero() && known.RevisedAt.After(incoming.RevisedAt)
}

// join takes each field from winner, or from loser where winner has none, and
// the identity from known.
func join(winner, loser, known Call) Call {
	c := winner
	c.ID, c.Key, c.ContactCenter = known.ID, known.Key, known.ContactCenter
	c.Decision, c.Route = known.Decision, known.Route

	c.Tracker = either(winner.Tracker, loser.Tracker)
	c.CallID = either(winner.CallID, loser.CallID)
	c.Direction = either(winner.Direction, loser.Direction)
	c.DID, c.RawDID = number(winner.DID, winner.RawDID, loser.DID, loser.RawDID)
	c.Caller, c.RawCaller = number(winner.Caller, winner.RawCaller, loser.Caller, loser.RawCaller)
	c.CallerName = either(winner.CallerName, loser.CallerName)
	c.StartedAt = instant(winner.StartedAt, loser.StartedAt)
	c.AnsweredAt = instant(winner.AnsweredAt, loser.AnsweredAt)
	c.EndedAt = instant(winner.EndedAt, loser.EndedAt)
	c.Duration = either(winner.Duration, loser.Duration)
	c.RingTime = either(winner.RingTime, loser.RingTime)
	c.TalkTime = either(winner.TalkTime, loser.TalkTime)
	c.HoldTime = either(winner.HoldTime, loser.HoldTime)
	if finality(loser.Result) > finality(winner.Result) {
		c.Result = loser.Result
	}
	c.HangupCause = either(winner.HangupCause, loser.HangupCause)
	c.HangupBy = either(winner.HangupBy, loser.HangupBy)
	c.Agent = either(winner.Agent, loser.Agent)
	c.Position = either(winner.Position, loser.Position)
	c.RecordingFile = either(winner.RecordingFile, loser.RecordingFile)
	c.Campaign = either(winner.Campaign, loser.Campaign)
	c.Flags = union(winner.Flags, loser.Flags)
	if slices.Contains(c.Flags, PersonalRemoved) { // it does not come back with a late body
		c.Caller, c.RawCaller, c.CallerName = "", "", ""
	}
	c.RevisedAt = instant(winner.RevisedAt, loser.RevisedAt)
	c.ReceivedAt = earlier(winner.ReceivedAt, loser.ReceivedAt)
	return c
}

// finality orders results by how much they say: a higher one is never replaced
// by a lower one.
func finality(r Result) int {
	switch r {
	case Answered, Voicemail:
		return 3
	case Missed, Busy, Failed, Cancelled:
		return 2
	case Unreadable:
		return 1
	default:
		return 0
	}
}

func either[T comparable](first, second T) T {
	var none T
	if first != none {
		return first
	}
	return second
}

func instant(first, second time.Time) time.Time {
	if first.IsZero() {
		return second
	}
	return first
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// number chooses between two readings of one number. The two forms of a number
// stay together unless one of them is missing.
func number(read, raw, otherRead, otherRaw string) (string, string) {
	if legible(otherRead) > legible(read) {
		return otherRead, either(otherRaw, raw)
	}
	return read, either(raw, otherRaw)
}

// legible orders readings: E.164 is more than text, and text more than nothing.
func legible(read string) int {
	switch {
	case strings.HasPrefix(read, "+"):
		return 2
	case read != "":
		return 1
	default:
		return 0
	}
}

// union is both lists together, sorted, each flag once.
func union(a, b []string) []string {
	both := slices.Concat(a, b)
	slices.Sort(both)
	return slices.Compact(both)
}
