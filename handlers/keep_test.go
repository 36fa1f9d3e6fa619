package handlers

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

// database is a store that can be away, hang, and dislike a record.
type database struct {
	mu    sync.Mutex
	away  error         // of every save
	takes time.Duration // a save
	saved []string      // keys
	asked int

	answer *storage.SaveResult // nil for that of a new call
}

func (d *database) SaveCall(ctx context.Context, r storage.ReceivedCDR) (storage.SaveResult, error) {
	d.mu.Lock()
	away, takes := d.away, d.takes
	d.asked++
	d.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return storage.SaveResult{}, fmt.Errorf("%w: %w", storage.ErrUnavailable, ctx.Err())
		}
	}
	if away != nil {
		return storage.SaveResult{}, away
	}
	if strings.HasPrefix(r.Call.Key, "poison") {
		return storage.SaveResult{}, errors.New("refused for its own sake")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saved = append(d.saved, r.Call.Key+string(r.Raw))
	if d.answer != nil {
		return *d.answer, nil
	}
	return storage.SaveResult{ID: r.Call.Key, Created: true}, nil
}

func (d *database) Ping(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.away
}

func (d *database) set(away error, takes time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away, d.takes = away, takes
}

// shelf is a spool that can be full.
type shelf struct {
	mu      sync.Mutex
	full    error
	records [][]byte
}

func (s *shelf) Append(_ context.Context, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	s.records = append(s.records, record)
	return nil
}

func newKeeper(log io.Writer) (*Intake, *database, *shelf) {
	d, s := &database{}, &shelf{}
	return &Intake{
		Store: d, Spool: s, Metrics: NewMetrics(prometheus.NewRegistry()), Now: time.Now, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}, d, s
}

func reportOf(key string) storage.ReceivedCDR {
	return storage.ReceivedCDR{Call: storage.Call{Key: key, CallID: key, Result: storage.Missed}, Source: storage.FromEndCall, Raw: []byte("!")}
}

func TestRecordsGoToTheSpoolWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k, d, s := newKeeper(&log)
		keep := func(key string, spooled bool, takes time.Duration) {
			t.Helper()
			start := time.Now()
			saved, got, err := k.Accept(t.Context(), reportOf(key))
			if err != nil || got != spooled || (saved.ID == "") != spooled {
				t.Errorf("%s: %+v, spooled %t, %v", key, saved, got, err)
			}
			if took := time.Since(start); took != takes {
				t.Errorf("%s took %s, want %s", key, took, takes)
			}
		}
		keep("1", false, 0)
		d.set(fmt.Errorf("gone: %w", storage.ErrUnavailable), 0)
		for range 10 {
			keep("2", true, 0)
		}
		if !k.Spooling() || k.Spooled() != 10 || d.asked != 11 {
			t.Errorf("away %t, spooled %d, asked %d: an error costs nothing, so every record asks", k.Spooling(), k.Spooled(), d.asked)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("the outage was logged %d times: %s", n, &log)
		}
		d.set(nil, 0)
		keep("3", false, 0)
		if k.Spooling() {
			t.Error("away after a save")
		}

		d.set(nil, time.Hour)
		for range timeoutsToOpen {
			keep("late", true, saveTimeout)
		}
		for range 100 {
			keep("not asked", true, 0)
		}
		<-time.After(probeInterval)
		keep("probe", true, saveTimeout)
		keep("not asked", true, 0)
		d.set(nil, time.Second)
		<-time.After(probeInterval)
		keep("probe", false, time.Second)
		keep("4", false, time.Second)
		if got := len(s.records); got != 10+timeoutsToOpen+100+2 {
			t.Errorf("%d records spooled", got)
		}
	})
}

func TestADrainedRecordClosesTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, s := newKeeper(io.Discard)
		d.set(nil, time.Hour)
		for range timeoutsToOpen + 1 {
			if _, spooled, err := k.Accept(t.Context(), reportOf("a")); err != nil || !spooled {
				t.Fatal(spooled, err)
			}
		}
		d.set(nil, saveTimeout+time.Second) // too slow for requests, and drained all the same
		if err := k.Drain(t.Context(), s.records[:1]); err != nil {
			t.Error(err)
		}
		if !k.Spooling() {
			t.Error("a save that was too slow for a request counts as good")
		}
		d.set(nil, 0)
		if err := k.Drain(t.Context(), s.records[1:]); err != nil {
			t.Error(err)
		}
		if _, spooled, err := k.Accept(t.Context(), reportOf("b")); err != nil || spooled || k.Spooling() {
			t.Error("still open", spooled, err)
		}
	})
}

func TestWithNoSafePlaceLeftARecordIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d, s := newKeeper(io.Discard)
		s.full = errors.New("disk full")
		d.set(fmt.Errorf("%w: hangs", storage.ErrUnavailable), time.Hour)
		for range timeoutsToOpen + 2 {
			if _, _, err := k.Accept(t.Context(), reportOf("a")); !errors.Is(err, ErrNotStored) || !errors.Is(err, s.full) {
				t.Error(err)
			}
		}
		if !k.Failing() {
			t.Error("it does not say that it refuses")
		}
		d.set(nil, 0) // the circuit is open, but the spool is no way out
		if _, spooled, err := k.Accept(t.Context(), reportOf("b")); err != nil || spooled || k.Failing() {
			t.Error(spooled, err, k.Failing())
		}
		d.set(storage.ErrUnavailable, 0)
		if _, _, err := k.Accept(t.Context(), reportOf("c")); !errors.Is(err, ErrNotStored) {
			t.Error(err)
		}
		<-time.After(failureWindow)
		if k.Failing() {
			t.Error("one refusal counts for ever")
		}
	})
}

