package config_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/storage"
)

// fakeVersions is a database of versions and secrets that can be unavailable.
type fakeVersions struct {
	versions []storage.ConfigVersion
	secrets  []storage.Secret
	err      error // error of every method
}

func (f *fakeVersions) SaveConfig(_ context.Context, v storage.ConfigVersion, expected int64) (storage.ConfigVersion, error) {
	if f.err != nil {
		return storage.ConfigVersion{}, f.err
	}
	if expected >= 0 && expected != int64(len(f.versions)) {
		return storage.ConfigVersion{}, storage.ErrConflict
	}
	v.Version = int64(len(f.versions)) + 1
	f.versions = append(f.versions, v)
	return v, nil
}

func (f *fakeVersions) ActiveConfig(ctx context.Context) (storage.ConfigVersion, error) {
	return f.ConfigVersion(ctx, int64(len(f.versions)))
}

func (f *fakeVersions) ConfigVersion(_ context.Context, n int64) (storage.ConfigVersion, error) {
	switch {
	case f.err != nil:
		return storage.ConfigVersion{}, f.err
	case n < 1 || n > int64(len(f.versions)):
		return storage.ConfigVersion{}, storage.ErrNotFound
	default:
		return f.versions[n-1], nil
	}
}

func (f *fakeVersions) ConfigVersions(context.Context, storage.Page) ([]storage.ConfigVersion, string, error) {
	return f.versions, "", f.err
}

func (f *fakeVersions) Secrets(context.Context) ([]storage.Secret, error) { return f.secrets, f.err }

func (f *fakeVersions) ConfigChangeToken(context.Context) (string, error) {
	return fmt.Sprint(len(f.versions)), f.err
}

func (f *fakeVersions) ListenConfig(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

// fakeLastGood stores the last good document in memory.
type fakeLastGood struct{ saved *config.LastGood }

func (f *fakeLastGood) Save(l config.LastGood) error {
	f.saved = &l
	return nil
}

func (f *fakeLastGood) Load() (config.LastGood, error) {
	if f.saved == nil {
		return config.LastGood{}, storage.ErrNotFound
	}
	return *f.saved, nil
}

// noConnections is a connectionOpener without drivers.
type noConnections struct{}

func (noConnections) Drivers() []config.Driver { return nil }

func (noConnections) Prepare(*config.Document) (func(), problem.List) { return func() {}, nil }

// newController returns a controller on the given database and last good document.
func newController(t *testing.T, versions *fakeVersions, lastGood *fakeLastGood) (*config.Controller, *config.Vault) {
	t.Helper()
	vault, err := config.NewVault([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return config.NewController(config.ControllerOptions{
		Store: versions, Vault: vault, LastGood: lastGood, Connections: noConnections{},
		Env:  func(string) (string, bool) { return "", false },
		Test: func(*config.Document, *rules.Set) problem.List { return nil },
		Now:  time.Now, Logger: slog.New(slog.DiscardHandler),
	}), vault
}

// documentWithKey is a document whose tracker has the given start key.
func documentWithKey(key string) string {
	return fmt.Sprintf("trackers: {sales: {keys: {start: [%q]}, routes: [{id: all, voicemail: true}]}}", key)
}

func apply(t *testing.T, c *config.Controller, document, ifMatch string) (config.ApplyResult, error) {
	t.Helper()
	return c.Apply(t.Context(), config.Input{Document: document, Format: config.YAML, IfMatch: ifMatch})
}

func TestApplyActivatesOnlyValidAndCurrentDocuments(t *testing.T) {
	versions := &fakeVersions{}
	c, _ := newController(t, versions, &fakeLastGood{})
	if err := c.Load(t.Context()); !errors.Is(err, config.ErrNoConfig) || c.Current() != nil {
		t.Fatalf("Load without a document: %v", err)
	}
	if out, err := apply(t, c, documentWithKey("first-key"), "0"); err != nil || out.Version != 1 {
		t.Fatalf("first document: %+v, %v", out, err)
	}
	if _, err := apply(t, c, documentWithKey("stale-key"), "0"); !errors.Is(err, config.ErrStale) {
		t.Errorf("stale document: got %v, want ErrStale", err)
	}
	if _, err := apply(t, c, "trackers: {sales: {routes: []}}", "*"); !isInvalid(err) {
		t.Errorf("invalid document: got %v, want *problem.Invalid", err)
	}
	if out, err := apply(t, c, documentWithKey("first-key"), "1"); err != nil || out.Version != 1 {
		t.Errorf("unchanged document: %+v, %v", out, err)
	}
	if got := c.Current(); got.Version.Version != 1 || !got.Trackers["sales"].StartKeys.Admits("first-key") {
		t.Errorf("active: version %d", got.Version.Version)
	}
	if len(versions.versions) != 1 {
		t.Errorf("stored %d versions, want 1", len(versions.versions))
	}
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[*problem.Invalid](err)
	return ok
}

func TestLoadActivatesTheLastGoodDocumentDuringAnOutage(t *testing.T) {
	versions, lastGood := &fakeVersions{}, &fakeLastGood{}
	c, vault := newController(t, versions, lastGood)
	versions.secrets = []storage.Secret{{Name: "start", Sealed: vault.Seal("start", "secret-key")}}
	if _, err := apply(t, c, documentWithKey("${secret:start}"), "*"); err != nil {
		t.Fatal(err)
	}
	if !c.References("start") || c.References("other") {
		t.Error("References does not match the document")
	}
	versions.err = fmt.Errorf("connection refused: %w", storage.ErrUnavailable)
	restarted, _ := newController(t, versions, lastGood)
	if err := restarted.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := restarted.Current(); got.Version.Version != 1 || !got.Trackers["sales"].StartKeys.Admits("secret-key") {
		t.Errorf("active: version %d", got.Version.Version)
	}
	if _, err := apply(t, restarted, documentWithKey("new-key"), "*"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Apply during the outage: got %v, want ErrUnavailable", err)
	}
}
