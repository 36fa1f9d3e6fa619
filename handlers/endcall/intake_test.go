package endcall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// fakeDatabase is a store that can fail, be slow, and reject a CDR.
type fakeDatabase struct {
	mu        sync.Mutex
	err       error         // error of every save
	delay     time.Duration // duration of a save
	saved     []string      // keys and bodies
	saveCount int

	answer *storage.SaveResult // nil means a new call
}

func (d *fakeDatabase) SaveCall(ctx context.Context, r storage.ReceivedCDR) (storage.SaveResult, error) {
	d.mu.Lock()
	failure, delay := d.err, d.delay
	d.saveCount++
	d.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return storage.SaveResult{}, fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
		}
	}
	if failure != nil {
		return storage.SaveResult{}, failure
	}
	if strings.HasPrefix(r.Call.Key, "poison") {
		return storage.SaveResult{}, errors.New("CDR rejected")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saved = append(d.saved, r.Call.Key+string(r.Raw))
	if d.answer != nil {
		return *d.answer, nil
	}
	return storage.SaveResult{ID: r.Call.Key, Created: true}, nil
}

func (d *fakeDatabase) Ping(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *fakeDatabase) set(err error, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.delay = err, delay
}

// fakeSpool is a spool that can be full.
type fakeSpool struct {
	mu      sync.Mutex
	err     error
	records [][]byte
}

func (s *fakeSpool) Append(_ context.Context, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.records = append(s.records, record)
	return nil
}

func newIntake(log io.Writer) (*Intake, *fakeDatabase, *fakeSpool) {
	d, s := &fakeDatabase{}, &fakeSpool{}
	return NewIntake(IntakeOptions{
		Store: d, Spool: s, Wake: func() {}, Registry: prometheus.NewRegistry(), Now: time.Now, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}), d, s
}

func cdrOf(key string) storage.ReceivedCDR {
	return storage.ReceivedCDR{Call: storage.Call{Key: key, CallID: key, Result: storage.Missed}, Source: storage.FromEndCall, Raw: []byte("!")}
}

func TestIntakeSpoolsDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		intake, d, s := newIntake(&log)
		accept := func(key string, spooled bool, want time.Duration) {
			t.Helper()
			start := time.Now()
			saved, got, err := intake.Accept(t.Context(), cdrOf(key))
			if err != nil || got != spooled || (saved.ID == "") != spooled {
				t.Errorf("%s: %+v, spooled %t, %v", key, saved, got, err)
			}
			if took := time.Since(start); took != want {
				t.Errorf("%s took %s, want %s", key, took, want)
			}
		}
		accept("1", false, 0)
		d.set(fmt.Errorf("gone: %w", storage.ErrUnavailable), 0)
		for range 10 {
			accept("2", true, 0)
		}
		if !intake.Spooling() || intake.Spooled() != 10 || d.saveCount != 11 {
			t.Errorf("spooling %t, spooled %d, saves %d; want every CDR to try the database", intake.Spooling(), intake.Spooled(), d.saveCount)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("the outage was logged %d times: %s", n, &log)
		}
		d.set(nil, 0)
		accept("3", false, 0)
		if intake.Spooling() {
			t.Error("still spooling after a save")
		}

		d.set(nil, time.Hour)
		for range timeoutsToOpen {
			accept("late", true, saveTimeout)
		}
		for range 100 {
			accept("not asked", true, 0)
		}
		<-time.After(probeInterval)
		accept("probe", true, saveTimeout)
		accept("not asked", true, 0)
		d.set(nil, time.Second)
		<-time.After(probeInterval)
		accept("probe", false, time.Second)
		accept("4", false, time.Second)
		if got := len(s.records); got != 10+timeoutsToOpen+100+2 {
			t.Errorf("%d records spooled", got)
		}
	})
}

func TestDrainClosesCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		intake, d, s := newIntake(io.Discard)
		d.set(nil, time.Hour)
		for range timeoutsToOpen + 1 {
			if _, spooled, err := intake.Accept(t.Context(), cdrOf("a")); err != nil || !spooled {
				t.Fatal(spooled, err)
			}
		}
		d.set(nil, saveTimeout+time.Second) // too slow for requests, but not for draining
		if err := intake.Drain(t.Context(), s.records[:1]); err != nil {
			t.Error(err)
		}
		if !intake.Spooling() {
			t.Error("a save that is too slow for requests ends spooling")
		}
		d.set(nil, 0)
		if err := intake.Drain(t.Context(), s.records[1:]); err != nil {
			t.Error(err)
		}
		if _, spooled, err := intake.Accept(t.Context(), cdrOf("b")); err != nil || spooled || intake.Spooling() {
			t.Error("circuit still open", spooled, err)
		}
	})
}

func TestIntakeFailsWithoutDatabaseAndSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		intake, d, s := newIntake(io.Discard)
		s.err = errors.New("disk full")
		d.set(fmt.Errorf("%w: hangs", storage.ErrUnavailable), time.Hour)
		for range timeoutsToOpen + 2 {
			if _, _, err := intake.Accept(t.Context(), cdrOf("a")); !errors.Is(err, ErrNotStored) || !errors.Is(err, s.err) {
				t.Error(err)
			}
		}
		if !intake.Failing() {
			t.Error("Failing reports false after a failure")
		}
		d.set(nil, 0) // the circuit is open and the spool is full
		if _, spooled, err := intake.Accept(t.Context(), cdrOf("b")); err != nil || spooled || intake.Failing() {
			t.Error(spooled, err, intake.Failing())
		}
		d.set(storage.ErrUnavailable, 0)
		if _, _, err := intake.Accept(t.Context(), cdrOf("c")); !errors.Is(err, ErrNotStored) {
			t.Error(err)
		}
		<-time.After(failureWindow)
		if intake.Failing() {
			t.Error("Failing reports true after failureWindow")
		}
	})
}

func TestIntakeSpoolsRejectedCDR(t *testing.T) {
	var log bytes.Buffer
	intake, d, s := newIntake(&log)
	if _, spooled, err := intake.Accept(t.Context(), cdrOf("poison")); err != nil || !spooled {
		t.Fatal(spooled, err)
	}
	if intake.Spooling() || !strings.Contains(log.String(), "CDR rejected") {
		t.Errorf("spooling %t, log %s", intake.Spooling(), &log)
	}
	d.set(storage.ErrUnavailable, 0)
	for range 3 * maxRejections {
		if err := intake.Drain(t.Context(), s.records); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, ErrUnstorable) {
			t.Fatal(err)
		}
	}
	d.set(nil, 0)
	for try := 1; try <= maxRejections; try++ {
		if err := intake.Drain(t.Context(), s.records); err == nil || errors.Is(err, ErrUnstorable) != (try == maxRejections) {
			t.Errorf("attempt %d: %v", try, err)
		}
	}
	if err := intake.Drain(t.Context(), [][]byte{[]byte("{}")}); !errors.Is(err, ErrUnstorable) {
		t.Errorf("unreadable record: %v", err)
	}
}

