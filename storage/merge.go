package storage

import (
	"slices"
	"strings"
	"time"
)

// Merge returns the call after another CDR of it arrived. It combines the fields
// of both. Where they conflict, it takes the value of the better CDR: a readable
// CDR beats an unreadable one; otherwise the one that Ziwo wrote later wins, if
// both have a RevisedAt; otherwise incoming wins because it arrived later.
//
// Two exceptions keep a later CDR from losing information. The result Answered or
// Voicemail is never replaced by a lesser result, such as one party's late
// "missed". A number that was parsed is never replaced by one that was not,
// because the same number may arrive without the region needed to parse it.
//
// ID, Key, ContactCenter, Decision, and Route always come from known. ReceivedAt is
// the earlier of the two.
func Merge(known, incoming Call) Call {
	if better(known, incoming) {
		return join(known, incoming, known)
	}
	return join(incoming, known, known)
}

// FillBlanks merges a CDR that was merged before. It only fills fields that are
// blank in known, so that a repeated CDR does not undo later changes.
func FillBlanks(known, repeated Call) Call { return join(known, repeated, known) }

// better reports whether known wins conflicts against incoming.
func better(known, incoming Call) bool {
	if readable := known.Result != Unreadable; readable != (incoming.Result != Unreadable) {
		return readable
	}
	return !known.RevisedAt.IsZero() && !incoming.RevisedAt.IsZero() && known.RevisedAt.After(incoming.RevisedAt)
}

// join takes each field from winner, or from loser if it is blank in winner. The
// identity comes from known.
func join(winner, loser, known Call) Call {
	c := winner
	c.ID, c.Key, c.ContactCenter = known.ID, known.Key, known.ContactCenter
	c.Decision, c.Route = known.Decision, known.Route

	c.Tracker = firstSet(winner.Tracker, loser.Tracker)
	c.CallID = firstSet(winner.CallID, loser.CallID)
	c.Direction = firstSet(winner.Direction, loser.Direction)
	c.DID, c.RawDID = number(winner.DID, winner.RawDID, loser.DID, loser.RawDID)
	c.Caller, c.RawCaller = number(winner.Caller, winner.RawCaller, loser.Caller, loser.RawCaller)
	c.CallerName = firstSet(winner.CallerName, loser.CallerName)
	c.StartedAt = firstTime(winner.StartedAt, loser.StartedAt)
	c.AnsweredAt = firstTime(winner.AnsweredAt, loser.AnsweredAt)
	c.EndedAt = firstTime(winner.EndedAt, loser.EndedAt)
	c.Duration = firstSet(winner.Duration, loser.Duration)
	c.RingTime = firstSet(winner.RingTime, loser.RingTime)
	c.TalkTime = firstSet(winner.TalkTime, loser.TalkTime)
	c.HoldTime = firstSet(winner.HoldTime, loser.HoldTime)
	if finality(loser.Result) > finality(winner.Result) {
		c.Result = loser.Result
	}
	c.HangupCause = firstSet(winner.HangupCause, loser.HangupCause)
	c.HangupBy = firstSet(winner.HangupBy, loser.HangupBy)
	c.Agent = firstSet(winner.Agent, loser.Agent)
	c.Position = firstSet(winner.Position, loser.Position)
	c.RecordingFile = firstSet(winner.RecordingFile, loser.RecordingFile)
	c.Campaign = firstSet(winner.Campaign, loser.Campaign)
	c.Flags = union(winner.Flags, loser.Flags)
	if slices.Contains(c.Flags, PersonalRemoved) { // a late CDR must not restore it
		c.Caller, c.RawCaller, c.CallerName = "", "", ""
	}
	c.RevisedAt = firstTime(winner.RevisedAt, loser.RevisedAt)
	c.ReceivedAt = earlier(winner.ReceivedAt, loser.ReceivedAt)
	return c
}

// finality ranks results. A result never replaces one of a higher rank.
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

func firstSet[T comparable](first, second T) T {
	var zero T
	if first != zero {
		return first
	}
	return second
}

func firstTime(first, second time.Time) time.Time {
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

// number chooses between two versions of one phone number. The parsed and the raw
// form stay together unless one of them is missing.
func number(parsed, raw, otherParsed, otherRaw string) (string, string) {
	if quality(otherParsed) > quality(parsed) {
		return otherParsed, firstSet(otherRaw, raw)
	}
	return parsed, firstSet(raw, otherRaw)
}

// quality ranks a phone field: E.164 above other text, other text above blank.
func quality(number string) int {
	switch {
	case strings.HasPrefix(number, "+"):
		return 2
	case number != "":
		return 1
	default:
		return 0
	}
}

// union returns the flags of both lists, sorted and without duplicates.
func union(a, b []string) []string {
	both := slices.Concat(a, b)
	slices.Sort(both)
	return slices.Compact(both)
}
