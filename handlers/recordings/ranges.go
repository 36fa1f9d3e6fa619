package recordings

import (
	"fmt"
	"regexp"
	"strconv"
)

// byteRange is a single byte range of an HTTP Range header
// (https://www.rfc-editor.org/rfc/rfc9110#field.range).
type byteRange struct {
	from, to int64 // inclusive; to is -1 for an open end
	suffix   int64 // length of a suffix range; -1 for other ranges
}

var rangePattern = regexp.MustCompile(`^bytes=([0-9]{0,18})-([0-9]{0,18})$`)

// parseRange parses a single range. It ignores invalid and multiple ranges, as the RFC
// permits.
func parseRange(text string) (r byteRange, ok bool) {
	parts := rangePattern.FindStringSubmatch(text)
	if len(parts) != 3 || parts[1] == "" && parts[2] == "" {
		return r, false
	}
	number := func(digits string) int64 {
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil { // no digits
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

// within limits the range to a body of the given size. It returns false if the result
// is empty.
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

// contentRange returns the value of a Content-Range header.
func contentRange(from, length, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, size)
}
