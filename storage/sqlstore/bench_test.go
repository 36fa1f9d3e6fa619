package sqlstore

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"calltracker/rules"
	"calltracker/storage"
)

// benchCDR returns the CDR of the n-th call. The calls have 200 DIDs and mostly
// different callers.
func benchCDR(n int64) storage.ReceivedCDR {
	started := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC).Add(time.Duration(n) * 50 * time.Millisecond)
	key := fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(n*2654435761), n)
	return storage.ReceivedCDR{
		Call: storage.Call{
			Key: key, CallID: key, Tracker: "sales", Direction: "inbound",
			DID: fmt.Sprintf("+9714888%04d", n%200), RawDID: "048880001",
			Caller: fmt.Sprintf("+97155%07d", n*7919%10_000_000), RawCaller: "0551230001",
			StartedAt: started, AnsweredAt: started.Add(9 * time.Second), EndedAt: started.Add(70 * time.Second),
			Duration: 70, RingTime: 9, TalkTime: 61, Result: storage.Answered, HangupCause: "NORMAL_CLEARING",
			HangupBy: "originator", Position: "0551110001", RecordingFile: key + ".mp3",
			RevisedAt: started.Add(71 * time.Second), ReceivedAt: started.Add(72 * time.Second),
		},
		Source: "endCall",
		Raw:    fmt.Appendf(make([]byte, 1800), "%d", n), // about the size of a CDR
	}
}

// benchDecision returns the decision for the n-th call.
func benchDecision(n int64) storage.Decision {
	r := benchCDR(n)
	return storage.Decision{
		ID: uuid.Must(uuid.NewV7()).String(), Tracker: "sales", At: r.Call.StartedAt, DID: r.Call.DID, RawDID: r.Call.RawDID,
		Caller: r.Call.Caller, RawCaller: r.Call.RawCaller, CallID: r.Call.CallID, Route: "office-hours", ConfigVersion: 3,
		Rules: []rules.Rule{
			{Action: rules.ActionCall, Number: "0551110001", CallerID: "048880001", Timeout: 15},
			{Action: rules.ActionCall, Number: "0551110002", CallerID: "048880001", Timeout: 20},
		},
		Trace: []rules.Step{
			{Route: "vip", Verdict: rules.Failed, Reason: "customer.tags: the customer is unknown"},
			{Route: "night", Verdict: rules.Closed, Reason: "night: opens at 18:00"},
			{Route: "office-hours", Verdict: rules.Matched},
		},
	}
}

// BenchmarkSaveCall saves new calls.
func BenchmarkSaveCall(b *testing.B) {
	b.Run("serial", func(b *testing.B) {
		s := open(b, b.TempDir())
		var n int64
		for b.Loop() {
			n++
			if _, err := s.SaveCall(b.Context(), benchCDR(n)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("linked", func(b *testing.B) {
		s := open(b, b.TempDir())
		var n int64
		for b.Loop() {
			if n%500 == 0 {
				b.StopTimer()
				batch := make([]storage.Decision, 500)
				for i := range batch {
					batch[i] = benchDecision(n + 1 + int64(i))
				}
				if err := s.RecordDecisions(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			n++
			if _, err := s.SaveCall(b.Context(), benchCDR(n)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 writers", func(b *testing.B) {
		s := open(b, b.TempDir())
		var n atomic.Int64
		b.SetParallelism(32) // for each of two processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.SaveCall(b.Context(), benchCDR(n.Add(1))); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkRecordDecisions records batches of 500 decisions.
func BenchmarkRecordDecisions(b *testing.B) {
	const size = 500
	s := open(b, b.TempDir())
	var n int64
	batch := make([]storage.Decision, size)
	for b.Loop() {
		b.StopTimer()
		for i := range batch {
			n++
			batch[i] = benchDecision(n)
		}
		b.StartTimer()
		if err := s.RecordDecisions(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
