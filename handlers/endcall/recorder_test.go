package endcall

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/storage"
	"calltracker/ziwo"
)

// noJobs is a jobSource without jobs.
type noJobs struct{}

func (noJobs) Jobs(storage.Call) []storage.NewJob { return nil }

// tracker returns the only tracker of a small document.
func tracker(t *testing.T) *config.ActiveTracker {
	t.Helper()
	_, set, problems := config.Load([]byte(`trackers: {sales: {region: AE, routes: [{id: all, voicemail: true}]}}`), config.YAML, nil)
	if set == nil {
		t.Fatal(problems)
	}
	router, _ := set.Router("sales")
	return &config.ActiveTracker{Version: 1, Router: router}
}

func TestRecorderStoresWhatItReceives(t *testing.T) {
	intake, d, _ := newIntake(io.Discard)
	recorder := NewRecorder(intake, noJobs{}, phone.NewCache(), time.Now)
	end := func(contentType, body string) (Receipt, error) {
		return recorder.End(t.Context(), tracker(t), Request{ContentType: contentType, Body: []byte(body)})
	}
	const cdr = `{"callID":"c-1","didCalled":"061234567","callerIDNumber":"0501234567"}`
	if receipt, err := end("application/json", cdr); err != nil || !receipt.Saved.Created || len(receipt.Warnings) > 0 {
		t.Errorf("CDR: %+v, %v", receipt, err)
	}
	receipt, err := end("application/json", "not a CDR")
	if err != nil || len(receipt.Warnings) != 1 || !strings.HasPrefix(receipt.Saved.ID, "sha256:") {
		t.Errorf("unreadable body: %+v, %v", receipt, err)
	}
	if _, err := end("application/json", ""); !errors.Is(err, ErrEmptyBody) {
		t.Errorf("empty body: got %v, want ErrEmptyBody", err)
	}
	if len(d.saved) != 2 || d.saved[0] != "c-1"+cdr || !strings.HasSuffix(d.saved[1], "not a CDR") {
		t.Errorf("saved %q", d.saved)
	}
}

func TestRecorderBackfills(t *testing.T) {
	intake, d, _ := newIntake(io.Discard)
	recorder := NewRecorder(intake, noJobs{}, phone.NewCache(), time.Now)
	origin := tracker(t).Origin()
	const cdr = `{"callID":"c-2","didCalled":"061234567"}`
	if saved, err := recorder.Backfill(t.Context(), origin, []byte(cdr)); err != nil || saved.ID != "c-2" {
		t.Errorf("Backfill: %+v, %v", saved, err)
	}
	if len(d.saved) != 1 || d.saved[0] != "c-2"+cdr {
		t.Errorf("saved %q", d.saved)
	}
	call := recorder.Call(ziwo.CDR{CallID: "c-2", DIDCalled: "061234567", CallerNumber: "0501234567"}, origin)
	if call.Key != "c-2" || call.Tracker != "sales" || call.DID != "+97161234567" || call.Caller != "+971501234567" {
		t.Errorf("Call: %+v", call)
	}
}
