package sqlstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// configChannel is the channel of the PostgreSQL notifications about configuration
// changes (https://www.postgresql.org/docs/current/sql-notify.html).
const configChannel = "calltracker_config"

// Timing of the listening connection. It is probed regularly because a lost peer is
// not noticed otherwise.
const (
	listenReplyTimeout  = 5 * time.Second
	listenProbeInterval = 15 * time.Second
)

// ListenConfig calls notify whenever any process stores or deletes a configuration or
// a secret. It also calls notify once when it starts listening; the caller must then
// check for earlier changes. On SQLite it never calls notify. ListenConfig returns nil
// when ctx ends, and storage.ErrUnavailable when the connection fails; to continue,
// call it again.
func (s *Store) ListenConfig(ctx context.Context, notify func()) error {
	err := s.do("listen for configuration changes", func(db *database) error {
		if db.pool == nil {
			<-ctx.Done()
			return nil
		}
		return listen(ctx, db.pool.Config().ConnConfig, notify)
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the caller ended it
	}
	return err
}

// listen uses its own connection, because it would block one of the pool permanently.
func listen(ctx context.Context, config *pgx.ConnConfig, notify func()) error {
	c, err := pgx.ConnectConfig(ctx, config) // limited by connectTimeout for each address
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenReplyTimeout)
		defer cancel()
		_ = c.Close(ctx)
	}()
	send := func(statement string) error {
		ctx, cancel := context.WithTimeout(ctx, listenReplyTimeout)
		defer cancel()
		_, err := c.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	if err := send(`LISTEN ` + configChannel); err != nil {
		return err
	}
	notify()
	for {
		waitCtx, cancel := context.WithTimeout(ctx, listenProbeInterval)
		_, err := c.WaitForNotification(waitCtx)
		cancel()
		switch {
		case err == nil:
			notify()
		case pgconn.Timeout(err) && ctx.Err() == nil && !c.IsClosed():
			if err := send(`SELECT 1`); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// changeConfig runs work in a transaction and notifies all listeners when it is
// committed.
func (db *database) changeConfig(ctx context.Context, work func(tx *gorm.DB) error) error {
	return db.writeGorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := work(tx); err != nil || db.pool == nil {
			return err
		}
		return tx.Exec(`SELECT pg_notify(?, '')`, configChannel).Error
	})
}
