package ziwo

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// maxSeconds is longer than any call and fits into every database's integer.
	maxSeconds = 366 * 24 * 60 * 60
	maxNumeral = 32 // bytes of a number
	maxTime    = 64 // bytes of a time

	firstYear, lastYear = 2000, 2099
	// milliseconds is the smallest epoch that is taken for milliseconds. In seconds,
	// it would be the year 5138.
	milliseconds = 1e11
)

// seconds parses a duration in seconds. It returns false if the field is empty or
// unreadable; the latter adds a note.
func (r *record) seconds(s cdrField) (int, bool) {
	v := r.values[s]
	if v.isBlank() || !v.isScalar() || v.kind == kindBool {
		return 0, false
	}
	n, ok := numeral(v.bytes())
	if !ok || n < 0 || n > maxSeconds {
		r.notes.add(NoteUnreadableNumber)
		return 0, false
	}
	return int(n), true
}

// numeral parses a decimal number.
func numeral(raw []byte) (float64, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || len(raw) > maxNumeral || bytes.IndexFunc(raw, notNumeric) >= 0 {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	return n, err == nil
}

// notNumeric excludes the other syntaxes of ParseFloat: inf, nan, hexadecimal.
func notNumeric(r rune) bool { return !strings.ContainsRune("0123456789+-.eE", r) }

// firstTime returns the first of the fields that is a time, or the zero time.
func (r *record) firstTime(names ...cdrField) time.Time {
	for _, s := range names {
		v := r.values[s]
		if v.isBlank() || !v.isScalar() || v.kind == kindBool {
			continue
		}
		t, zoned, ok := instant(v.bytes())
		switch {
		case !ok:
			r.notes.add(NoteUnreadableTime)
		case t.IsZero():
		default:
			if !zoned {
				r.notes.add(NoteTimeWithoutZone)
			}
			return t
		}
	}
	return time.Time{}
}

// instant parses a time in any format of Ziwo's records: ISO 8601 with or without
// milliseconds, with Z or an offset, or an epoch in seconds or milliseconds. A zero
// in any format means no time and gives the zero time. instant returns false for
// an invalid or implausible time.
func instant(raw []byte) (t time.Time, zoned, ok bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > maxTime {
		return time.Time{}, true, false
	}
	if n, ok := numeral(raw); ok {
		return epoch(n)
	}
	s := strings.ToUpper(string(raw))
	// In a form, the unencoded "+" of an offset becomes a space.
	if i := len(s) - len(" 04:00"); i > 0 && s[i] == ' ' && strings.Contains(s, "T") {
		s = s[:i] + "+" + s[i+1:]
	}
	if strings.HasPrefix(s, "0000-00-00") {
		return time.Time{}, true, true
	}
	zoned = true
	t, err := time.Parse(time.RFC3339, s)
	for _, layout := range []string{"2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02 15:04:05Z07:00"} {
		if err != nil {
			t, err = time.Parse(layout, s)
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", time.DateTime} {
		if err != nil {
			t, err = time.Parse(layout, s)
			zoned = false
		}
	}
	if err != nil {
		return time.Time{}, zoned, false
	}
	if t.IsZero() || t.Unix() == 0 {
		return time.Time{}, zoned, true
	}
	return plausible(t, zoned)
}

// epoch returns the time of an epoch in seconds or milliseconds.
func epoch(n float64) (t time.Time, zoned, ok bool) {
	switch {
	case n == 0:
		return time.Time{}, true, true
	case n < 0 || n > 1e15:
		return time.Time{}, true, false
	case n > milliseconds:
		return plausible(time.UnixMicro(int64(math.Round(n*1e3))), true)
	default:
		return plausible(time.UnixMicro(int64(math.Round(n*1e6))), true)
	}
}

// plausible truncates t to the microseconds that databases store. It returns false
// for a year that no call can have.
func plausible(t time.Time, zoned bool) (time.Time, bool, bool) {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < firstYear || t.Year() > lastYear {
		return time.Time{}, zoned, false
	}
	return t, zoned, true
}
