package sqlstore

import (
	"context"
	"database/sql"
	"time"
)

// Lease gives holder the named lease until a given time, and reports whether holder
// has it. The holder may extend the lease; others get it once it has ended. The clocks
// of the holders must differ by much less than the duration of a lease.
func (s *Store) Lease(ctx context.Context, name, holder string, now, until time.Time) (held bool, err error) {
	err = s.do("lease "+name, func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) (err error) {
			held, err = rowsChanged(tx.ExecContext(ctx, db.dialect.sql(`INSERT INTO leases (name, holder, until_us) VALUES (?, ?, ?)
				ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us
				WHERE leases.holder = excluded.holder OR leases.until_us <= ?`), indexText(name), cleanText(holder), micros(until), micros(now)))
			return err
		})
	})
	return held, err
}

// Release ends a lease early if holder has it.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	return s.do("release "+name, func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, db.dialect.sql(`DELETE FROM leases WHERE name = ? AND holder = ?`), indexText(name), cleanText(holder))
			return err
		})
	})
}
