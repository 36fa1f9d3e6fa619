package sqlstore

import (
	"encoding/base64"
	"encoding/binary"
	"unicode/utf8"

	"gorm.io/gorm"

	"calltracker/storage"
)

// A cursor is the position of the last row of a page in its list, which is sorted
// by (at, id), both descending. Clients see it as base64url of
//
//	cursorVersion, listKind, at as 8 bytes big-endian, id
//
// so that a cursor of another list or of another layout is detected.
type cursor struct {
	at int64
	id string
}

const (
	cursorVersion = 1
	cursorHeader  = 2 + 8
	maxCursorID   = 64
)

// listKind identifies the list to which a cursor belongs.
type listKind byte

const (
	callList       listKind = 'c'
	decisionList   listKind = 'd'
	rejectionList  listKind = 'r'
	configVersions listKind = 'v'
	jobList        listKind = 'j'

	reconciliationList listKind = 'a'
)

func (c cursor) encode(kind listKind) string {
	b := make([]byte, 0, cursorHeader+len(c.id))
	b = append(b, cursorVersion, byte(kind))
	b = binary.BigEndian.AppendUint64(b, uint64(c.at))
	b = append(b, c.id...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor decodes a cursor of a list. It returns nil for the empty string,
// which means the start of the list, and storage.ErrBadCursor for anything that
// encode did not produce.
func decodeCursor(kind listKind, encoded string) (*cursor, error) {
	if encoded == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < cursorHeader || len(b) > cursorHeader+maxCursorID ||
		b[0] != cursorVersion || listKind(b[1]) != kind {
		return nil, storage.ErrBadCursor
	}
	c := &cursor{at: int64(binary.BigEndian.Uint64(b[2:cursorHeader])), id: string(b[cursorHeader:])}
	if cleanText(c.id) != c.id || !utf8.ValidString(c.id) {
		return nil, storage.ErrBadCursor
	}
	return c, nil
}

// pageSize returns the requested page size, within bounds.
func pageSize(limit int) int {
	switch {
	case limit <= 0:
		return storage.DefaultLimit
	case limit > storage.MaxLimit:
		return storage.MaxLimit
	default:
		return limit
	}
}

// newestFirst sorts a query by (at_us, id), descending, and starts it after a cursor.
func newestFirst(q *gorm.DB, after *cursor, limit int) *gorm.DB {
	if after != nil {
		q = q.Where("(at_us, id) < (?, ?)", after.at, after.id)
	}
	return q.Order("at_us DESC, id DESC").Limit(limit)
}

// trimPage returns the rows of a page and the cursor of the next page, or "" if
// there is none. The caller reads one row more than the page holds.
func trimPage[T any](kind listKind, rows []T, size int, cursorOf func(T) cursor) ([]T, string) {
	if len(rows) <= size {
		return rows, ""
	}
	rows = rows[:size]
	return rows, cursorOf(rows[size-1]).encode(kind)
}
