package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver of the plain handler
)

// The plain handlers keep an end call's row as one would write it in an
// afternoon: the key, the fields of the record, one INSERT, which is one
// transaction. The row is calltracker's, and so are the indexes; the body is not
// kept, a repeat is an error and nothing is linked.
const (
	pgxBaseline      = "pgx"
	sqliteBaseline   = "sqlite"
	databaseVariable = "BENCH_DATABASE"
	plainConnections = 16
)

const plainColumns = `id, contact_center, call_key, tracker, call_id, direction, did, raw_did, caller, raw_caller,
	caller_name, started_us, answered_us, ended_us, duration, ring_time, talk_time, hold_time, result, hangup_cause,
	hangup_by, agent, position, recording_file, campaign, route, decision_id, flags, revised_us, received_us,
	at_us, began_us, heard_us, revisions`

// plainValues are the values of plainColumns.
func plainValues(tracker string, c cdr) ([]any, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	rang := c.AnsweredDateTime.Sub(c.StartDateTime)
	return []any{
		id.String(), "", c.CallID, tracker, c.CallID, c.Direction, c.DIDCalled, c.DIDCalled, c.CallerIDNumber, c.CallerIDNumber,
		c.CallerIDName, c.StartDateTime.UnixMicro(), c.AnsweredDateTime.UnixMicro(), c.EndDateTime.UnixMicro(),
		c.Duration, int64(rang.Seconds()), int64(c.EndDateTime.Sub(c.AnsweredDateTime).Seconds()), c.HoldTime, strings.ToLower(c.Disposition), c.HangupCause,
		c.HangupBy, c.AgentCCLogin, c.Position, c.RecordingFile, "", "", "", "[]", c.UpdatedAt.UnixMicro(), time.Now().UnixMicro(),
		c.StartDateTime.UnixMicro(), c.StartDateTime.UnixMicro(), int64(0), int64(1),
	}, nil
}

// plainTable is an ordinary table like calls.
const plainTable = `CREATE TABLE plain_calls (LIKE calls INCLUDING ALL);
	CREATE UNIQUE INDEX ON plain_calls (call_key, contact_center)`

func plainInsert(table string, mark func(n int) string) string {
	marks := make([]string, strings.Count(plainColumns, ",")+1)
	for i := range marks {
		marks[i] = mark(i + 1)
	}
	return `INSERT INTO ` + table + ` (` + plainColumns + `) VALUES (` + strings.Join(marks, ", ") + `)`
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
	insert := plainInsert("plain_calls", func(n int) string { return fmt.Sprintf("$%d", n) })
	return plainHandler(func(ctx context.Context, values []any) error {
		_, err := pool.Exec(ctx, insert, values...)
		return err
	}), nil
}

func sqliteHandler(ctx context.Context) (http.Handler, error) {
	db, err := sql.Open("sqlite", "file:"+os.Getenv(databaseVariable)+
		"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)                                                                        // SQLite has one writer at a time; more only get in each other's way
	insert, err := db.PrepareContext(ctx, plainInsert("calls", func(int) string { return "?" })) //nolint:sqlclosecheck // it lasts as long as the process
	if err != nil {
		return nil, err
	}
	return plainHandler(func(ctx context.Context, values []any) error {
		_, err := insert.ExecContext(ctx, values...)
		return err
	}), nil
}

func plainHandler(save func(ctx context.Context, values []any) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /callTrackers/{tracker}/endCall", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != startKey {
			http.Error(w, "wrong key", http.StatusUnauthorized)
			return
		}
		var c cdr
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&c); err != nil {
			http.Error(w, "not a record", http.StatusBadRequest)
			return
		}
		values, err := plainValues(r.PathValue("tracker"), c)
		if err == nil {
			err = save(r.Context(), values)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte(`{"result":true,"content":{},"info":{}}`)) // a client that has gone
	})
	return mux
}
