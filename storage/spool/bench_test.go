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

// ordinary is about as long as a call's record with its envelope.
var ordinary = bytes.Repeat([]byte("0123456789abcdef"), 128)

const benchWriters = 64

// BenchmarkAppend compares 64 goroutines that share flushes with the plain way,
// a flush for each record. It counts on the disk of the temporary directory.
func BenchmarkAppend(b *testing.B) {
	b.Run("shared flush", func(b *testing.B) {
		c := &flushes{gate: func(f *os.File, _ bool) error { return f.Sync() }}
		s := openWith(b, Options{}, c.flush)
		parallel(b, func() error { return s.Append(b.Context(), ordinary) })
		b.ReportMetric(float64(b.N)/float64(c.files), "records/flush")
	})
	b.Run("flush for each", func(b *testing.B) {
		file, err := os.Create(filepath.Join(b.TempDir(), "records"))
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		var mutex sync.Mutex
		parallel(b, func() error {
			mutex.Lock()
			defer mutex.Unlock()
			if _, err := file.Write(ordinary); err != nil {
				return err
			}
			return file.Sync()
		})
	})
}

func parallel(b *testing.B, run func() error) {
	b.SetParallelism(max(1, benchWriters/runtime.GOMAXPROCS(0)))
	b.SetBytes(int64(len(ordinary)))
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

// BenchmarkBacklog takes stock of 64 MiB of records, and drains them.
func BenchmarkBacklog(b *testing.B) {
	const records = 32 << 10
	for range b.N {
		b.StopTimer()
		s := openWith(b, Options{}, unflushed)
		for range records {
			if err := s.Append(b.Context(), ordinary); err != nil {
				b.Fatal(err)
			}
		}
		closeSpool(b, s)

		b.StartTimer()
		start := b.Elapsed()
		s = openWith(b, Options{Dir: s.dir}, unflushed)
		stocked := b.Elapsed()
		ctx, cancel := context.WithCancel(b.Context())
		left := records
		if err := s.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
			if left -= len(payloads); left == 0 {
				cancel()
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(records/(stocked-start).Seconds(), "stocked/s")
		b.ReportMetric(records/(b.Elapsed()-stocked).Seconds(), "drained/s")
		cancel()
		b.StopTimer()
		closeSpool(b, s)
		b.StartTimer()
	}
}
