package endcall

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// Errors of an Intake.
var (
	// ErrNotStored means that a CDR is not stored. The sender must send it again.
	ErrNotStored = errors.New("neither the database nor the spool could store the CDR")
	// ErrUnstorable means that the database will never accept a spooled record.
	ErrUnstorable = errors.New("the database rejects the record")

	errCircuitOpen = errors.New("circuit breaker open: the database timed out repeatedly")
)

// cdrStore is the part of a store that Intake uses. Saving a CDR twice must have the
// same effect as saving it once.
type cdrStore interface {
	SaveCall(ctx context.Context, r storage.ReceivedCDR) (storage.SaveResult, error)
	Ping(ctx context.Context) error
}

// recordSpool stores records on the local disk. When Append returns nil, the
// record is flushed to disk.
type recordSpool interface {
	Append(ctx context.Context, record []byte) error
}

// IntakeOptions holds the dependencies of an Intake. All fields are required.
type IntakeOptions struct {
	Store    cdrStore
	Spool    recordSpool
	Wake     func() // called after a CDR that caused jobs is saved
	Now      func() time.Time
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Intake stores received CDRs in the database, or as records in the spool while the
// database is unavailable. A received CDR is a request body with the call that the server
// read from it; bodies that are not CDRs are stored in the same way. Drain later moves
// spooled records into the database. Intake is safe for concurrent use.
type Intake struct {
	store  cdrStore
	spool  recordSpool
	wake   func()
	now    func() time.Time
	logger *slog.Logger
	calls  *prometheus.CounterVec
	cdrs   *prometheus.CounterVec

	breaker     circuitbreaker.CircuitBreaker[any] // keeps requests from waiting for a database that timed out repeatedly
	spooled     atomic.Int64
	spooling    atomic.Bool  // whether CDRs go to the spool
	lastFailure atomic.Int64 // Unix microseconds of the last failed Accept; 0 after a success

	// State of Drain: the digest of the record that the database rejected last, and
	// how often it did in a row.
	rejectedSum [sha256.Size]byte
	rejections  int
}

// NewIntake returns an Intake and registers its metrics.
func NewIntake(o IntakeOptions) *Intake {
	if o.Store == nil || o.Spool == nil || o.Wake == nil || o.Now == nil || o.Logger == nil || o.Registry == nil {
		panic("endcall.NewIntake: Store, Spool, Wake, Now, Logger, and Registry are required")
	}
	in := &Intake{
		store: o.Store, spool: o.Spool, wake: o.Wake, now: o.Now, logger: o.Logger,
		breaker: circuitbreaker.NewBuilder[any]().WithFailureThreshold(timeoutsToOpen).WithSuccessThreshold(1).WithDelay(probeInterval).Build(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_calls_stored_total", Help: "Calls stored for the first time, by result.",
		}, []string{"result"}),
		cdrs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_call_reports_total", Help: "CDRs received, by kind: first, revision (with new data), or repeat (without).",
		}, []string{"kind"}),
	}
	o.Registry.MustRegister(in.calls, in.cdrs)
	return in
}

// count counts a stored CDR.
func (in *Intake) count(result storage.Result, saved storage.SaveResult) {
	switch {
	case saved.Created:
		in.calls.WithLabelValues(string(result)).Inc()
		in.cdrs.WithLabelValues("first").Inc()
	case saved.Revised:
		in.cdrs.WithLabelValues("revision").Inc()
	default:
		in.cdrs.WithLabelValues("repeat").Inc()
	}
}

// Timeouts.
const (
	saveTimeout      = 2 * time.Second  // for the database, while Ziwo waits
	spoolTimeout     = 5 * time.Second  // for the disk, while Ziwo waits
	drainSaveTimeout = 10 * time.Second // for the database while draining; longer, so that a slow database still receives every CDR
	pingTimeout      = 2 * time.Second
)

const (
	timeoutsToOpen = 3 // consecutive timeouts that open the breaker
	probeInterval  = time.Second

	drainWorkers  = 16 // concurrent saves while draining a batch
	maxRejections = 5  // rejections after which a record is unstorable
)

// Accept stores a CDR and returns when it is in the database or in the spool;
// spooled is true for the spool. The error is ErrNotStored with its causes. A save
// that timed out may still have been committed. Drain then repeats it, which is
// harmless.
func (in *Intake) Accept(ctx context.Context, r storage.ReceivedCDR) (saved storage.SaveResult, spooled bool, err error) {
	saveErr := errCircuitOpen
	allowed := in.breaker.TryAcquirePermit()
	if allowed {
		if saved, saveErr = in.save(ctx, r, saveTimeout); saveErr == nil {
			return saved, false, nil
		}
	}
	spoolErr := in.spoolCDR(ctx, r, saveErr)
	if spoolErr == nil {
		return storage.SaveResult{}, true, nil
	}
	if !allowed { // the database is the only option left
		if saved, saveErr = in.save(ctx, r, saveTimeout); saveErr == nil {
			return saved, false, nil
		}
	}
	in.lastFailure.Store(in.now().UnixMicro())
	return storage.SaveResult{}, false, fmt.Errorf("%w: %w; %w", ErrNotStored, saveErr, spoolErr)
}

