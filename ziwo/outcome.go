package ziwo

import "strings"

// Outcome is how a call ended. The zero value is invalid.
type Outcome string

// The outcomes of a call.
const (
	Answered  Outcome = "answered"
	Missed    Outcome = "missed"    // nobody took it, or the caller gave up
	Voicemail Outcome = "voicemail" // it ended in the voicemail, whoever picked up before
	Busy      Outcome = "busy"
	Failed    Outcome = "failed"    // refused, or the network could not
	Cancelled Outcome = "cancelled" // we gave up, or another phone was faster
)

// outcome decides how c ended. Nothing is answered because of its hang-up
// cause: an abandoned call clears normally too.
func (r *record) outcome(c CDR) Outcome {
	said, told := r.statedOutcome(c.Direction)
	switch {
	case r.isTrue(fieldVoicemail) || said == Voicemail:
		return Voicemail
	case said == Answered || !c.AnsweredAt.IsZero():
		return Answered
	case told:
		return said
	case c.HangupCause != "":
		return outcomeOfCause(c.HangupCause, c.Direction)
	default:
		r.notes.add(NoteNoResult)
		return Missed
	}
}

// said is what the record's own words tell of the outcome, if anything. The
// first word counts, but an answer beside it is an answer: the disposition may
// be ANSWER under any result.
func (r *record) statedOutcome(direction string) (Outcome, bool) {
	var said Outcome
	for _, s := range []cdrField{fieldResult, fieldCallResult, fieldCallStatus, fieldDisposition} {
		word := r.firstText(s)
		// A result of true or false is that of an API envelope.
		if word == "" || strings.EqualFold(word, "true") || strings.EqualFold(word, "false") {
			continue
		}
		switch found := outcomeOf(word, direction); {
		case found == "":
			r.notes.add(NoteUnknownResult)
		case said == "", found == Voicemail, found == Answered && said != Voicemail:
			said = found
		}
	}
	return said, said != ""
}

// outcomeOf reads the words of result, callResult, call_status and disposition
// that are known from Ziwo's page and its integrators; empty for any other.
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

// cancelled is what hanging up before the answer means: on the way out we gave
// up, on the way in a caller did, which is a missed call.
func cancelled(direction string) Outcome {
	switch direction {
	case "outbound", "internal", "service":
		return Cancelled
	default:
		return Missed
	}
}

// outcomeOfCause reads the hang-up cause of a call that nobody answered. The
// causes are FreeSWITCH's
// (https://developer.signalwire.com/freeswitch/FreeSWITCH-Explained/Troubleshooting-Debugging/Hangup-Cause-Code-Table_3964945),
// by name or by the numbers that integrators of Ziwo have seen. What names no
// failure, such as NORMAL_CLEARING, is a missed call.
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

// letters is word in lower case with nothing but letters and digits, so that
// NO_ANSWER, no-answer and "No answer" are one.
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

// flag reads a boolean: true, "true", 1, "1".
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