func TestDrainPreservesOrderPerCall(t *testing.T) {
	intake, d, _ := newIntake(io.Discard)
	var records [][]byte
	want := map[string][]string{}
	for i := range 60 {
		r := cdrOf(fmt.Sprint("call-", i%7, "-"))
		r.Raw = fmt.Append(nil, i)
		record, err := encodeSpooled(r)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
		want[r.Call.Key] = append(want[r.Call.Key], fmt.Sprint(i))
	}
	if err := intake.Drain(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, saved := range d.saved {
		i := strings.LastIndex(saved, "-") + 1
		got[saved[:i]] = append(got[saved[:i]], saved[i:])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	d.set(storage.ErrUnavailable, 0)
	if err := intake.Drain(t.Context(), records); !errors.Is(err, storage.ErrUnavailable) {
		t.Error(err)
	}
}

// fillWithValues sets every field of a struct to a non-zero value.
func fillWithValues(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if at, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
			*at = time.Date(2026, 11, 25, 3, 30, 1, 123456000, time.UTC)
			return
		}
		for _, field := range v.Fields() {
			fillWithValues(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fillWithValues(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillWithValues(key)
		fillWithValues(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillWithValues(v.Elem())
	case reflect.String:
		v.SetString("line\nof " + "\u2028\"text\"")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(61)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(62)
	default:
		panic("no test value for kind " + v.Kind().String())
	}
}

// TestSpooledRecordPreservesEveryField fails if a field of a received CDR does not survive
// the spool.
func TestSpooledRecordPreservesEveryField(t *testing.T) {
	var r storage.ReceivedCDR
	fillWithValues(reflect.ValueOf(&r).Elem())
	r.Raw = []byte("{\"a\":\n\xff\x00}\n")
	record, err := encodeSpooled(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeSpooled(record)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
}

// spooledVersion1 is a record as version 1 wrote it. Every later version must read it,
// because a spool must survive upgrades.
const spooledVersion1 = `{"Version":1,"Report":{"Call":{"ID":"","ContactCenter":"aldebaran","Key":"c-1","Tracker":"sales","CallID":"c-1",` +
	`"Direction":"inbound","DID":"+97161234567","RawDID":"061234567","StartedAt":"2026-11-25T03:30:01.5Z","AnsweredAt":"0001-01-01T00:00:00Z",` +
	`"Duration":28,"Result":"answered","Flags":["time_without_zone"],"ReceivedAt":"2026-11-25T03:31:00.000001Z"},"Source":"endCall","Raw":null}}` +
	"\n" + `{"callID":"c-1"}`

func TestDecodeSpooledVersion1(t *testing.T) {
	got, err := decodeSpooled([]byte(spooledVersion1))
	want := storage.ReceivedCDR{
		Call: storage.Call{
			ContactCenter: "aldebaran", Key: "c-1", Tracker: "sales", CallID: "c-1", Direction: "inbound", DID: "+97161234567", RawDID: "061234567",
			StartedAt: time.Date(2026, 11, 25, 3, 30, 1, 500_000_000, time.UTC), Duration: 28, Result: storage.Answered,
			Flags: []string{"time_without_zone"}, ReceivedAt: time.Date(2026, 11, 25, 3, 31, 0, 1000, time.UTC),
		},
		Source: storage.FromEndCall, Raw: []byte(`{"callID":"c-1"}`),
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{
		"", "\n", "{}\nbody", `{"Version":2}` + "\nbody", `{"Version":1,"Report":{"Unheard":1}}` + "\nbody", `{"Version":1}`, "no json\nbody",
	} {
		if r, err := decodeSpooled([]byte(bad)); err == nil {
			t.Errorf("%q decoded as %+v, want an error", bad, r)
		}
	}
}

func FuzzDecodeSpooled(f *testing.F) {
	f.Add([]byte(spooledVersion1))
	f.Add([]byte(`{"Version":1,"Report":{}}` + "\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, record []byte) {
		r, err := decodeSpooled(bytes.Clone(record))
		if err != nil {
			return
		}
		again, err := encodeSpooled(r)
		if err != nil {
			t.Fatal(err)
		}
		same, err := decodeSpooled(again)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := encodeSpooled(same); err != nil || !slices.Equal(again, twice) {
			t.Errorf("%q became %q, %v", again, twice, err)
		}
		if !bytes.Equal(r.Raw, same.Raw) {
			t.Errorf("the body %q became %q", r.Raw, same.Raw)
		}
	})
}

// Workers are woken only for CDRs that caused jobs.
func TestIntakeWakesWorkersForNewJobs(t *testing.T) {
	intake, d, _ := newIntake(io.Discard)
	woken := 0
	intake.wake = func() { woken++ }
	job := []storage.NewJob{{Kind: "k"}}
	for _, tt := range []struct {
		name  string
		saved storage.SaveResult
		jobs  []storage.NewJob
		away  error
		want  int
	}{
		{"new call with a job", storage.SaveResult{ID: "1", Created: true}, job, nil, 1},
		{"revision with a job", storage.SaveResult{ID: "1", Revised: true}, job, nil, 1},
		{"repeat", storage.SaveResult{ID: "1"}, job, nil, 0},
		{"new call without a job", storage.SaveResult{ID: "1", Created: true}, nil, nil, 0},
		{"spooled CDR", storage.SaveResult{}, job, storage.ErrUnavailable, 0},
	} {
		woken = 0
		d.set(tt.away, 0)
		d.answer = &tt.saved
		cdr := cdrOf("c")
		cdr.Jobs = tt.jobs
		if _, _, err := intake.Accept(t.Context(), cdr); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if woken != tt.want {
			t.Errorf("%s: woken %d times, want %d", tt.name, woken, tt.want)
		}
	}
	// A spooled CDR wakes the workers when it is drained.
	woken, d.answer = 0, nil
	d.set(nil, 0)
	cdr := cdrOf("late")
	cdr.Jobs = job
	record, err := encodeSpooled(cdr)
	if err != nil {
		t.Fatal(err)
	}
	if err := intake.Drain(t.Context(), [][]byte{record}); err != nil || woken != 1 {
		t.Errorf("drained: %v, woken %d times", err, woken)
	}
}
