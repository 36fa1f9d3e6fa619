package ziwo

import "strings"

// Outcome is how a call ended. The zero value is invalid.
type Outcome string

// The outcomes of a call.
const (
	Answered  Outcome = "answered"
	Missed    Outcome = "missed"    // no answer, or the caller gave up
	Voicemail Outcome = "voicemail" // ended in voicemail, even if answered before
	Busy      Outcome = "busy"
	Failed    Outcome = "failed"    // rejected, or a network failure
	Cancelled Outcome = "cancelled" // we gave up, or another phone answered
)

// outcome returns how c ended. A hang-up cause never makes a call answered, because
// abandoned calls clear normally too.
func (r *record) outcome(c CDR) Outcome {
	stated, ok := r.statedOutcome(c.Direction)
	switch {
	case r.isTrue(fieldVoicemail) || stated == Voicemail:
		return Voicemail
	case stated == Answered || !c.AnsweredAt.IsZero():
		return Answered
	case ok:
		return stated
	case c.HangupCause != "":
		return outcomeOfCause(c.HangupCause, c.Direction)
	default:
		r.notes.add(NoteNoResult)
		return Missed
	}
}

// statedOutcome returns the outcome in the record's result fields, if any. The
// first field wins, except that an answer in any field means an answered call: the
// disposition may be ANSWER with any result.
func (r *record) statedOutcome(direction string) (Outcome, bool) {
	var stated Outcome
	for _, s := range []cdrField{fieldResult, fieldCallResult, fieldCallStatus, fieldDisposition} {
		word := r.firstText(s)
		// A boolean result belongs to the envelope of an API response.
		if word == "" || strings.EqualFold(word, "true") || strings.EqualFold(word, "false") {
			continue
		}
		switch found := outcomeOf(word, direction); {
		case found == "":
			r.notes.add(NoteUnknownResult)
		case stated == "", found == Voicemail, found == Answered && stated != Voicemail:
			stated = found
		}
	}
	return stated, stated != ""
}

// outcomeOf returns the outcome for a value of result, callResult, call_status or
// disposition. It knows the values that Ziwo and its integrators document, and
// returns "" for any other.
func outcomeOf(word, direction string) Outcome {
	switch alphanumeric(word) {
	case "answered", "answer":
		return Answered
	case "voicemail":
		return Voicemail
	case "busy", "userbusy":
		return Busy
	case "failed", "failure", "rejected", "callrejected":
		return Failed
	case "cancel", "cancelled", "canceled", "originatorcancel":
		return cancelled(direction)
	case "loserace":
		return Cancelled
	case "noanswer", "nouserresponse", "unanswered", "notanswered", "missed", "abandoned", "timeout":
		return Missed
	default:
		return ""
	}
}

// cancelled returns the outcome of a call that its originator canceled before the
// answer. An inbound call that the caller gave up is a missed call.
func cancelled(direction string) Outcome {
	switch direction {
	case "outbound", "internal", "service":
		return Cancelled
	default:
		return Missed
	}
}

// outcomeOfCause returns the outcome for the hang-up cause of an unanswered call.
// The causes are FreeSWITCH's
// (https://developer.signalwire.com/freeswitch/FreeSWITCH-Explained/Troubleshooting-Debugging/Hangup-Cause-Code-Table_3964945),
// by name or by the numbers that integrators of Ziwo have seen. A cause that is not
// a failure, such as NORMAL_CLEARING, means a missed call.
func outcomeOfCause(cause, direction string) Outcome {
	switch alphanumeric(cause) {
	case "userbusy", "busyeverywhere", "17":
		return Busy
	case "originatorcancel", "487":
		return cancelled(direction)
	case "loserace", "pickedoff":
		return Cancelled
	case "callrejected", "21", "decline",
		"unallocatednumber", "noroutetransitnet", "noroutedestination", "channelunacceptable",
		"subscriberabsent", "numberchanged", "redirectiontonewdestination", "exchangeroutingerror",
		"destinationoutoforder", "invalidnumberformat", "facilityrejected", "normalcircuitcongestion",
		"networkoutoforder", "normaltemporaryfailure", "switchcongestion", "accessinfodiscarded",
		"requestedchanunavail", "preempted", "facilitynotsubscribed", "outgoingcallbarred",
		"incomingcallbarred", "bearercapabilitynotauth", "bearercapabilitynotavail", "serviceunavailable",
		"bearercapabilitynotimpl", "channotimplemented", "facilitynotimplemented", "servicenotimplemented",
		"invalidcallreference", "incompatibledestination", "invalidmsgunspecified", "mandatoryiemissing",
		"messagetypenonexist", "wrongmessage", "ienonexist", "invalidiecontents", "wrongcallstate",
		"mandatoryielengtherror", "protocolerror", "interworking", "crash", "systemshutdown",
		"userchallenge", "usernotregistered", "invalidgateway", "gatewaydown", "invalidurl",
		"invalidprofile", "srtpreaderror", "doesnotexistanywhere", "notacceptable", "unwanted":
		return Failed
	default:
		return Missed
	}
}

// alphanumeric returns the ASCII letters and digits of word in lower case, so that
// NO_ANSWER, no-answer, and "No answer" are equal.
func alphanumeric(word string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		default:
			return -1
		}
	}, word)
}

// isTrue reports whether a field is true, 1 or yes, in any type.
func (r *record) isTrue(s cdrField) bool {
	v := r.values[s]
	if !v.isScalar() {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(string(v.bytes()))) {
	case "true", "1", "yes":
		return true
	default:
		return false
	}
}
