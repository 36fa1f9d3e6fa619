package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"calltracker/storage"
)

// translate gives an error the meaning that package storage has for it, and
// keeps its text. What it does not know, and what has a meaning already, stays
// as it is; so does a cancelled context, which is the caller's own doing.
func translate(err error) error {
	switch {
	case err == nil, errors.Is(err, storage.ErrUnavailable):
		return err
	case errors.Is(err, sql.ErrNoRows), errors.Is(err, gorm.ErrRecordNotFound):
		return storage.ErrNotFound
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, sql.ErrConnDone), poolClosed(err):
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return translatePostgres(translateSQLite(err))
}

// poolClosed knows the error of a pool that was closed meanwhile, which
// database/sql does not export.
func poolClosed(err error) bool { return strings.Contains(err.Error(), "sql: database is closed") }
