package handlers

import (
	"fmt"
	"regexp"
	"strconv"
)

// byteRange is one range of bytes, as the Range field of HTTP asks for it
// (https://www.rfc-editor.org/rfc/rfc9110#field.range).
type byteRange struct {
	from, to int64 // both included; to is -1 for the end
	suffix   int64 // instead: the last so many bytes; -1 when it is none
}

var rangePattern = regexp.MustCompile(`^bytes=([0-9]{0,18})-([0-9]{0,18})$`)

// parseRange reads one range. What is none, and several at a time, are ignored,
// as a server may.
func parseRange(text string) (r byteRange, ok bool) {
	parts := rangePattern.FindStringSubmatch(text)
	if len(parts) != 3 || parts[1] == "" && parts[2] == "" {
		return r, false
	}
	number := func(digits string) int64 {
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil { // there are none
			return -1
		}
		return n
	}
	if parts[1] == "" {
		return byteRange{suffix: number(parts[2])}, true
	}
	r = byteRange{from: number(parts[1]), to: number(parts[2]), suffix: -1}
	return r, r.to < 0 || r.from <= r.to
}

// within cuts the range to what a body of some size has; false when that is
// nothing.
func (r byteRange) within(size int64) (from, length int64, ok bool) {
	switch {
	case r.suffix >= 0:
		length = min(r.suffix, size)
		return size - length, length, length > 0
	case r.from >= size:
		return 0, 0, false
	case r.to < 0 || r.to >= size:
		return r.from, size - r.from, true
	default:
		return r.from, r.to - r.from + 1, true
	}
}

// contentRange says which part of a body it is.
func contentRange(from, length, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, size)
}