func (in *Intake) save(ctx context.Context, r storage.ReceivedCDR, timeout time.Duration) (storage.SaveResult, error) {
	start := in.now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	saved, err := in.store.SaveCall(ctx, r)
	took := in.now().Sub(start)
	if err != nil {
		// An immediate error delays no request, so it does not open the breaker. But a
		// failed probe keeps the breaker open, whatever its error.
		if took >= saveTimeout || !in.breaker.IsClosed() {
			in.breaker.RecordFailure()
		}
		return storage.SaveResult{}, err
	}
	in.count(r.Call.Result, saved)
	in.lastFailure.Store(0)
	if len(r.Jobs) > 0 && (saved.Created || saved.Revised) {
		in.wake()
	}
	switch closed := in.breaker.IsClosed(); {
	case took >= saveTimeout && !closed: // a slow probe
		in.breaker.RecordFailure()
	case took < saveTimeout && closed:
		in.breaker.RecordSuccess()
	case took < saveTimeout:
		in.breaker.Close()
	}
	if took < saveTimeout {
		if in.spooling.CompareAndSwap(true, false) {
			in.logger.LogAttrs(ctx, slog.LevelInfo, "database accepts CDRs again")
		}
	}
	return saved, nil
}

func (in *Intake) spoolCDR(ctx context.Context, r storage.ReceivedCDR, cause error) error {
	record, err := encodeSpooled(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, spoolTimeout)
	defer cancel()
	if err := in.spool.Append(ctx, record); err != nil {
		return err
	}
	in.spooled.Add(1)
	in.lastFailure.Store(0)
	switch {
	case !errors.Is(cause, storage.ErrUnavailable) && !errors.Is(cause, errCircuitOpen):
		in.logger.LogAttrs(ctx, slog.LevelError, "database rejected a CDR; CDR spooled", slog.Any("error", cause))
	case in.spooling.CompareAndSwap(false, true): // log an outage once
		in.logger.LogAttrs(ctx, slog.LevelWarn, "database unavailable; spooling CDRs", slog.Any("error", cause))
	}
	return nil
}

// Spooled returns the number of CDRs spooled since the start.
func (in *Intake) Spooled() int64 { return in.spooled.Load() }

// Spooling reports whether the database is unavailable and CDRs go to the
// spool. Drain retries the spooled records, so the state ends when the database
// is available again.
func (in *Intake) Spooling() bool { return in.spooling.Load() }

// failureWindow is how long Failing reports true after a failure. The state must
// expire, because clients that see it may send no further CDRs.
const failureWindow = 10 * time.Second

// Failing reports whether a CDR could not be stored within the last failureWindow.
func (in *Intake) Failing() bool {
	at := in.lastFailure.Load()
	return at != 0 && in.now().Sub(time.UnixMicro(at)) < failureWindow
}

// Drain saves spooled records in the order of each call. If it returns an error,
// the caller must pass the records again one by one after a pause. ErrUnstorable
// means that the single record passed will never be accepted. Drain must not be
// called concurrently.
func (in *Intake) Drain(ctx context.Context, records [][]byte) error {
	cdrs := make([]storage.ReceivedCDR, len(records))
	for i, record := range records {
		var err error
		if cdrs[i], err = decodeSpooled(record); err != nil {
			return fmt.Errorf("%w: %w", ErrUnstorable, err)
		}
	}
	if len(records) > 1 {
		return in.drainBatch(ctx, cdrs)
	}
	_, err := in.save(ctx, cdrs[0], drainSaveTimeout)
	if err == nil || errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil {
		in.rejections = 0
		return err
	}
	return in.retryOrReject(ctx, records[0], err)
}

// drainBatch saves the CDRs of different calls concurrently, because the store
// commits concurrent saves in one transaction.
func (in *Intake) drainBatch(ctx context.Context, cdrs []storage.ReceivedCDR) error {
	type call struct{ contactCenter, key string }
	var order []call
	calls := map[call][]storage.ReceivedCDR{}
	for _, r := range cdrs {
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
				if _, err := in.save(ctx, r, drainSaveTimeout); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	saves.Wait()
	return context.Cause(ctx)
}

// retryOrReject decides what happens to a record that the database rejects
// although it is available. A record gets a few attempts, because the cause may be
// temporary.
func (in *Intake) retryOrReject(ctx context.Context, record []byte, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if in.store.Ping(ctx) != nil {
		return cause
	}
	if sum := sha256.Sum256(record); sum != in.rejectedSum {
		in.rejectedSum, in.rejections = sum, 0
	}
	if in.rejections++; in.rejections < maxRejections {
		return cause
	}
	in.rejections = 0
	return fmt.Errorf("%w: %w", ErrUnstorable, cause)
}
