package sqlstore

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// micros is how an instant is stored; 0 for none. An instant outside the years
// 1 to 9999, which no clock showed and RFC 3339 cannot write, is none either.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return 0
	}
	return t.UnixMicro()
}

// instant is micros read back.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// text drops what PostgreSQL refuses in text: NUL, and bytes that are no UTF-8.
func text(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// indexed is text that stands in an index, where PostgreSQL refuses a row of more
// than a third of a page (https://www.postgresql.org/docs/current/btree.html). No
// number and no name comes near that; a hostile body may, and is kept all the
// same.
func indexed(s string) string {
	s = text(s)
	if len(s) <= maxIndexed {
		return s
	}
	end := maxIndexed
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

const maxIndexed = 512 // bytes

// key is indexed text that tells calls apart: what is too long is replaced by
// its digest, not cut.
func key(s string) string {
	s = text(s)
	if len(s) <= maxIndexed {
		return s
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s)))
}

// list is a list as JSON. Nothing and an empty list are the same.
func list[T any](items []T) (string, error) {
	if len(items) == 0 {
		return "[]", nil
	}
	body, err := json.Marshal(items)
	if err != nil {
		return "", fmt.Errorf("encode list: %w", err)
	}
	return string(body), nil
}

// unlist is list read back; an empty list is nil.
func unlist[T any](body string) ([]T, error) {
	if body == "[]" {
		return nil, nil
	}
	var items []T
	if err := json.Unmarshal([]byte(body), &items); err != nil {
		return nil, fmt.Errorf("decode list: %w", err)
	}
	return items, nil
}
