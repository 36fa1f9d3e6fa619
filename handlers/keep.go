package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/storage"
)

// What a Keeper says of a record.
var (
	// ErrNotKept means that a record is in no safe place: whoever sent it must
	// send it again.
	ErrNotStored = errors.New("neither the database nor the spool could keep the record")
	// ErrRefused means that a spooled record will never be accepted.
	ErrUnstorable = errors.New("the record cannot be stored")

	errCircuitOpen = errors.New("the database did not answer lately and was not asked")
)

// recordStore is what Keeper needs of a store. Saving a report twice must be as
// good as saving it once.
type reportStore interface {
	SaveCall(ctx context.Context, r storage.Report) (storage.Saved, error)
	Ping(ctx context.Context) error
}

// spooler keeps records on the local disk: when Append returns nil, the record
// is flushed.
type reportSpool interface {
	Append(ctx context.Context, record []byte) error
}

// Keeper puts reports of calls into a safe place: the database, or the spool
// while the database does not take them. Later Drain brings them from there into
// the database. It is safe for concurrent use.
type Intake struct {
	Store   reportStore
	Spool   reportSpool
	Metrics *Metrics
	Now     func() time.Time
	Logger  *slog.Logger
	Wake    func() // told when a record that caused jobs was saved; nil: nobody is

	circuit     circuit
	spooled     atomic.Int64
	spooling    atomic.Bool  // records go to the spool
	lastFailure atomic.Int64 // when a report was kept nowhere, if none was kept since; microseconds

	// Of Drain alone: what the database refused last, and how many times in a row.
	attemptedSum [sha256.Size]byte
	attempts     int
}

// Times of keeping a record.
const (
	saveTimeout      = 2 * time.Second  // for the database, while Ziwo waits
	spoolTimeout     = 5 * time.Second  // for the disk, while Ziwo waits
	drainSaveTimeout = 10 * time.Second // for the database, when nobody waits: one that is slow gets everything in the end
	pingTimeout      = 2 * time.Second
)

const (
	drainWorkers     = 16 // saves of a drained batch at the same time
	maxDrainAttempts = 5  // after which a record is taken to be refused for good
)

// Keep returns once the report is in a safe place; spooled tells that this is
// the spool. The error is ErrNotKept with its causes. A save that took too long
// may have been done all the same: then Drain repeats it, which does no harm.
func (k *Intake) Accept(ctx context.Context, r storage.Report) (saved storage.Saved, spooled bool, err error) {
	saveErr := errCircuitOpen
	allowed := k.circuit.allow(k.Now())
	if allowed {
		if saved, saveErr = k.save(ctx, r, saveTimeout); saveErr == nil {
			return saved, false, nil
		}
	}
	spoolErr := k.spool(ctx, r, saveErr)
	if spoolErr == nil {
		return storage.Saved{}, true, nil
	}
	if !allowed { // there is nothing better left
		if saved, saveErr = k.save(ctx, r, saveTimeout); saveErr == nil {
			return saved, false, nil
		}
	}
	k.lastFailure.Store(k.Now().UnixMicro())
	return storage.Saved{}, false, fmt.Errorf("%w: %w; %w", ErrNotStored, saveErr, spoolErr)
}

func (k *Intake) save(ctx context.Context, r storage.Report, timeout time.Duration) (storage.Saved, error) {
	start := k.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	saved, err := k.Store.SaveCall(ctx, r)
	took := k.Now().Sub(start)
	if err != nil {
		if took >= saveTimeout {
			k.circuit.recordTimeout(k.Now())
		}
		return storage.Saved{}, err
	}
	k.Metrics.Stored(r.Call.Result, saved)
	k.lastFailure.Store(0)
	if k.Wake != nil && len(r.Jobs) > 0 && (saved.Created || saved.Revised) {
		k.Wake()
	}
	if took < saveTimeout {
		k.circuit.reset()
		if k.spooling.CompareAndSwap(true, false) {
			k.Logger.LogAttrs(ctx, slog.LevelInfo, "the database takes records again")
		}
	}
	return saved, nil
}

func (k *Intake) spool(ctx context.Context, r storage.Report, cause error) error {
	record, err := encodeSpooled(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, spoolTimeout)
	defer cancel()
	if err := k.Spool.Append(ctx, record); err != nil {
		return err
	}
	k.spooled.Add(1)
	k.lastFailure.Store(0)
	switch {
	case !errors.Is(cause, storage.ErrUnavailable) && !errors.Is(cause, errCircuitOpen):
		k.Logger.LogAttrs(ctx, slog.LevelError, "the database does not take a record, it went to the spool", slog.Any("error", cause))
	case k.spooling.CompareAndSwap(false, true): // an outage is one message
		k.Logger.LogAttrs(ctx, slog.LevelWarn, "the database takes no records, they go to the spool", slog.Any("error", cause))
	}
	return nil
}

// Spooled is how many records went to the spool since the start.
func (k *Intake) Spooled() int64 { return k.spooled.Load() }

