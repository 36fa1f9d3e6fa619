package sqlstore

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// micros returns the stored form of a time: microseconds since 1970, or 0 for none.
// A time outside the years 1 to 9999, which RFC 3339 cannot represent, counts as
// none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return 0
	}
	return t.UnixMicro()
}

// instant returns the time for stored microseconds.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// cleanText removes NUL characters and replaces invalid UTF-8, both of which
// PostgreSQL rejects in text.
func cleanText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// indexText returns text for an indexed column, cut to maxIndexText. PostgreSQL rejects
// index rows of more than a third of a page
// (https://www.postgresql.org/docs/current/btree.html). Real numbers and names are
// much shorter, but a hostile CDR must be stored too.
func indexText(s string) string {
	s = cleanText(s)
	if len(s) <= maxIndexText {
		return s
	}
	end := maxIndexText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

const maxIndexText = 512 // bytes

// callKey returns the stored form of a call's key. A key that is too long is
// replaced by its digest instead of being cut, so that different keys stay different.
func callKey(s string) string {
	s = cleanText(s)
	if len(s) <= maxIndexText {
		return s
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s)))
}

// encodeList encodes a list as JSON. A nil list is encoded like an empty one.
func encodeList[T any](items []T) (string, error) {
	if len(items) == 0 {
		return "[]", nil
	}
	encoded, err := json.Marshal(items)
	if err != nil {
		return "", fmt.Errorf("encode list: %w", err)
	}
	return string(encoded), nil
}

// decodeList decodes a list from encodeList. An empty list is nil.
func decodeList[T any](encoded string) ([]T, error) {
	if encoded == "[]" {
		return nil, nil
	}
	var items []T
	if err := json.Unmarshal([]byte(encoded), &items); err != nil {
		return nil, fmt.Errorf("decode list: %w", err)
	}
	return items, nil
}
