package spool

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// typicalRecord is about as long as a CDR with its envelope.
var typicalRecord = bytes.Repeat([]byte("0123456789abcdef"), 128)

const benchWriters = 64

// BenchmarkAppend compares 64 goroutines that share flushes with one flush for
// each record. It measures the disk of the temporary directory.
func BenchmarkAppend(b *testing.B) {
	b.Run("shared flush", func(b *testing.B) {
		c := &flushCounter{gate: func(f *os.File, _ bool) error { return f.Sync() }}
		s := openWith(b, Options{}, c.flush)
		parallel(b, func() error { return s.Append(b.Context(), typicalRecord) })
		b.ReportMetric(float64(b.N)/float64(c.files), "records/flush")
	})
	b.Run("one flush per record", func(b *testing.B) {
		file, err := os.Create(filepath.Join(b.TempDir(), "records"))
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		var mutex sync.Mutex
		parallel(b, func() error {
			mutex.Lock()
			defer mutex.Unlock()
			if _, err := file.Write(typicalRecord); err != nil {
				return err
			}
			return file.Sync()
		})
	})
}

func parallel(b *testing.B, run func() error) {
	b.SetParallelism(max(1, benchWriters/runtime.GOMAXPROCS(0)))
	b.SetBytes(int64(len(typicalRecord)))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := run(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkBacklog opens a spool of 64 MiB of records and drains it.
func BenchmarkBacklog(b *testing.B) {
	const records = 32 << 10
	for range b.N {
		b.StopTimer()
		s := openWith(b, Options{}, noFlush)
		for range records {
			if err := s.Append(b.Context(), typicalRecord); err != nil {
				b.Fatal(err)
			}
		}
		closeSpool(b, s)

		b.StartTimer()
		start := b.Elapsed()
		s = openWith(b, Options{Dir: s.dir}, noFlush)
		opened := b.Elapsed()
		ctx, cancel := context.WithCancel(b.Context())
		remaining := records
		if err := s.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
			if remaining -= len(payloads); remaining == 0 {
				cancel()
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(records/(opened-start).Seconds(), "counted/s")
		b.ReportMetric(records/(b.Elapsed()-opened).Seconds(), "drained/s")
		cancel()
		b.StopTimer()
		closeSpool(b, s)
		b.StartTimer()
	}
}
