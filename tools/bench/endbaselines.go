package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // driver of the plain handler
)

// The plain handlers store an end call in the simplest way: they check the key,
// read the fields of the CDR and run one INSERT, which is one transaction. The row
// has the columns of calltracker, the body, and the indexes that calltracker's
// lists need. A repeated CDR is an error, calls are not linked to decisions, and
// numbers are stored as received.
const (
	pgxBaseline      = "pgx"
	sqliteBaseline   = "sqlite"
	databaseVariable = "BENCH_DATABASE"
	plainConnections = 16
)

const plainColumns = `id, contact_center, call_key, tracker, call_id, direction, did, raw_did, caller, raw_caller,
	caller_name, started_us, answered_us, ended_us, duration, ring_time, talk_time, hold_time, result, hangup_cause,
	hangup_by, agent, position, recording_file, campaign, route, decision_id, flags, revised_us, received_us,
	at_us, raw`

// plainTable creates the table. Both databases accept the statement.
const plainTable = `CREATE TABLE plain_calls (
		id TEXT NOT NULL PRIMARY KEY, contact_center TEXT NOT NULL, call_key TEXT NOT NULL, tracker TEXT NOT NULL, call_id TEXT NOT NULL,
		direction TEXT NOT NULL, did TEXT NOT NULL, raw_did TEXT NOT NULL, caller TEXT NOT NULL, raw_caller TEXT NOT NULL, caller_name TEXT NOT NULL,
		started_us BIGINT NOT NULL, answered_us BIGINT NOT NULL, ended_us BIGINT NOT NULL, duration BIGINT NOT NULL, ring_time BIGINT NOT NULL,
		talk_time BIGINT NOT NULL, hold_time BIGINT NOT NULL, result TEXT NOT NULL, hangup_cause TEXT NOT NULL, hangup_by TEXT NOT NULL,
		agent TEXT NOT NULL, position TEXT NOT NULL, recording_file TEXT NOT NULL, campaign TEXT NOT NULL, route TEXT NOT NULL,
		decision_id TEXT NOT NULL, flags TEXT NOT NULL, revised_us BIGINT NOT NULL, received_us BIGINT NOT NULL, at_us BIGINT NOT NULL,
		raw BYTEA NOT NULL);
	CREATE UNIQUE INDEX plain_calls_key ON plain_calls (call_key, contact_center);
	CREATE INDEX plain_calls_at ON plain_calls (at_us, id);
	CREATE INDEX plain_calls_did ON plain_calls (did, at_us);
	CREATE INDEX plain_calls_caller ON plain_calls (caller, at_us);
	CREATE INDEX plain_calls_tracker ON plain_calls (tracker, at_us);
	CREATE INDEX plain_calls_result ON plain_calls (result, at_us);
	CREATE INDEX plain_calls_campaign ON plain_calls (campaign, at_us) WHERE campaign <> '';`

// plainValues returns the values of plainColumns.
func plainValues(tracker string, c cdr, raw []byte) ([]any, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	ringTime := c.AnsweredDateTime.Sub(c.StartDateTime)
	return []any{
		id.String(), "", c.CallID, tracker, c.CallID, c.Direction, c.DIDCalled, c.DIDCalled, c.CallerIDNumber, c.CallerIDNumber,
		c.CallerIDName, c.StartDateTime.UnixMicro(), c.AnsweredDateTime.UnixMicro(), c.EndDateTime.UnixMicro(),
		c.Duration, int64(ringTime.Seconds()), int64(c.EndDateTime.Sub(c.AnsweredDateTime).Seconds()), c.HoldTime, strings.ToLower(c.Disposition), c.HangupCause,
		c.HangupBy, c.AgentCCLogin, c.Position, c.RecordingFile, "", "", "", "[]", c.UpdatedAt.UnixMicro(), time.Now().UnixMicro(),
		c.StartDateTime.UnixMicro(), raw,
	}, nil
}

// plainInsert returns the INSERT statement. placeholder returns the n-th parameter.
func plainInsert(placeholder func(n int) string) string {
	placeholders := make([]string, strings.Count(plainColumns, ",")+1)
	for i := range placeholders {
		placeholders[i] = placeholder(i + 1)
	}
	return `INSERT INTO plain_calls (` + plainColumns + `) VALUES (` + strings.Join(placeholders, ", ") + `)`
}

func pgxHandler(ctx context.Context) (http.Handler, error) {
	config, err := pgxpool.ParseConfig(os.Getenv(databaseVariable))
	if err != nil {
		return nil, err
	}
	config.MaxConns = plainConnections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, plainTable); err != nil {
		return nil, err
	}
	insert := plainInsert(func(n int) string { return fmt.Sprintf("$%d", n) })
	return plainHandler(func(ctx context.Context, values []any) error {
		_, err := pool.Exec(ctx, insert, values...)
		return err
	})
}

func sqliteHandler(ctx context.Context) (http.Handler, error) {
	db, err := sql.Open("sqlite", "file:"+os.Getenv(databaseVariable)+
		"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer at a time; more connections would only wait
	if _, err := db.ExecContext(ctx, plainTable); err != nil {
		return nil, err
	}
	insert, err := db.PrepareContext(ctx, plainInsert(func(int) string { return "?" })) //nolint:sqlclosecheck // closed when the process exits
	if err != nil {
		return nil, err
	}
	return plainHandler(func(ctx context.Context, values []any) error {
		_, err := insert.ExecContext(ctx, values...)
		return err
	})
}

// plainHandler returns a handler that stores end calls with save. It gives every
// start call the same answer, which only the open-loop measurement requests.
func plainHandler(save func(ctx context.Context, values []any) error) (http.Handler, error) {
	start, err := constantHandler()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /callTrackers/{tracker}/startCall", start)
	mux.HandleFunc("POST /callTrackers/{tracker}/endCall", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != startKey {
			http.Error(w, "wrong key", http.StatusUnauthorized)
			return
		}
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "unreadable body", http.StatusBadRequest)
			return
		}
		var c cdr
		if err := json.Unmarshal(raw, &c); err != nil {
			http.Error(w, "invalid CDR", http.StatusBadRequest)
			return
		}
		values, err := plainValues(r.PathValue("tracker"), c, raw)
		if err == nil {
			err = save(r.Context(), values)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte(`{"result":true,"content":{},"info":{}}`)) // fails if the client has disconnected
	})
	return mux, nil
}
