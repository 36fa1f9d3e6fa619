package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// Sizes of the measurement of lists.
const (
	listDIDs        = 60 // few, so that each has 1,000 pages in five million calls
	listCallers     = 1_000_000
	listMonths      = 13
	listRequests    = 200
	listPage        = 50
	farPage         = 1000
	listLimit       = 50 * time.Millisecond
	frequentCaller  = "+971501112233"
	frequentEvery   = 50   // calls; one of them is from frequentCaller
	longestListPage = 1000 // page size for reaching farPage
)

// lists measures GET /api/v1/calls on a year of calls in PostgreSQL.
func (b *bench) lists(ctx context.Context) error {
	server, err := b.postgres(ctx, loadSettings...)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	address, err := b.migrated(ctx, server)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := loadCalls(ctx, address, b.calls, begin); err != nil {
		return fmt.Errorf("load calls: %w", err)
	}
	fmt.Fprintf(b.out, "Loaded %d calls of %d months in %v.\n\n", b.calls, listMonths, time.Since(begin).Round(time.Second))
	p, err := b.startConfiguredOn(ctx, address, fewTrackers, routesForGrowth)
	if err != nil {
		return err
	}
	defer p.stop()
	for _, filter := range []struct {
		name  string
		value func(n int) string
	}{
		{"did", listDID},
		{"caller", func(n int) string { return listCaller(n*frequentEvery + 1) }},
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

// timePages requests pages one after another and returns their latencies.
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

// walk follows the cursors of a list to farPage, or to its last page if it is
// shorter. It returns the cursor and the number of that page.
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

// page requests one page of calls. It returns their number and the next cursor.
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
		return 0, "", errors.New("list calls: empty page")
	}
	return len(list.Calls), list.Next, nil
}

// listDID returns the DID of the n-th group of calls.
func listDID(n int) string { return fmt.Sprintf("+97143%06d", n%listDIDs) }

// listCaller returns the caller of the n-th call.
func listCaller(n int) string {
	if n%frequentEvery == 0 {
		return frequentCaller
	}
	return fmt.Sprintf("+97155%07d", n*7919%listCallers)
}
