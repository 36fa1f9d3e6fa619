package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// loadSettings speed up loading: rows that are written in the transaction that
// creates their table need no WAL
// (https://www.postgresql.org/docs/current/populate.html). They do not change how
// queries run. The memory is that of a small server.
var loadSettings = []string{
	"wal_level=minimal", "max_wal_senders=0", "max_wal_size=8GB", "checkpoint_timeout=30min", "shared_buffers=256MB", "maintenance_work_mem=256MB",
}

// loadWorkers is the number of connections that load calls concurrently.
const loadWorkers = 3

// callSQL selects the calls with the numbers $3 to $4. listDID and listCaller return
// the same DIDs and callers. IDs start with the time, like those of the server.
const callSQL = `SELECT
	substr(ms, 1, 8) || '-' || substr(ms, 9) || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8' || lpad(to_hex(n >> 12 & 4095), 3, '0') || '-' || digits AS id,
	lpad(to_hex(n * 2654435761 & 4294967295), 8, '0') || '-4b1d-4a3c-8f00-' || digits AS key,
	'line-' || lpad((n %% %[1]d)::text, 5, '0') AS tracker,
	'+97143' || lpad((n / 3 %% %[2]d)::text, 6, '0') AS did,
	CASE WHEN n %% %[3]d = 0 THEN '%[4]s' ELSE '+97155' || lpad((n * 7919 %% %[5]d)::text, 7, '0') END AS caller,
	(ARRAY['answered', 'answered', 'answered', 'missed', 'busy'])[n %% 5 + 1] AS result, at
	FROM (SELECT n, at, lpad(to_hex(at / 1000), 12, '0') AS ms, lpad(to_hex(n), 12, '0') AS digits
		FROM (SELECT n, $1::bigint + n * $2::bigint AS at FROM generate_series($3::bigint, $4::bigint) AS n) AS times) AS texts`

func selectCalls() string {
	return fmt.Sprintf(callSQL, fewTrackers, listDIDs, frequentEvery, frequentCaller, listCallers)
}

// callSpan describes calls that are evenly distributed over the last months.
type callSpan struct {
	n     int64     // number of calls
	first time.Time // time of the first call
	step  int64     // microseconds between two calls
}

// month returns the numbers of the first and the last call of a month. last is less
// than first if the month has no calls.
func (m callSpan) month(start time.Time) (first, last int64) {
	before := func(at time.Time) int64 { // number of calls before
		us := at.Sub(m.first).Microseconds()
		return min(max((us+m.step-1)/m.step, 0), m.n)
	}
	return before(start), before(start.AddDate(0, 1, 0)) - 1
}

// loadCalls generates n calls inside an empty database. It fills a table for each
// month and then attaches it as a partition, which creates the indexes: sorting is
// faster than inserting.
func loadCalls(ctx context.Context, address string, n int, now time.Time) error {
	now = now.UTC()
	this := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	m := callSpan{n: int64(n), first: this.AddDate(0, -listMonths+1, 0)}
	m.step = max(now.Sub(m.first).Microseconds()/m.n, 1)
	var starts []time.Time
	var drop []string
	for start := m.first; !start.After(this); start = start.AddDate(0, 1, 0) {
		starts, drop = append(starts, start), append(drop, partition(start))
	}
	if err := execute(ctx, address, "DROP TABLE IF EXISTS "+strings.Join(drop, ", ")); err != nil {
		return err
	}
	work := make(chan func(context.Context, *pgx.Conn) error, len(starts)+1)
	work <- m.loadKeys
	for _, start := range starts {
		work <- func(ctx context.Context, c *pgx.Conn) error { return m.loadMonth(ctx, c, start) }
	}
	close(work)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loading sync.WaitGroup
	for range loadWorkers {
		loading.Go(func() {
			for load := range work {
				if err := onConnection(ctx, address, load); err != nil {
					cancel(err)
				}
			}
		})
	}
	loading.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return execute(ctx, address, "ANALYZE calls", "CHECKPOINT")
}

func onConnection(ctx context.Context, address string, work func(context.Context, *pgx.Conn) error) error {
	c, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	return work(ctx, c)
}

func partition(month time.Time) string { return "calls_" + month.Format("200601") }

// loadedColumns are the columns of calls. Bodies are in another table, which lists
// do not read.
const loadedColumns = `id, contact_center, call_key, tracker, call_id, direction, did, raw_did, caller, raw_caller, caller_name,
	started_us, answered_us, ended_us, duration, ring_time, talk_time, hold_time, result, hangup_cause, hangup_by, agent, position,
	recording_file, campaign, route, decision_id, flags, revised_us, received_us, at_us, began_us, heard_us, revisions`

func (m callSpan) loadMonth(ctx context.Context, c *pgx.Conn, start time.Time) error {
	name := partition(start)
	first, last := m.month(start)
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "CREATE TABLE "+name+" (LIKE calls INCLUDING DEFAULTS)"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO "+name+" ("+loadedColumns+`) SELECT id, '', key, tracker, key, 'inbound', did, did, caller, caller, '',
			at, at + 9000000, at + 75000000, 75, 9, 66, 0, result, 'NORMAL_CLEARING', 'originator', '', '0505874603', key || '.mp3', '', '', 'd', '[]',
			at + 76000000, at + 77000000, at, at, 0, 1 FROM (`+selectCalls()+") AS calls", m.first.UnixMicro(), m.step, first, last)
		if err != nil {
			return fmt.Errorf("calls of %s: %w", name, err)
		}
		_, err = tx.Exec(ctx, fmt.Sprintf("ALTER TABLE calls ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)",
			name, start.UnixMicro(), start.AddDate(0, 1, 0).UnixMicro()))
		return err
	})
	if err == nil {
		_, err = c.Exec(ctx, "VACUUM ANALYZE "+name) // while the table is in memory
	}
	return err
}

// loadKeys fills the table that makes calls unique.
func (m callSpan) loadKeys(ctx context.Context, c *pgx.Conn) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "TRUNCATE call_keys; ALTER TABLE call_keys DROP CONSTRAINT call_keys_pkey"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO call_keys (call_key, contact_center, id, at_us) SELECT key, '', id, at FROM ("+selectCalls()+") AS calls",
			m.first.UnixMicro(), m.step, int64(0), m.n-1); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		_, err := tx.Exec(ctx, "ALTER TABLE call_keys ADD PRIMARY KEY (call_key, contact_center)")
		return err
	})
}
