package sqlstore

import (
	"encoding/base64"
	"encoding/binary"
	"unicode/utf8"

	"gorm.io/gorm"

	"calltracker/storage"
)

// A cursor is the place of the last row of a page in the order of its list:
// (at, id), both descending. Outside it is base64url of
//
//	cursorVersion, the list, at as 8 bytes big-endian, id
//
// so that a cursor of another list or of another layout is told from a good one.
type cursor struct {
	at int64
	id string
}

const (
	cursorVersion = 1
	cursorHeader  = 2 + 8
	maxCursorID   = 64
)

// listKind is the list that a cursor belongs to.
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

// decodeCursor reads a page's cursor; nil means from the start. Anything that
// encode did not make is storage.ErrBadCursor.
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
	if text(c.id) != c.id || !utf8.ValidString(c.id) {
		return nil, storage.ErrBadCursor
	}
	return c, nil
}

// pageSize is the limit that a page asked for, within bounds.
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

// newestFirst orders a list by (at_us, id) and starts it after a cursor.
func newestFirst(q *gorm.DB, after *cursor, limit int) *gorm.DB {
	if after != nil {
		q = q.Where("(at_us, id) < (?, ?)", after.at, after.id)
	}
	return q.Order("at_us DESC, id DESC").Limit(limit)
}

// cut makes a page of rows that were read with one row more than the page
// holds, and the cursor of the next page; "" when there is none.
func cut[T any](kind listKind, rows []T, size int, place func(T) cursor) ([]T, string) {
	if len(rows) <= size {
		return rows, ""
	}
	rows = rows[:size]
	return rows, place(rows[size-1]).encode(kind)
}
