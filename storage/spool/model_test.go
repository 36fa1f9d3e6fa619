package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// simulatedDisk is a disk that only keeps what was flushed: the content of a file
// when the file was flushed, and its name when its directory was flushed.
type simulatedDisk struct {
	mu      sync.Mutex
	root    string
	content map[string]string            // by fileID
	dirs    map[string]map[string]string // by directory and name: the fileID
	fail    func(dir bool) error         // called before each flush; may be nil
}

func newSimulatedDisk(root string) *simulatedDisk {
	return &simulatedDisk{root: root, content: map[string]string{}, dirs: map[string]map[string]string{}}
}

// fileID identifies a file by its inode and, because inodes are reused, by the
// part of its name that renaming does not change.
func fileID(info os.FileInfo) string {
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino, strings.TrimSuffix(info.Name(), partial))
}

func (d *simulatedDisk) flush(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if d.fail != nil {
		if err := d.fail(info.IsDir()); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !info.IsDir() {
		content, err := os.ReadFile(f.Name())
		d.content[fileID(info)] = string(content)
		return err
	}
	entries, err := os.ReadDir(f.Name())
	names := map[string]string{}
	for _, e := range entries {
		info, infoErr := e.Info()
		if infoErr != nil {
			return infoErr
		}
		names[e.Name()] = fileID(info)
	}
	d.dirs[f.Name()] = names
	return err
}

// copyAfterPowerFailure writes what a power failure leaves to a new directory. The
// fraction torn of the bytes that were not flushed remains at the end of a file.
func (d *simulatedDisk) copyAfterPowerFailure(to string, torn float64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for dir, names := range d.dirs {
		relative, err := filepath.Rel(d.root, dir)
		if err != nil || strings.HasPrefix(relative, "..") {
			continue // the parent directory
		}
		if err := os.MkdirAll(filepath.Join(to, relative), 0o700); err != nil {
			return err
		}
		for name, id := range names {
			if name == quarantineName {
				continue
			}
			content := d.content[id]
			if now, err := os.ReadFile(filepath.Join(dir, name)); err == nil && strings.HasPrefix(string(now), content) {
				content = string(now[:len(content)+int(torn*float64(len(now)-len(content)))])
			}
			if err := os.WriteFile(filepath.Join(to, relative, name), []byte(content), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// record describes a record to append.
type record struct {
	bad    bool // the save function rejects it
	length int
}

// step is one operation on a spool, or one failure.
type step struct {
	kind     string
	records  []record
	calls    int     // calls of the save function until Drain is stopped
	failures int     // failed calls of the save function before the first success
	cause    error   // error of a failed flush
	dir      bool    // the failed flush is that of the directory, not of a file
	torn     float64 // fraction of the unflushed bytes that survives a power failure
}

func steps(t *rapid.T) []step {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			kind: rapid.SampledFrom([]string{
				"append", "append", "append together", "append while draining", "append while flushing fails",
				"drain", "drain", "restart", "kill", "power failure", "power failure during an append",
			}).Draw(t, "kind"),
			records: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record {
				return record{bad: rapid.IntRange(0, 4).Draw(t, "bad") == 0, length: rapid.IntRange(0, 300).Draw(t, "length")}
			}), 1, 10).Draw(t, "records"),
			calls:    rapid.IntRange(1, 20).Draw(t, "calls"),
			failures: rapid.IntRange(0, 3).Draw(t, "failures"),
			cause:    rapid.SampledFrom([]error{syscall.EIO, syscall.ENOSPC}).Draw(t, "cause"),
			dir:      rapid.Bool().Draw(t, "dir"),
			torn:     rapid.Float64Range(0, 1).Draw(t, "torn"),
		}
	}), 1, 25).Draw(t, "steps")
}

// model is a spool and its expected state.
type model struct {
	*Spool
	options  Options
	home     string
	dirCount int
	disk     *simulatedDisk

	mu           sync.Mutex
	next         int
	order        map[string]int // position of each record; equal for concurrent appends
	acknowledged map[string]bool
	interrupted  map[string]bool // a power failure interrupted their append
	saved        map[string]bool
	newest       int // order of the newest saved record
	rejected     map[string]bool
	violation    error
}

