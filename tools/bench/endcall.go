package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"calltracker/storage/storetest/postgrestest"
)

// Sizes of the measurement of end calls.
const (
	endConnections = 64
	endPool        = 4_000 // requests with different contents
)

// cdr is a CDR as Ziwo posts it, without the fields that are empty here.
type cdr struct {
	CallID           string     `json:"callID"`
	AnsweredRawTime  int64      `json:"answeredRawTime"`
	HangupBy         string     `json:"hangupBy"`
	AudioQuality     string     `json:"audioQuality"`
	Duration         int64      `json:"duration"`
	CreatedAt        time.Time  `json:"createdAt"`
	CallerIDName     string     `json:"callerIDName"`
	RecordingFile    string     `json:"recordingFile"`
	Direction        string     `json:"direction"`
	UpdatedAt        time.Time  `json:"updatedAt"`
	CallerIDNumber   string     `json:"callerIDNumber"`
	EndRawTime       int64      `json:"endRawTime"`
	EndDateTime      time.Time  `json:"endDateTime"`
	HoldTime         int64      `json:"holdTime"`
	StartRawTime     int64      `json:"startRawTime"`
	CallLegSide      string     `json:"callLegSide"`
	HangupCause      string     `json:"hangupCause"`
	Disposition      string     `json:"disposition"`
	AgentCCLogin     string     `json:"agentCCLogin"`
	StartDateTime    time.Time  `json:"startDateTime"`
	AnsweredDateTime time.Time  `json:"answeredDateTime"`
	DIDCalled        string     `json:"didCalled"`
	ChannelName      string     `json:"channelName"`
	Position         string     `json:"position"`
	Gateway          string     `json:"gateway"`
	Status           string     `json:"status"`
	ID               string     `json:"id"`
	Version          string     `json:"version"`
	CallFlows        []callFlow `json:"callFlows"`
}

type callFlow struct {
	CallID          string `json:"callID"`
	Transfered      bool   `json:"transfered"`
	ExtensionName   string `json:"extensionName"`
	ExtensionNumber string `json:"extensionNumber"`
	Step            int    `json:"step"`
	Hangup          bool   `json:"hangup"`
}