// Away tells whether the database takes no records now. What is in the spool is
// tried again and again, so that it does not stay so.
func (k *Intake) Spooling() bool { return k.spooling.Load() }

// refusalCounts is how long one refusal tells that the next record would be
// refused, too: nobody may send one to find out.
const failureWindow = 10 * time.Second

// Refusing tells whether a record could be kept nowhere lately.
func (k *Intake) Failing() bool {
	at := k.lastFailure.Load()
	return at != 0 && k.Now().Sub(time.UnixMicro(at)) < failureWindow
}

// Drain saves spooled records, in the order of each call. An error means that
// they should come again, one by one and after a pause; ErrRefused that the one
// record that was given never should. It is for one goroutine at a time.
func (k *Intake) Drain(ctx context.Context, records [][]byte) error {
	reports := make([]storage.Report, len(records))
	for i, record := range records {
		var err error
		if reports[i], err = decodeSpooled(record); err != nil {
			return fmt.Errorf("%w: %w", ErrUnstorable, err)
		}
	}
	if len(records) > 1 {
		return k.drainBatch(ctx, reports)
	}
	_, err := k.save(ctx, reports[0], drainSaveTimeout)
	if err == nil || errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil {
		k.attempts = 0
		return err
	}
	return k.retryOrReject(ctx, records[0], err)
}

// drainTogether saves different calls at the same time, since the store shares
// a transaction among those that come together.
func (k *Intake) drainBatch(ctx context.Context, reports []storage.Report) error {
	type call struct{ contactCenter, key string }
	var order []call
	calls := map[call][]storage.Report{}
	for _, r := range reports {
		c := call{r.Call.ContactCenter, r.Call.Key}
		if calls[c] == nil {
			order = append(order, c)
		}
		calls[c] = append(calls[c], r)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, drainWorkers)
	var saves sync.WaitGroup
	for _, c := range order {
		slots <- struct{}{}
		saves.Go(func() {
			defer func() { <-slots }()
			for _, r := range calls[c] {
				if ctx.Err() != nil {
					return
				}
				if _, err := k.save(ctx, r, drainSaveTimeout); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	saves.Wait()
	return context.Cause(ctx)
}

// refuse decides on a record that a database which answers does not take. One
// that fails for a reason that passes gets a few more tries.
func (k *Intake) retryOrReject(ctx context.Context, record []byte, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if k.Store.Ping(ctx) != nil {
		return cause
	}
	if sum := sha256.Sum256(record); sum != k.attemptedSum {
		k.attemptedSum, k.attempts = sum, 0
	}
	if k.attempts++; k.attempts < maxDrainAttempts {
		return cause
	}
	k.attempts = 0
	return fmt.Errorf("%w: %w", ErrUnstorable, cause)
}

// circuit keeps records from waiting for a database that did not answer in time.
// The zero value is closed.
type circuit struct {
	mu        sync.Mutex
	timeouts  int       // in a row
	nextProbe time.Time // while open: when somebody may ask again
}

const (
	timeoutsToOpen = 3
	probeInterval  = time.Second
)

// closed tells whether to ask the database. While the circuit is open, one a
// second may, to find out.
func (c *circuit) allow(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timeouts < timeoutsToOpen {
		return true
	}
	if now.Before(c.nextProbe) {
		return false
	}
	c.nextProbe = now.Add(probeInterval + saveTimeout)
	return true
}

func (c *circuit) recordTimeout(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeouts++
	c.nextProbe = now.Add(probeInterval)
}

func (c *circuit) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeouts = 0
}

// A spooled record is a line of JSON, and after it the body as it came: so a
// person can read it, and cut the body out to send it again.
//
// Version 1 has the fields of storage.Report by their names. A program that
// changes what one of them means, or removes one, needs another version.
const spooledVersion = 1

type spooledHeader struct {
	Version int
	Report  storage.Report // without Raw
}

func encodeSpooled(r storage.Report) ([]byte, error) {
	raw := r.Raw
	r.Raw = nil
	header, err := json.Marshal(spooledHeader{Version: spooledVersion, Report: r})
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(append(header, '\n'), raw...), nil
}

// readSpooled takes a record apart. Fields that it does not know are an error:
// a newer program has put something there that must not be dropped.
func decodeSpooled(record []byte) (storage.Report, error) {
	header, raw, found := bytes.Cut(record, []byte("\n"))
	if !found {
		return storage.Report{}, errors.New("decode record: it has no body")
	}
	var version struct{ Version int }
	if err := json.Unmarshal(header, &version); err != nil {
		return storage.Report{}, fmt.Errorf("decode record: %w", err)
	}
	if version.Version != spooledVersion {
		return storage.Report{}, fmt.Errorf("decode record: version %d is not known, only %d is", version.Version, spooledVersion)
	}
	var decoded spooledHeader
	decoder := json.NewDecoder(bytes.NewReader(header))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&decoded); err != nil {
		return storage.Report{}, fmt.Errorf("decode record: %w", err)
	}
	decoded.Report.Raw = raw
	return decoded.Report, nil
}
