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

// platter is a disk that is sure of nothing but what was flushed: the content of
// a file when the file was, its name when its folder was.
type platter struct {
	mutex   sync.Mutex
	root    string
	content map[string]string            // by fileID
	folders map[string]map[string]string // names of each folder, and the fileID behind each
	fail    func(folder bool) error      // nil, or asked before anything is flushed
}

func newPlatter(root string) *platter {
	return &platter{root: root, content: map[string]string{}, folders: map[string]map[string]string{}}
}

// fileID tells files apart whose inode was used before, by a name that outlives
// the file's renaming.
func fileID(info os.FileInfo) string {
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino, strings.TrimSuffix(info.Name(), partial))
}

func (p *platter) flush(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if p.fail != nil {
		if err := p.fail(info.IsDir()); err != nil {
			return err
		}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !info.IsDir() {
		content, err := os.ReadFile(f.Name())
		p.content[fileID(info)] = string(content)
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
	p.folders[f.Name()] = names
	return err
}

// image is what a power failure leaves, in a folder of its own. Of what was not
// flushed, a part may be there: the end of a file is torn.
func (p *platter) image(to string, torn float64) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for folder, names := range p.folders {
		inside, err := filepath.Rel(p.root, folder)
		if err != nil || strings.HasPrefix(inside, "..") {
			continue // the folder around
		}
		if err := os.MkdirAll(filepath.Join(to, inside), 0o700); err != nil {
			return err
		}
		for name, id := range names {
			if name == quarantineName {
				continue
			}
			content := p.content[id]
			if now, err := os.ReadFile(filepath.Join(folder, name)); err == nil && strings.HasPrefix(string(now), content) {
				content = string(now[:len(content)+int(torn*float64(len(now)-len(content)))])
			}
			if err := os.WriteFile(filepath.Join(to, inside, name), []byte(content), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// record is one thing to append.
type record struct {
	bad    bool // whoever takes it will refuse it
	length int
}

// step is one thing that is done to a spool, or happens to it.
type step struct {
	kind     string
	records  []record
	calls    int     // of keep, after which Drain is ended
	failures int     // of keep, before it succeeds
	cause    error   // of a flush that fails
	ofFolder bool    // it is the folder's
	torn     float64 // share of what was not flushed that is there after a power failure
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
			ofFolder: rapid.Bool().Draw(t, "of the folder"),
			torn:     rapid.Float64Range(0, 1).Draw(t, "torn"),
		}
	}), 1, 25).Draw(t, "steps")
}

// modelled is a spool beside what is known of it.
type modelled struct {
	*Spool
	options Options
	home    string
	folders int
	platter *platter

	mutex        sync.Mutex
	next         int
	rank         map[string]int // of each record; what is appended at the same time has the same
	acknowledged map[string]bool
	unsure       map[string]bool // cut off while they were appended
	seen         map[string]bool // handed over
	highest      int             // rank that was seen
	refused      map[string]bool
	wrong        error // what should not have happened
}

// TestModel does random things to a spool. Whatever happens, each acknowledged
// record comes at least once, the first times in the order of the appends, and
// nothing comes that was not appended.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		maxSegment := int64(rapid.IntRange(1, 2000).Draw(rt, "MaxSegment"))
		script := steps(rt)
		var err error
		synctest.Test(t, func(t *testing.T) {
			m := &modelled{
				options: Options{MaxSegment: maxSegment}, home: t.TempDir(),
				rank: map[string]int{}, acknowledged: map[string]bool{}, unsure: map[string]bool{}, seen: map[string]bool{}, refused: map[string]bool{},
			}
			err = m.run(t.Context(), script)
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func (m *modelled) run(ctx context.Context, script []step) error {
	if err := m.open(m.newFolder()); err != nil {
		return err
	}
	for i, s := range script {
		if err := errors.Join(m.step(ctx, s), m.wrong); err != nil {
			return errors.Join(fmt.Errorf("step %d, %s: %w", i, s.kind, err), m.Close())
		}
	}
	return errors.Join(m.drain(ctx, step{calls: 1 << 30}), m.wrong, m.verdict(), m.Close())
}

// verdict is what is wrong when everything is drained.
func (m *modelled) verdict() error {
	var wrong []error
	for p := range m.acknowledged {
		if !m.seen[p] {
			wrong = append(wrong, fmt.Errorf("%.20q was acknowledged and never came", p))
		}
	}
	st := m.Stats()
	if st.Frames != 0 || st.Bytes != 0 || !st.Oldest.IsZero() {
		wrong = append(wrong, fmt.Errorf("when all is drained: %+v", st))
	}
	left, err := filepath.Glob(filepath.Join(m.dir, "*"+suffix))
	if len(left) > 0 {
		wrong = append(wrong, fmt.Errorf("left behind: %v", left))
	}
	aside := map[string]bool{}
	paths, globErr := filepath.Glob(filepath.Join(m.dir, quarantineName, "*"+rejected))
	err = errors.Join(err, globErr)
	for _, path := range paths {
		content, readErr := os.ReadFile(path)
		err = errors.Join(err, readErr)
		aside[string(content)] = true
	}
	for p := range m.refused {
		if !aside[p] {
			wrong = append(wrong, fmt.Errorf("%.20q was refused and is not in quarantine", p))
		}
	}
	return errors.Join(append(wrong, err)...)
}

func (m *modelled) newFolder() string {
	m.folders++
	return filepath.Join(m.home, fmt.Sprint(m.folders))
}

func (m *modelled) open(dir string) error {
	m.options.Dir = dir
	m.platter = newPlatter(dir)
	s, err := open(m.options, m.platter.flush)
	if err != nil {
		return err
	}
	m.Spool = s
	// What was there before the start is on the platter.
	err = s.syncFolder(filepath.Join(dir, quarantineName))
	paths, globErr := filepath.Glob(filepath.Join(dir, "*"+suffix))
	aside, asideErr := filepath.Glob(filepath.Join(dir, quarantineName, "*"))
	err = errors.Join(err, globErr, asideErr)
	for _, path := range append(paths, aside...) {
		err = errors.Join(err, s.syncFolder(path)) // flushes a file as well
	}
	return err
}

func (m *modelled) payload(r record, rank int) string {
	m.next++
	kind := "good"
	if r.bad {
		kind = "bad"
	}
	p := fmt.Sprintf("%s %d %s", kind, m.next, strings.Repeat("x", r.length))
	m.rank[p] = rank
	return p
}

func (m *modelled) append(ctx context.Context, p string) error {
	err := m.Append(ctx, []byte(p))
	if err == nil {
		m.mutex.Lock()
		m.acknowledged[p] = true
		m.mutex.Unlock()
	}
	return err
}

func (m *modelled) step(ctx context.Context, s step) error {
	switch s.kind {
	case "append":
		return m.appendAll(ctx, s.records)
	case "append together":
		rank := m.next + 1
		errs := make([]error, len(s.records))
		var all sync.WaitGroup
		for i, r := range s.records {
			p := m.payload(r, rank)
			all.Go(func() { errs[i] = m.append(ctx, p) })
		}
		all.Wait()
		return errors.Join(errs...)
	case "append while draining":
		ended := make(chan error, 1)
		go func() { ended <- m.drain(ctx, s) }()
		err := m.appendAll(ctx, s.records)
		return errors.Join(err, <-ended)
	case "append while flushing fails":
		m.platter.fail = func(folder bool) error {
			if folder == s.ofFolder {
				return s.cause
			}
			return nil
		}
		p := m.payload(s.records[0], m.next+1)
		// A file that can grow needs no flush of the folder.
		err := m.append(ctx, p)
		m.platter.fail = nil
		if err != nil && !errors.Is(err, s.cause) {
			return err
		}
		return nil
	case "drain":
		return m.drain(ctx, s)
	case "restart":
		return errors.Join(m.Close(), m.open(m.dir))
	case "kill": // leaves the folder as it is, whatever Close would still do
		to := m.newFolder()
		return errors.Join(os.CopyFS(to, os.DirFS(m.dir)), m.Close(), m.open(to))
	case "power failure":
		to := m.newFolder()
		return errors.Join(m.platter.image(to, s.torn), m.Close(), m.open(to))
	case "power failure during an append":
		to := m.newFolder()
		var err error
		m.platter.fail = func(folder bool) error {
			if !folder {
				err = m.platter.image(to, s.torn)
			}
			return nil
		}
		p := m.payload(s.records[0], m.next+1)
		m.unsure[p] = true
		return errors.Join(m.Append(ctx, []byte(p)), err, m.Close(), m.open(to))
	}
	return fmt.Errorf("no such step")
}

func (m *modelled) appendAll(ctx context.Context, records []record) error {
	for _, r := range records {
		m.mutex.Lock()
		p := m.payload(r, m.next+1)
		m.acknowledged[p] = true // it will be, and may be handed over before this goroutine goes on
		m.mutex.Unlock()
		if err := m.Append(ctx, []byte(p)); err != nil {
			return err
		}
	}
	return nil
}

// drain hands over until there is nothing more, or keep was called so many times.
func (m *modelled) drain(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	return m.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		if s.calls--; s.calls < 0 {
			cancel()
			return context.Canceled
		}
		bad := false
		for _, payload := range payloads {
			p := string(payload)
			bad = bad || strings.HasPrefix(p, "bad")
			if !m.acknowledged[p] && !m.unsure[p] {
				m.wrong = fmt.Errorf("%.20q came, and was not appended", p)
			}
		}
		if s.failures--; s.failures >= 0 {
			return errAway
		}
		if bad && len(payloads) > 1 {
			return ErrReject
		}
		for _, payload := range payloads {
			m.see(string(payload))
		}
		if bad {
			m.refused[string(payloads[0])] = true
			return ErrReject
		}
		return nil
	})
}

func (m *modelled) see(p string) {
	if m.seen[p] {
		return
	}
	m.seen[p] = true
	if m.rank[p] < m.highest {
		m.wrong = fmt.Errorf("%.20q came for the first time, but something younger came before", p)
	}
	m.highest = m.rank[p]
}