func TestARecordThatTheDatabaseDislikesIsNotLost(t *testing.T) {
	var log bytes.Buffer
	k, d, s := newKeeper(&log)
	if _, spooled, err := k.Accept(t.Context(), reportOf("poison")); err != nil || !spooled {
		t.Fatal(spooled, err)
	}
	if k.Spooling() || !strings.Contains(log.String(), "refused for its own sake") {
		t.Errorf("away %t, log %s", k.Spooling(), &log)
	}
	d.set(storage.ErrUnavailable, 0)
	for range 3 * maxDrainAttempts {
		if err := k.Drain(t.Context(), s.records); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, ErrUnstorable) {
			t.Fatal(err)
		}
	}
	d.set(nil, 0)
	for try := 1; try <= maxDrainAttempts; try++ {
		if err := k.Drain(t.Context(), s.records); err == nil || errors.Is(err, ErrUnstorable) != (try == maxDrainAttempts) {
			t.Errorf("try %d: %v", try, err)
		}
	}
	if err := k.Drain(t.Context(), [][]byte{[]byte("{}")}); !errors.Is(err, ErrUnstorable) {
		t.Errorf("a record that cannot be read: %v", err)
	}
}

func TestDrainKeepsTheOrderOfEachCall(t *testing.T) {
	k, d, _ := newKeeper(io.Discard)
	var records [][]byte
	want := map[string][]string{}
	for i := range 60 {
		r := reportOf(fmt.Sprint("call-", i%7, "-"))
		r.Raw = fmt.Append(nil, i)
		record, err := encodeSpooled(r)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
		want[r.Call.Key] = append(want[r.Call.Key], fmt.Sprint(i))
	}
	if err := k.Drain(t.Context(), records); err != nil {
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
	if err := k.Drain(t.Context(), records); !errors.Is(err, storage.ErrUnavailable) {
		t.Error(err)
	}
}

// filled sets every field of a struct to something that is not its zero value.
func filled(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if at, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
			*at = time.Date(2026, 11, 25, 3, 30, 1, 123456000, time.UTC)
			return
		}
		for _, field := range v.Fields() {
			filled(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			filled(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(key)
		filled(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem())
	case reflect.String:
		v.SetString("line\nof " + "\u2028\"text\"")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(61)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(62)
	default:
		panic("teach this test to fill a " + v.Kind().String())
	}
}

// TestASpooledRecordHoldsEverything fails when a report has a field that does
// not survive the spool.
func TestASpooledRecordHoldsEverything(t *testing.T) {
	var r storage.ReceivedCDR
	filled(reflect.ValueOf(&r).Elem())
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

// spooledBefore is a record as version 1 wrote it: whatever the program becomes,
// it has to read this, or a spool would not survive an upgrade.
const spooledBefore = `{"Version":1,"Report":{"Call":{"ID":"","ContactCenter":"aldebaran","Key":"c-1","Tracker":"sales","CallID":"c-1",` +
	`"Direction":"inbound","DID":"+97161234567","RawDID":"061234567","StartedAt":"2026-11-25T03:30:01.5Z","AnsweredAt":"0001-01-01T00:00:00Z",` +
	`"Duration":28,"Result":"answered","Flags":["time_without_zone"],"ReceivedAt":"2026-11-25T03:31:00.000001Z"},"Source":"endCall","Raw":null}}` +
	"\n" + `{"callID":"c-1"}`

func TestRecordsOfEarlierVersionsAreRead(t *testing.T) {
	got, err := decodeSpooled([]byte(spooledBefore))
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
			t.Errorf("%q was read as %+v", bad, r)
		}
	}
}

func FuzzReadSpooled(f *testing.F) {
	f.Add([]byte(spooledBefore))
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

// Whoever does jobs is woken for records that caused some, and for no others.
func TestSavedJobsWakeTheirWorkers(t *testing.T) {
	k, d, _ := newKeeper(io.Discard)
	woken := 0
	k.Wake = func() { woken++ }
	job := []storage.NewJob{{Kind: "k"}}
	for _, tt := range []struct {
		name  string
		saved storage.SaveResult
		jobs  []storage.NewJob
		away  error
		want  int
	}{
		{"a new call with a job", storage.SaveResult{ID: "1", Created: true}, job, nil, 1},
		{"a revision with a job", storage.SaveResult{ID: "1", Revised: true}, job, nil, 1},
		{"a repeat, which causes none", storage.SaveResult{ID: "1"}, job, nil, 0},
		{"a new call without a job", storage.SaveResult{ID: "1", Created: true}, nil, nil, 0},
		{"a record that went to the spool", storage.SaveResult{}, job, storage.ErrUnavailable, 0},
	} {
		woken = 0
		d.set(tt.away, 0)
		d.answer = &tt.saved
		report := reportOf("c")
		report.Jobs = tt.jobs
		if _, _, err := k.Accept(t.Context(), report); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if woken != tt.want {
			t.Errorf("%s: woken %d times, want %d", tt.name, woken, tt.want)
		}
	}
	// One that comes from the spool later wakes them then.
	woken, d.answer = 0, nil
	d.set(nil, 0)
	report := reportOf("late")
	report.Jobs = job
	record, err := encodeSpooled(report)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Drain(t.Context(), [][]byte{record}); err != nil || woken != 1 {
		t.Errorf("drained: %v, woken %d times", err, woken)
	}
}
