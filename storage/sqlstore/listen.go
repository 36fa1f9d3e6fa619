package sqlstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// configChannel is that of PostgreSQL's notifications of changes
// (https://www.postgresql.org/docs/current/sql-notify.html).
const configChannel = "calltracker_config"

// Limits of the listening connection. One whose other end is gone without a word
// is found out by asking.
const (
	listenLimit = 5 * time.Second // for an answer
	listenQuiet = 15 * time.Second
)

// ListenConfig calls heard whenever a configuration or a secret is stored or
// deleted, by this process or another, and once at the beginning, when it has
// begun to listen: what came before is for the caller to look up. It is for
// PostgreSQL, which tells its clients; on SQLite it never calls. It returns nil
// when ctx has ended, and storage.ErrUnavailable when the connection has:
// whoever goes on listening calls it again.
func (s *Store) ListenConfig(ctx context.Context, heard func()) error {
	err := s.do("listen for changes of the configuration", func(db *database) error {
		if db.pool == nil {
			<-ctx.Done()
			return nil
		}
		return listen(ctx, db.pool.Config().ConnConfig, heard)
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to
	}
	return err
}

// listen has a connection of its own: one of the pool would be missing there.
func listen(ctx context.Context, config *pgx.ConnConfig, heard func()) error {
	c, err := pgx.ConnectConfig(ctx, config) // within connectTimeout for each address
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenLimit)
		defer cancel()
		_ = c.Close(ctx)
	}()
	ask := func(statement string) error {
		ctx, cancel := context.WithTimeout(ctx, listenLimit)
		defer cancel()
		_, err := c.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	if err := ask(`LISTEN ` + configChannel); err != nil {
		return err
	}
	heard()
	for {
		quiet, cancel := context.WithTimeout(ctx, listenQuiet)
		_, err := c.WaitForNotification(quiet)
		cancel()
		switch {
		case err == nil:
			heard()
		case pgconn.Timeout(err) && ctx.Err() == nil && !c.IsClosed():
			if err := ask(`SELECT 1`); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// changeConfig is a transaction of which all that listen are told once it is
// committed.
func (db *database) changeConfig(ctx context.Context, work func(tx *gorm.DB) error) error {
	return db.writeGorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := work(tx); err != nil || db.pool == nil {
			return err
		}
		return tx.Exec(`SELECT pg_notify(?, '')`, configChannel).Error
	})
}
