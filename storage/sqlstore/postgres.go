package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jackc/puddle/v2"
	"github.com/pressly/goose/v3"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"calltracker/storage"
)

// This file is all that knows PostgreSQL.

// postgresDialect: its planner has statistics, so that no column has to be
// hidden from it.
var postgresDialect = dialect{
	name: "postgres", goose: goose.DialectPostgres, sessions: true, numbered: true, keyed: true, lanes: 4,
	unindexed: func(column string) string { return column },
}

// Limits of a session. Whoever calls has a deadline that is shorter; these end
// what was left behind, such as a transaction whose program was killed.
const (
	postgresConnections = 16 // unless the URL says pool_max_conns
	connectTimeout      = 3 * time.Second
	statementLimit      = "60s"
	lockLimit           = "5s"
	idleLimit           = "60s" // within a transaction
)

var errUnreadableURL = errors.New("database URL cannot be read; write postgres://user:password@host:5432/name")

// parsePostgres reads a URL; its errors show no password.
func parsePostgres(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) && parse.Unwrap() != nil {
			return nil, fmt.Errorf("database URL cannot be read: %w", parse.Unwrap())
		}
		return nil, errUnreadableURL
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = postgresConnections
	}
	config.ConnConfig.ConnectTimeout = connectTimeout
	for name, value := range map[string]string{
		"application_name": "calltracker", "timezone": "UTC", "statement_timeout": statementLimit,
		"lock_timeout": lockLimit, "idle_in_transaction_session_timeout": idleLimit,
	} {
		if _, given := config.ConnConfig.RuntimeParams[name]; !given {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// openPostgres opens a pool. One serves reading, writing and recording.
func openPostgres(ctx context.Context, config *pgxpool.Config, logger *slog.Logger) (*database, error) {
	pool, err := pgxpool.NewWithConfig(ctx, config.Copy())
	if err != nil {
		return nil, err
	}
	db := &database{dialect: &postgresDialect, pool: pool}
	db.write = stdlib.OpenDBFromPool(pool)
	db.read, db.record = db.write, db.write
	db.batch = postgresBatch{db}
	if db.writeGorm, err = openGorm(postgres.New(postgres.Config{Conn: db.write})); err != nil {
		return nil, errors.Join(err, db.close())
	}
	db.readGorm = db.writeGorm
	if err := db.checkDurability(ctx, logger); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

// errNotDurable refuses a database that would forget what it has acknowledged.
var errNotDurable = errors.New("synchronous_commit is off in this database, so it may forget records that were acknowledged; " +
	"turn it on for this user: ALTER ROLE CURRENT_USER SET synchronous_commit = on")

// checkDurability refuses a server that acknowledges commits before they are on
// disk (https://www.postgresql.org/docs/current/runtime-config-wal.html).
func (db *database) checkDurability(ctx context.Context, logger *slog.Logger) error {
	var commit, fsync string
	if err := db.write.QueryRowContext(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&commit, &fsync); err != nil {
		return err
	}
	if commit == "off" {
		return errNotDurable
	}
	if fsync == "off" {
		logger.WarnContext(ctx, "fsync is off in the database: a power failure may damage it and lose acknowledged records")
	}
	return nil
}

// partitionsAhead is how many months there are partitions for, beyond this one.
const partitionsAhead = 3

// EnsurePartitions makes the partitions of this month, the one before and the
// next three, where they are missing. Without it calls go to the partition for
// all other times, and nothing is refused. On SQLite it does nothing. It may run
// anywhere at any time.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time) error {
	return s.do("make partitions", func(db *database) error {
		if !db.dialect.keyed {
			return nil
		}
		return db.ensurePartitions(ctx, now)
	})
}

func (db *database) ensurePartitions(ctx context.Context, now time.Time) error {
	first := time.Date(now.UTC().Year(), now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	for month := -1; month <= partitionsAhead; month++ {
		if err := db.ensurePartition(ctx, first.AddDate(0, month, 0)); err != nil {
			return err
		}
	}
	return nil
}

// partitionLock keeps two programs from making the same partition
// (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
const partitionLock = 0x63616c6c // "call"

// ensurePartition makes the partition of a month. Calls of it that went to the
// default partition move over.
func (db *database) ensurePartition(ctx context.Context, month time.Time) error {
	name := "calls_" + month.Format("200601")
	exists := func(row interface{ Scan(...any) error }) (there bool, err error) {
		err = row.Scan(&there)
		return there, err
	}
	// Not to_regclass: within a transaction it may remember that there was none.
	const look = `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1)`
	if there, err := exists(db.write.QueryRowContext(ctx, look, name)); err != nil || there {
		return err
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, partitionLock); err != nil {
		return err
	}
	if there, err := exists(tx.QueryRowContext(ctx, look, name)); err != nil || there {
		return err // another was first
	}
	from, to := micros(month), micros(month.AddDate(0, 1, 0))
	for _, statement := range []string{
		`CREATE TABLE ` + name + ` (LIKE calls INCLUDING DEFAULTS)`,
		// From here on nothing goes to the default partition; that is for moments.
		`LOCK TABLE calls_default IN ACCESS EXCLUSIVE MODE`,
		fmt.Sprintf(`WITH moved AS (DELETE FROM calls_default WHERE at_us >= %d AND at_us < %d RETURNING *)
			INSERT INTO %s SELECT * FROM moved`, from, to, name),
		fmt.Sprintf(`ALTER TABLE calls ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, name, from, to),
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return tx.Commit()
}

// passing tells whether a transaction failed only because of another one, and
// may be begun again.
func passing(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == "40001" || refused.Code == "40P01")
}

// translatePostgres gives PostgreSQL's codes
// (https://www.postgresql.org/docs/current/errcodes-appendix.html) the meaning
// that callers act on. A failure of the server or on the way to it counts as
// unavailable, and so does one that another try may not meet.
func translatePostgres(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		if refused.Code == "23505" {
			return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
		}
		switch refused.Code[:2] {
		case "08", // connection
			"25",             // read-only, or a transaction that the server has ended
			"28", "3D", "42", // may not enter; no such database, table or right: not before the operator acts
			"40",       // serialization, deadlock
			"53",       // disk full, out of memory, too many connections
			"55",       // lock not available in time
			"57", "58", // shutting down, cancelled; input and output
			"XX": // damaged
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
		return err
	}
	var (
		connect *pgconn.ConnectError
		network net.Error
	)
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, puddle.ErrClosedPool) || errors.Is(err, errNotDurable) ||
		err != nil && pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}
