package ziwo

import "slices"

// Notes record what a parser repaired or guessed. They are stored with calls and
// used in filters.
const (
	NoteBadEscape           = "bad_escape"             // invalid percent-escape, copied unchanged
	NoteCallerNumberType    = "caller_number_type"     // caller sent as a JSON number: leading zeros may be lost
	NoteContentTypeMismatch = "content_type_mismatch"  // Content-Type does not match the body
	NoteCurlyQuotes         = "curly_quotes"           // typographic quotes in JSON, replaced
	NoteDIDNumberType       = "did_number_type"        // DID sent as a JSON number: leading zeros may be lost
	NoteMissingBoundary     = "missing_final_boundary" // truncated multipart body
	NoteNoCallID            = "no_call_id"             // CDR without a usable call ID
	NoteNoResult            = "no_result"              // CDR without the outcome of the call
	NoteTextCut             = "text_cut"               // too long or invalid text, truncated or omitted
	NoteTimeWithoutZone     = "time_without_zone"      // time without an offset, assumed to be UTC
	NoteTimesOutOfOrder     = "times_out_of_order"     // start, answer, and end times contradict each other
	NoteUnknownResult       = "unknown_result"         // unknown result
	NoteUnreadableBody      = "unreadable_body"        // body ignored; the query has the fields
	NoteUnreadableNumber    = "unreadable_number"      // duration that is not a number, negative, or implausible
	NoteUnreadableTime      = "unreadable_time"        // invalid or implausible time
	NoteWrappedList         = "wrapped_list"           // record sent as an array of one element
)

// notes collects Note constants without duplicates.
type notes []string

func (n *notes) add(note string) {
	if !slices.Contains(*n, note) {
		*n = append(*n, note)
	}
}

// sorted sorts n in place and returns it; nil if there are no notes.
func (n notes) sorted() []string {
	slices.Sort(n)
	return n
}