// endRequests returns an end call from each of n callers to random trackers and
// DIDs. The calls have just ended.
func endRequests(trackers, n int) ([]request, error) {
	d := generator(3)
	now := time.Now().UTC().Truncate(time.Second)
	out := make([]request, n)
	for i, caller := range callers(n) {
		t := d.intn(trackers)
		var err error
		if out[i], err = endRequest(&d, trackerID(t), nationalDID(t, d.intn(didsPerTracker)), caller, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// endRequest returns the end call of a call that ended now.
func endRequest(d *generator, tracker, did, caller string, now time.Time) (request, error) {
	talkTime := time.Duration(5+d.intn(300)) * time.Second
	ringTime := time.Duration(2+d.intn(20)) * time.Second
	started := now.Add(-talkTime - ringTime)
	const flow = "0f6d7a3e-51c4-4c8e-9a50-6b0e3c1f5d27"
	body, err := json.Marshal(cdr{
		CallID: callIDPrefix + callIDDigits, AnsweredRawTime: started.Add(ringTime).Unix(), HangupBy: d.pick("originator", "originatee"),
		AudioQuality: "100", Duration: int64((talkTime + ringTime).Seconds()), CreatedAt: now, CallerIDName: caller, RecordingFile: flow + ".mp3",
		Direction: "inbound", UpdatedAt: now, CallerIDNumber: caller, EndRawTime: now.Unix(), EndDateTime: now, StartRawTime: started.Unix(),
		CallLegSide: "unknown", HangupCause: "NORMAL_CLEARING", Disposition: "ANSWER", AgentCCLogin: fmt.Sprintf("%04d", d.intn(40)),
		StartDateTime: started, AnsweredDateTime: started.Add(ringTime), DIDCalled: did, ChannelName: "sofia/internal/" + did + "@pbx.example.net",
		Position: fmt.Sprintf("050%07d", d.intn(10_000_000)), Gateway: "external", Status: "active", ID: fmt.Sprintf("%d:%d", d.intn(100), d.intn(100_000)), Version: "3",
		CallFlows: []callFlow{
			{CallID: flow, ExtensionName: "general_incoming", ExtensionNumber: did, Step: 1},
			{CallID: flow, Transfered: true, ExtensionName: "queue_sales", ExtensionNumber: did, Step: 2},
			{CallID: flow, Transfered: true, ExtensionName: "agent", ExtensionNumber: did, Step: 3, Hangup: true},
		},
	})
	if err != nil {
		return request{}, err
	}
	wire := fmt.Appendf(nil, "POST /callTrackers/%s/endCall HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: %s\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%s",
		tracker, startKey, len(body), body)
	digits := bytes.Index(wire, []byte(callIDPrefix)) + len(callIDPrefix)
	return request{wire: wire, callID: wire[digits : digits+len(callIDDigits)]}, nil
}

// checkSaved returns an error unless a body says that the CDR was stored without a
// warning.
func checkSaved(_ request, body []byte) error {
	if !bytes.HasPrefix(body, []byte(`{"result":true,"content":{},"info":{}`)) {
		return errors.New("answer does not confirm the end call")
	}
	return nil
}

// endCallPostgres compares calltracker on PostgreSQL with a plain handler on the
// same PostgreSQL server.
func (b *bench) endCallPostgres(ctx context.Context) error {
	server, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	var addresses [2]string
	for i := range addresses {
		if addresses[i], err = b.migrated(ctx, server); err != nil {
			return err
		}
	}
	return b.endCall(ctx, "PostgreSQL", pgxBaseline, addresses[0], addresses[1], 1.5)
}

// endCallSQLite compares calltracker on SQLite with a plain handler on another
// database file. Both wait for the disk at every commit.
func (b *bench) endCallSQLite(ctx context.Context) error {
	return b.endCall(ctx, "SQLite", sqliteBaseline, "", filepath.Join(b.dir, "plain.db"), 2.5)
}

func (b *bench) endCall(ctx context.Context, database, plainHandler, trackerDatabase, plainDatabase string, goal float64) error {
	requests, err := endRequests(fewTrackers, endPool)
	if err != nil {
		return err
	}
	clients := distribute(requests, endConnections)
	server, err := b.startConfiguredOn(ctx, trackerDatabase, fewTrackers, routesForGrowth)
	if err != nil {
		return err
	}
	defer server.stop()
	baseline, err := b.baseline(ctx, plainHandler, databaseVariable+"="+plainDatabase)
	if err != nil {
		return err
	}
	defer baseline.stop()
	results, err := b.runRounds(ctx, []contender{
		{name: "calltracker on " + database, process: server, clients: clients, check: checkSaved},
		{name: "plain handler on " + database, process: baseline, clients: clients, check: checkSaved},
	})
	if err != nil {
		return err
	}
	rate := medianOfRounds(results, func(r []result) float64 { return r[0].rate() / r[1].rate() })
	p99 := medianOfRounds(results, func(r []result) float64 { return float64(r[0].latency(99)) / float64(r[1].latency(99)) })
	b.add(fmt.Sprintf("endCall on %s, %d connections, requests/s against a plain handler", database, endConnections),
		fmt.Sprintf("%.2f", rate), fmt.Sprintf(">= %.2f", goal), rate >= goal)
	b.add(fmt.Sprintf("endCall on %s, p99 against a plain handler", database), fmt.Sprintf("%.2f", p99), "<= 1.00", p99 <= 1)
	return nil
}

// postgres starts a PostgreSQL server. Unlike the contenders, it may use every
// core.
func (b *bench) postgres(ctx context.Context, settings ...string) (*postgrestest.Server, error) {
	if taskset, err := exec.LookPath("taskset"); err == nil {
		all := exec.CommandContext(ctx, taskset, "--all-tasks", "--cpu-list", "--pid", fmt.Sprintf("0-%d", runtime.NumCPU()-1), strconv.Itoa(os.Getpid()))
		if output, err := all.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("taskset: %w: %s", err, output)
		}
		defer func() { _ = leaveFirstCore(ctx) }()
	}
	return postgrestest.New(settings...)
}

// migrated creates a database with the schema of calltracker and returns its
// address.
func (b *bench) migrated(ctx context.Context, server *postgrestest.Server) (string, error) {
	name := "bench_" + strings.ToLower(rand.Text())
	if err := execute(ctx, server.URL(), "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	address, err := url.Parse(server.URL())
	if err != nil {
		return "", err
	}
	address.Path = "/" + name
	return address.String(), b.migrate(ctx, "CALLTRACKER_DATABASE_URL="+address.String(), "CALLTRACKER_DATA_DIR="+b.dir)
}

func (b *bench) migrate(ctx context.Context, environment ...string) error {
	command := exec.CommandContext(ctx, b.binary, "migrate")
	command.Env = environment
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("calltracker migrate: %w: %s", err, output)
	}
	return nil
}

func execute(ctx context.Context, address string, statements ...string) error {
	connection, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close(ctx) }()
	for _, statement := range statements {
		if _, err := connection.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	return nil
}
