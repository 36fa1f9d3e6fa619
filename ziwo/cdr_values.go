package ziwo

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// maxSeconds is more than any call lasts and fits every database's integer.
	maxSeconds = 366 * 24 * 60 * 60
	// maxNumeral is longer than any number that means something here.
	maxNumeral = 32
	maxTime    = 64

	firstYear, lastYear = 2000, 2099
	// milliseconds is where epochs are taken as such: as seconds it is the year 5138.
	milliseconds = 1e11
)

// seconds reads a duration: a number or a text with one. Not ok means that the
// record says nothing, or nothing that can be read, which leaves a note.
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

// numeral reads a decimal number, the way JSON and people write it.
func numeral(raw []byte) (float64, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || len(raw) > maxNumeral || bytes.IndexFunc(raw, notNumeric) >= 0 {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	return n, err == nil
}

// notNumeric keeps out what ParseFloat takes beyond decimals: inf, nan, hex.
func notNumeric(r rune) bool { return !strings.ContainsRune("0123456789+-.eE", r) }

// time is the first of the values that is an instant.
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

// instant reads a time of any form that Ziwo's records use: ISO 8601 with or
// without milliseconds, with Z or an offset, or an epoch in seconds or
// milliseconds. A zero in any of them is none: the zero time. Not ok means
// that it is no time, or none that a call can have.
func instant(raw []byte) (t time.Time, zoned, ok bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > maxTime {
		return time.Time{}, true, false
	}
	if n, ok := numeral(raw); ok {
		return epoch(n)
	}
	s := strings.ToUpper(string(raw))
	// The "+" of an offset that a form did not encode.
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

// plausible cuts t to the microseconds that databases keep.
func plausible(t time.Time, zoned bool) (time.Time, bool, bool) {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < firstYear || t.Year() > lastYear {
		return time.Time{}, zoned, false
	}
	return t, zoned, true
}
