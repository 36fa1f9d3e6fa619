package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"calltracker/storage/sqlstore"
)

// Sizes of the measurement of lists.
const (
	listDIDs        = 60        // so that each has a page 1,000 among five million calls
	listCallers     = 1_000_000 // one of them makes every fiftieth call
	listMonths      = 13
	listRequests    = 200
	listPage        = 50
	farPage         = 1000
	listLimit       = 50 * time.Millisecond
	frequentCaller  = "+971501112233"
	frequentEvery   = 50
	longestListPage = 1000 // by which it walks to the far page
)

// lists measures GET /api/v1/calls on many calls in PostgreSQL, of a year.
func (b *bench) lists(ctx context.Context) error {
	server, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	address, err := b.migrated(ctx, server)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := loadCalls(ctx, address, b.calls); err != nil {
		return fmt.Errorf("load calls: %w", err)
	}
	fmt.Fprintf(b.out, "%d calls of %d months were loaded in %v.\n\n", b.calls, listMonths, time.Since(begin).Round(time.Second))
	p, err := b.loadedOn(ctx, address, fewTrackers, routesForGrowth)
	if err != nil {
		return err
	}
	defer p.stop()
	for _, filter := range []struct {
		name  string
		value func(n int) string
	}{
		{"did", listDID},
		{"caller", func(n int) string { return callerOf(n*frequentEvery + 1) }},
	} {
		first, err := p.timePages(ctx, func(n int) url.Values { return url.Values{filter.name: {filter.value(n)}} })
		if err != nil {
			return err
		}
		b.addPages(filter.name, 1, first)
	}
	for _, filter := range []url.Values{{"did": {listDID(7)}}, {"caller": {frequentCaller}}} {
		cursor, page, err := p.walk(ctx, filter)
		if err != nil {
			return err
		}
		far, err := p.timePages(ctx, func(int) url.Values {
			q := url.Values{"cursor": {cursor}}
			maps.Copy(q, filter)
			return q
		})
		if err != nil {
			return err
		}
		for name := range filter {
			b.addPages(name, page, far)
		}
	}
	return nil
}

func (b *bench) addPages(filter string, page int, r result) {
	p95 := r.latency(95)
	b.add(fmt.Sprintf("GET /api/v1/calls by %s, page %d, %d calls, p95", filter, page, b.calls), p95.String(), "< "+listLimit.String(), p95 < listLimit)
}

// timePages asks for pages, one after another, and measures.
func (p *process) timePages(ctx context.Context, query func(n int) url.Values) (result, error) {
	r := result{latencies: newHistogram()}
	for n := range listRequests {
		q := query(n)
		q.Set("limit", fmt.Sprint(listPage))
		begin := time.Now()
		if _, _, err := p.page(ctx, q); err != nil {
			return r, err
		}
		if err := r.latencies.RecordValue(time.Since(begin).Microseconds()); err != nil {
			return r, err
		}
	}
	return r, nil
}

// walk follows the cursors of a list to its far page, or to its last if there
// are fewer.
func (p *process) walk(ctx context.Context, filter url.Values) (cursor string, page int, err error) {
	page = 1
	for page < farPage {
		q := url.Values{"limit": {fmt.Sprint(min(longestListPage, (farPage-page)*listPage))}}
		maps.Copy(q, filter)
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		calls, next, err := p.page(ctx, q)
		if err != nil {
			return "", 0, err
		}
		if next == "" {
			break
		}
		cursor = next
		page += calls / listPage
	}
	return cursor, page, nil
}

// page reads one page of calls.
func (p *process) page(ctx context.Context, q url.Values) (calls int, next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/api/v1/calls?"+q.Encode(), nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", err
	}
	var list struct {
		Calls []json.RawMessage `json:"calls"`
		Next  string            `json:"next"`
	}
	if err := json.Unmarshal(body, &list); err != nil || res.StatusCode != http.StatusOK {
		return 0, "", fmt.Errorf("list calls: %s: %.200s", res.Status, body)
	}
	if len(list.Calls) == 0 {
		return 0, "", errors.New("list calls: none")
	}
	return len(list.Calls), list.Next, nil
}

func listDID(n int) string { return fmt.Sprintf("+97143%06d", n%listDIDs) }

