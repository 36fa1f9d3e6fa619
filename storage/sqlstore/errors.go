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

// translate wraps an error in the matching error of package storage. It returns
// other errors unchanged, including those that are already wrapped and
// context.Canceled, which the caller caused.
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

// poolClosed reports whether err means that the pool is closed. database/sql does
// not export that error.
func poolClosed(err error) bool { return strings.Contains(err.Error(), "sql: database is closed") }