// TestModel runs random operations on a spool. It checks that each acknowledged
// record is delivered at least once, that first deliveries are in the order of the
// appends, and that nothing is delivered that was not appended.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		maxSegment := int64(rapid.IntRange(1, 2000).Draw(rt, "MaxSegment"))
		script := steps(rt)
		var err error
		synctest.Test(t, func(t *testing.T) {
			m := &model{
				options: Options{MaxSegment: maxSegment}, home: t.TempDir(),
				order: map[string]int{}, acknowledged: map[string]bool{}, interrupted: map[string]bool{}, saved: map[string]bool{}, rejected: map[string]bool{},
			}
			err = m.run(t.Context(), script)
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func (m *model) run(ctx context.Context, script []step) error {
	if err := m.open(m.newDir()); err != nil {
		return err
	}
	for i, s := range script {
		if err := errors.Join(m.step(ctx, s), m.violation); err != nil {
			return errors.Join(fmt.Errorf("step %d, %s: %w", i, s.kind, err), m.Close())
		}
	}
	return errors.Join(m.drain(ctx, step{calls: 1 << 30}), m.violation, m.checkDrained(), m.Close())
}

// checkDrained returns what is wrong after everything has been drained.
func (m *model) checkDrained() error {
	var violations []error
	for p := range m.acknowledged {
		if !m.saved[p] {
			violations = append(violations, fmt.Errorf("%.20q was acknowledged and never delivered", p))
		}
	}
	st := m.Stats()
	if st.Records != 0 || st.Bytes != 0 || !st.Oldest.IsZero() {
		violations = append(violations, fmt.Errorf("statistics after everything is drained: %+v", st))
	}
	remaining, err := filepath.Glob(filepath.Join(m.dir, "*"+suffix))
	if len(remaining) > 0 {
		violations = append(violations, fmt.Errorf("remaining files: %v", remaining))
	}
	quarantined := map[string]bool{}
	paths, globErr := filepath.Glob(filepath.Join(m.dir, quarantineName, "*"+rejected))
	err = errors.Join(err, globErr)
	for _, path := range paths {
		content, readErr := os.ReadFile(path)
		err = errors.Join(err, readErr)
		quarantined[string(content)] = true
	}
	for p := range m.rejected {
		if !quarantined[p] {
			violations = append(violations, fmt.Errorf("%.20q was rejected and is not in quarantine", p))
		}
	}
	return errors.Join(append(violations, err)...)
}

func (m *model) newDir() string {
	m.dirCount++
	return filepath.Join(m.home, fmt.Sprint(m.dirCount))
}

func (m *model) open(dir string) error {
	m.options.Dir = dir
	m.disk = newSimulatedDisk(dir)
	s, err := open(m.options, m.disk.flush)
	if err != nil {
		return err
	}
	m.Spool = s
	// Files of an earlier process have reached the disk.
	err = s.syncDir(filepath.Join(dir, quarantineName))
	paths, globErr := filepath.Glob(filepath.Join(dir, "*"+suffix))
	quarantined, quarantineErr := filepath.Glob(filepath.Join(dir, quarantineName, "*"))
	err = errors.Join(err, globErr, quarantineErr)
	for _, path := range append(paths, quarantined...) {
		err = errors.Join(err, s.syncDir(path)) // it also flushes files
	}
	return err
}

func (m *model) payload(r record, order int) string {
	m.next++
	kind := "good"
	if r.bad {
		kind = "bad"
	}
	p := fmt.Sprintf("%s %d %s", kind, m.next, strings.Repeat("x", r.length))
	m.order[p] = order
	return p
}

func (m *model) append(ctx context.Context, p string) error {
	err := m.Append(ctx, []byte(p))
	if err == nil {
		m.mu.Lock()
		m.acknowledged[p] = true
		m.mu.Unlock()
	}
	return err
}

func (m *model) step(ctx context.Context, s step) error {
	switch s.kind {
	case "append":
		return m.appendAll(ctx, s.records)
	case "append together":
		order := m.next + 1
		errs := make([]error, len(s.records))
		var all sync.WaitGroup
		for i, r := range s.records {
			p := m.payload(r, order)
			all.Go(func() { errs[i] = m.append(ctx, p) })
		}
		all.Wait()
		return errors.Join(errs...)
	case "append while draining":
		stopped := make(chan error, 1)
		go func() { stopped <- m.drain(ctx, s) }()
		err := m.appendAll(ctx, s.records)
		return errors.Join(err, <-stopped)
	case "append while flushing fails":
		m.disk.fail = func(dir bool) error {
			if dir == s.dir {
				return s.cause
			}
			return nil
		}
		p := m.payload(s.records[0], m.next+1)
		// The append succeeds if only the directory fails and no new file is needed.
		err := m.append(ctx, p)
		m.disk.fail = nil
		if err != nil && !errors.Is(err, s.cause) {
			return err
		}
		return nil
	case "drain":
		return m.drain(ctx, s)
	case "restart":
		return errors.Join(m.Close(), m.open(m.dir))
	case "kill": // a copy of the directory, without what Close still does
		to := m.newDir()
		return errors.Join(os.CopyFS(to, os.DirFS(m.dir)), m.Close(), m.open(to))
	case "power failure":
		to := m.newDir()
		return errors.Join(m.disk.copyAfterPowerFailure(to, s.torn), m.Close(), m.open(to))
	case "power failure during an append":
		to := m.newDir()
		var err error
		m.disk.fail = func(dir bool) error {
			if !dir {
				err = m.disk.copyAfterPowerFailure(to, s.torn)
			}
			return nil
		}
		p := m.payload(s.records[0], m.next+1)
		m.interrupted[p] = true
		return errors.Join(m.Append(ctx, []byte(p)), err, m.Close(), m.open(to))
	}
	return fmt.Errorf("unknown step %q", s.kind)
}

func (m *model) appendAll(ctx context.Context, records []record) error {
	for _, r := range records {
		m.mu.Lock()
		p := m.payload(r, m.next+1)
		m.acknowledged[p] = true // set first, because it may be delivered before Append returns
		m.mu.Unlock()
		if err := m.Append(ctx, []byte(p)); err != nil {
			return err
		}
	}
	return nil
}

// drain drains everything, or stops after s.calls calls of the save function.
func (m *model) drain(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return m.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if s.calls--; s.calls < 0 {
			cancel()
			return context.Canceled
		}
		bad := false
		for _, payload := range payloads {
			p := string(payload)
			bad = bad || strings.HasPrefix(p, "bad")
			if !m.acknowledged[p] && !m.interrupted[p] {
				m.violation = fmt.Errorf("%.20q was delivered but never appended", p)
			}
		}
		if s.failures--; s.failures >= 0 {
			return errDatabaseDown
		}
		if bad && len(payloads) > 1 {
			return ErrRejected
		}
		for _, payload := range payloads {
			m.recordSaved(string(payload))
		}
		if bad {
			m.rejected[string(payloads[0])] = true
			return ErrRejected
		}
		return nil
	})
}

func (m *model) recordSaved(p string) {
	if m.saved[p] {
		return
	}
	m.saved[p] = true
	if m.order[p] < m.newest {
		m.violation = fmt.Errorf("%.20q was first delivered after a newer record", p)
	}
	m.newest = m.order[p]
}