// callerOf is who makes the n-th call.
func callerOf(n int) string {
	if n%frequentEvery == 0 {
		return frequentCaller
	}
	return fmt.Sprintf("+97155%07d", n*7919%listCallers)
}

// loadCalls fills an empty database with n calls, evenly over the last months, by
// COPY. The indexes are made afterwards: sorting is faster than inserting.
func loadCalls(ctx context.Context, address string, n int) error {
	now := time.Now().UTC()
	from := now.AddDate(0, -listMonths+1, 0)
	if err := makePartitions(ctx, address, from, now); err != nil {
		return err
	}
	connection, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close(ctx) }()
	if _, err := connection.Exec(ctx, `SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET statement_timeout = 0`); err != nil {
		return err
	}
	indexes, err := dropIndexes(ctx, connection)
	if err != nil {
		return err
	}
	for _, table := range []struct {
		columns string
		row     func(w io.Writer, n int, at time.Time)
	}{
		{"calls (" + plainColumns + ")", writeCall},
		{"call_keys (call_key, contact_center, id, at_us)", writeKey},
	} {
		rows, into := io.Pipe()
		go func() {
			w := bufio.NewWriterSize(into, 1<<16)
			for i := range n {
				table.row(w, i, from.Add(time.Duration(float64(now.Sub(from))*float64(i)/float64(n))))
			}
			_ = into.CloseWithError(w.Flush()) // a COPY that ended early closes the other end
		}()
		_, err := connection.PgConn().CopyFrom(ctx, rows, "COPY "+table.columns+" FROM STDIN")
		_ = rows.Close()
		if err != nil {
			return err
		}
	}
	for _, index := range indexes {
		if _, err := connection.Exec(ctx, index); err != nil {
			return fmt.Errorf("%s: %w", index, err)
		}
	}
	_, err = connection.Exec(ctx, `VACUUM ANALYZE calls`)
	return err
}

func makePartitions(ctx context.Context, address string, from, to time.Time) error {
	store, err := sqlstore.New(sqlstore.Options{URL: address})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if err := store.Prepare(ctx); err != nil {
		return err
	}
	for month := from; month.Before(to); month = month.AddDate(0, 1, 0) {
		if err := store.EnsurePartitions(ctx, month); err != nil {
			return err
		}
	}
	return nil
}

// dropIndexes drops the indexes of calls but for its primary key, and returns
// the statements that make them again.
func dropIndexes(ctx context.Context, connection *pgx.Conn) ([]string, error) {
	rows, err := connection.Query(ctx, `SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'calls' AND indexname <> 'calls_pkey'`)
	if err != nil {
		return nil, err
	}
	type index struct{ Name, Definition string }
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return nil, err
	}
	var again []string
	for _, i := range indexes {
		if _, err := connection.Exec(ctx, "DROP INDEX "+i.Name); err != nil {
			return nil, err
		}
		again = append(again, strings.Replace(i.Definition, " ON ONLY ", " ON ", 1))
	}
	return again, nil
}

func listID(n int, at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", ms>>16, ms&0xffff, n&0xfff, n>>12&0xfff, n)
}

func listKey(n int) string { return fmt.Sprintf("%08x-4b1d-4a3c-8f00-%012x", uint32(n)*2654435761, n) }

// writeCall writes the n-th call as a line of COPY.
func writeCall(w io.Writer, n int, at time.Time) {
	caller := callerOf(n)
	us := at.UnixMicro()
	result := []string{"answered", "answered", "answered", "missed", "busy"}[n%5]
	key := listKey(n)
	fmt.Fprintf(w, "%s\t\t%s\t%s\t%s\tinbound\t%s\t%s\t%s\t%s\t\t%d\t%d\t%d\t75\t9\t66\t0\t%s\tNORMAL_CLEARING\toriginator\t\t0505874603\t%s.mp3\t\t\t%s\t[]\t%d\t%d\t%d\t%d\t0\t1\n",
		listID(n, at), key, trackerID(n%fewTrackers), key, listDID(n/3), listDID(n/3), caller, caller,
		us, us+9e6, us+75e6, result, key, "d", us+76e6, us+77e6, us, us)
}

func writeKey(w io.Writer, n int, at time.Time) {
	fmt.Fprintf(w, "%s\t\t%s\t%d\n", listKey(n), listID(n, at), at.UnixMicro())
}
