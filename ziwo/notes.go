package ziwo

import "slices"

// Notes say what had to be repaired or guessed while reading. They are fixed
// words, meant for records and filters.
const (
	NoteBadEscape           = "bad_escape"             // a %-escape was no escape and was kept as it came
	NoteCallerNumberType    = "caller_number_type"     // the caller came as a JSON number: leading zeros may be lost
	NoteContentTypeMismatch = "content_type_mismatch"  // the Content-Type was not that of the body
	NoteCurlyQuotes         = "curly_quotes"           // JSON with typographic quotes, straightened
	NoteDIDNumberType       = "did_number_type"        // the DID came as a JSON number: leading zeros may be lost
	NoteMissingBoundary     = "missing_final_boundary" // a multipart body that was cut off
	NoteNoCallID            = "no_call_id"             // a CDR without a call id that can be kept
	NoteNoResult            = "no_result"              // nothing in the CDR told how the call ended
	NoteTextCut             = "text_cut"               // a text was too long, or held what is no text, and was cut or left out
	NoteTimeWithoutZone     = "time_without_zone"      // a time without an offset was taken as UTC
	NoteTimesOutOfOrder     = "times_out_of_order"     // start, answer and end contradict each other
	NoteUnknownResult       = "unknown_result"         // a result that is none of the known words
	NoteUnreadableBody      = "unreadable_body"        // the body was ignored, the query sufficed
	NoteUnreadableNumber    = "unreadable_number"      // a duration that was no number, negative or absurd
	NoteUnreadableTime      = "unreadable_time"        // a time that was no time, or an absurd one
	NoteWrappedList         = "wrapped_list"           // the record came as a list of one
)

// notes collects words; nil until the first one.
type notes []string

func (n *notes) add(word string) {
	if !slices.Contains(*n, word) {
		*n = append(*n, word)
	}
}

// sorted is what a reader hands out: ordered, unique, nil when empty.
func (n notes) sorted() []string {
	slices.Sort(n)
	return n
}
