package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
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

// This file and postgresbatch.go contain everything specific to PostgreSQL.

// postgresDialect describes PostgreSQL. Its query planner has statistics, so no column
// has to be hidden from it.
var postgresDialect = dialect{
	name: "postgres", goose: goose.DialectPostgres, shared: true, numberedValues: true, hasKeyTable: true,
	unindexed: func(column string) string { return column },
}

// Limits of a session. Callers have shorter deadlines; these limits end what a killed
// process left behind, such as an open transaction.
const (
	postgresConnections = 16 // unless the URL sets pool_max_conns
	connectTimeout      = 3 * time.Second
	statementLimit      = "60s"
	lockLimit           = "5s"
	idleLimit           = "60s" // for a transaction between two statements
)

var errInvalidURL = errors.New("invalid database URL: use the form postgres://user:password@host:5432/name")

// parsePostgres parses a database URL. Its errors do not contain the password.
func parsePostgres(databaseURL string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		var parseError *pgconn.ParseConfigError
		if errors.As(err, &parseError) && parseError.Unwrap() != nil {
			return nil, fmt.Errorf("invalid value in database URL: %w: use the form postgres://user:password@host:5432/name", parseError.Unwrap())
		}
		return nil, errInvalidURL
	}
	if !strings.Contains(databaseURL, "pool_max_conns") {
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

// openPostgres opens one pool, which serves as all of the pools of database.
func openPostgres(ctx context.Context, config *pgxpool.Config, logger *slog.Logger) (*database, error) {
	pool, err := pgxpool.NewWithConfig(ctx, config.Copy())
	if err != nil {
		return nil, err
	}
	db := &database{dialect: &postgresDialect, pool: pool}
	db.write = stdlib.OpenDBFromPool(pool)
	db.read, db.relaxed = db.write, db.write
	db.batchWriter = postgresBatch{db}
	if db.writeGorm, err = openGorm(postgres.New(postgres.Config{Conn: db.write})); err != nil {
		return nil, errors.Join(err, db.close())
	}
	db.readGorm = db.writeGorm
	if err := db.checkDurability(ctx, logger); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

// errNotDurable is returned for a database that may lose acknowledged commits.
var errNotDurable = errors.New("synchronous_commit is off in this database, so it may lose acknowledged CDRs: " +
	"turn it on for this user: ALTER ROLE CURRENT_USER SET synchronous_commit = on")

// checkDurability returns an error if the server acknowledges commits before they are
// on disk (https://www.postgresql.org/docs/current/runtime-config-wal.html).
func (db *database) checkDurability(ctx context.Context, logger *slog.Logger) error {
	var synchronousCommit, fsync string
	if err := db.write.QueryRowContext(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&synchronousCommit, &fsync); err != nil {
		return err
	}
	if synchronousCommit == "off" {
		return errNotDurable
	}
	if fsync == "off" {
		logger.WarnContext(ctx, "PostgreSQL fsync off; a power failure may corrupt the database or lose acknowledged CDRs")
	}
	return nil
}

// partitionsAhead is the number of future months for which partitions are created.
const partitionsAhead = 3

// EnsurePartitions creates the partitions of the previous, the current and the next
// three months if they are missing. Calls of other months go to the default partition.
// On SQLite it does nothing. It may run at any time, in several processes at
// the same time.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time) error {
	return s.do("create partitions", func(db *database) error {
		if !db.dialect.hasKeyTable {
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

// partitionLock is the advisory lock that keeps two processes from creating the same
// partition
// (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
const partitionLock = 0x63616c6c // "call"

// ensurePartition creates the partition of a month and moves the calls of that month
// from the default partition to it.
func (db *database) ensurePartition(ctx context.Context, month time.Time) error {
	name := "calls_" + month.Format("200601")
	scanBool := func(row interface{ Scan(...any) error }) (value bool, err error) {
		err = row.Scan(&value)
		return value, err
	}
	// Not to_regclass: within a transaction it may return a cached result.
	const existsSQL = `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1)`
	if exists, err := scanBool(db.write.QueryRowContext(ctx, existsSQL, name)); err != nil || exists {
		return err
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, partitionLock); err != nil {
		return err
	}
	if exists, err := scanBool(tx.QueryRowContext(ctx, existsSQL, name)); err != nil || exists {
		return err // another process has created it
	}
	from, to := micros(month), micros(month.AddDate(0, 1, 0))
	for _, statement := range []string{
		`CREATE TABLE ` + name + ` (LIKE calls INCLUDING DEFAULTS)`,
		// This briefly blocks writes to the default partition.
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

// isRetryable reports whether a transaction failed only because it conflicts with
// another one, so that it may succeed if it is tried again.
func isRetryable(err error) bool {
	var pgError *pgconn.PgError
	return errors.As(err, &pgError) && (pgError.Code == "40001" || pgError.Code == "40P01")
}

// translatePostgres wraps an error according to its PostgreSQL error code
// (https://www.postgresql.org/docs/current/errcodes-appendix.html). Failures of the
// server or the network count as unavailable, and so do failures that may not happen
// again if the caller retries.
func translatePostgres(err error) error {
	var pgError *pgconn.PgError
	if errors.As(err, &pgError) {
		if pgError.Code == "23505" {
			return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
		}
		if pgError.Code == "42501" {
			return fmt.Errorf("%w: %w: make the user of the database URL the owner of the database", storage.ErrUnavailable, oneLine{err})
		}
		switch pgError.Code[:2] {
		case "08", // connection failure
			"25",             // read-only transaction, or transaction ended by the server
			"28", "3D", "42", // authentication failed; unknown database; unknown table or missing privilege: an operator must act
			"40",       // serialization failure, deadlock
			"53",       // disk full, out of memory, too many connections
			"55",       // lock timeout
			"57", "58", // shutdown or canceled query; I/O error
			"XX": // internal error, corruption
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, oneLine{err})
		}
		return err
	}
	var (
		connectError *pgconn.ConnectError
		networkError net.Error
	)
	if errors.As(err, &connectError) || errors.As(err, &networkError) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, puddle.ErrClosedPool) || errors.Is(err, errNotDurable) ||
		err != nil && pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, oneLine{err})
	}
	return err
}

// oneLine is an error whose text has one line. The driver reports each attempt to
// connect on its own line, and repeats the reason if both attempts failed alike.
type oneLine struct{ error }

func (e oneLine) Unwrap() error { return e.error }

func (e oneLine) Error() string {
	first, rest, more := strings.Cut(e.error.Error(), "\n")
	if !more {
		return first
	}
	var reasons []string
	for line := range strings.SplitSeq(rest, "\n") {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(reasons, line) {
			reasons = append(reasons, line)
		}
	}
	return first + " " + strings.Join(reasons, "; ")
}
