package config

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/phone"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/storage"
)

// versionStore is the part of a store that Controller uses.
type versionStore interface {
	SaveConfig(ctx context.Context, v storage.ConfigVersion, expected int64) (storage.ConfigVersion, error)
	ActiveConfig(ctx context.Context) (storage.ConfigVersion, error)
	ConfigVersions(ctx context.Context, p storage.Page) ([]storage.ConfigVersion, string, error)
	ConfigVersion(ctx context.Context, n int64) (storage.ConfigVersion, error)
	Secrets(ctx context.Context) ([]storage.Secret, error)
	ConfigChangeToken(ctx context.Context) (string, error)
	ListenConfig(ctx context.Context, heard func()) error
}

// LastGood is what the server needs to start without its database: the newest
// document, and the sealed secrets that it references.
type LastGood struct {
	Version storage.ConfigVersion `json:"version"`
	Secrets map[string]string     `json:"secrets"` // base64
}

// lastGoodStore stores the last good document outside the database.
type lastGoodStore interface {
	Save(l LastGood) error
	Load() (LastGood, error) // storage.ErrNotFound if nothing was saved
}

// connectionOpener opens the CRM accounts of a document.
type connectionOpener interface {
	// Drivers returns the drivers that connections are validated against.
	Drivers() []Driver
	// Prepare opens the accounts of a document without using them yet. It returns
	// the function that puts them into use, and the accounts that cannot be opened.
	Prepare(doc *Document) (activate func(), problems problem.List)
}

// Snapshot is an immutable, compiled configuration.
type Snapshot struct {
	Version  storage.ConfigVersion
	Document *Document // without its trackers
	Set      *rules.Set
	Warnings problem.List

	Trackers    map[string]*ActiveTracker // by id
	WebhookKeys WebhookKeys
}

func newSnapshot(version storage.ConfigVersion, doc *Document, set *rules.Set, warnings problem.List) *Snapshot {
	return &Snapshot{
		Version: version, Document: doc.WithoutTrackers(), Set: set, Warnings: warnings,
		Trackers: activeTrackers(version.Version, doc, set), WebhookKeys: doc.WebhookKeys(),
	}
}

// references reports whether the document references a secret.
func (s *Snapshot) references(secret string) bool {
	return strings.Contains(s.Version.Document, "${secret:"+secret+"}")
}

// ControllerOptions holds the dependencies and settings of a Controller. All fields are
// required except PollInterval.
type ControllerOptions struct {
	Store       versionStore
	Vault       *Vault
	LastGood    lastGoodStore
	Env         func(name string) (string, bool) // looks up an environment variable
	Connections connectionOpener
	Test        func(*Document, *rules.Set) problem.List // runs the tests of a document and returns the failures
	Now         func() time.Time
	Logger      *slog.Logger

	PollInterval time.Duration // polling interval of Follow; 0 means the default
}

// Controller owns the active configuration. Reading it never blocks. Changes are
// serialized, and an invalid document changes nothing. Controller is safe for concurrent
// use.
type Controller struct {
	store        versionStore
	vault        *Vault
	lastGood     lastGoodStore
	env          func(name string) (string, bool)
	connections  connectionOpener
	test         func(*Document, *rules.Set) problem.List
	now          func() time.Time
	logger       *slog.Logger
	pollInterval time.Duration

	mu      sync.Mutex
	current atomic.Pointer[Snapshot]
	secrets map[string][]byte // sealed secrets that current was compiled with; guarded by mu
	pending atomic.Pointer[PendingVersion]
}

// NewController returns a Controller without an active configuration.
func NewController(o ControllerOptions) *Controller {
	if o.Store == nil || o.Vault == nil || o.LastGood == nil || o.Env == nil || o.Connections == nil || o.Test == nil || o.Now == nil || o.Logger == nil {
		panic("config.NewController: Store, Vault, LastGood, Env, Connections, Test, Now, and Logger are required")
	}
	return &Controller{
		store: o.Store, vault: o.Vault, lastGood: o.LastGood, env: o.Env, connections: o.Connections, test: o.Test, now: o.Now, logger: o.Logger,
		pollInterval: o.PollInterval,
	}
}

// Current returns the active configuration, or nil if there is none yet.
func (c *Controller) Current() *Snapshot { return c.current.Load() }

// Input is a document to activate.
type Input struct {
	Document string
	Format   Format
	Author   string
	Comment  string
	IfMatch  string // expected active version, such as 4 or "4"; "*" matches any
	DryRun   bool
}

// ApplyResult is the result of Apply and Restore.
type ApplyResult struct {
	Version  int64        `json:"version"` // active version
	Warnings problem.List `json:"warnings"`
	DryRun   bool         `json:"dryRun,omitempty"`
}

// Apply activates a document. It compiles the document, runs its tests, stores it
// as a new version, and only then replaces the active configuration. Applying the
// active document again creates no version. Errors: *problem.Invalid with every problem,
// ErrStale if IfMatch names another version, storage.ErrUnavailable.
func (c *Controller) Apply(ctx context.Context, in Input) (ApplyResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apply(ctx, in)
}

func (c *Controller) apply(ctx context.Context, in Input) (ApplyResult, error) {
	secrets, err := c.loadSecrets(ctx)
	if err != nil {
		return ApplyResult{}, err
	}
	doc, set, problems := Load([]byte(in.Document), in.Format, c.resolver(secrets, false), c.connections.Drivers()...)
	if set == nil {
		return ApplyResult{}, &problem.Invalid{Problems: problems.Errors()}
	}
	if failed := c.test(doc, set); len(failed) > 0 {
		return ApplyResult{}, &problem.Invalid{Problems: failed}
	}
	useConnections, failed := c.connections.Prepare(doc)
	if len(failed) > 0 {
		return ApplyResult{}, &problem.Invalid{Problems: failed}
	}
	out := ApplyResult{Warnings: append(problem.List{}, problems.Warnings()...), DryRun: in.DryRun}
	current := c.Current()
	if current != nil {
		out.Version = current.Version.Version
	}
	if in.DryRun {
		return out, nil
	}
	expected, err := expectedVersion(in.IfMatch)
	if err != nil {
		return ApplyResult{}, err
	}
	if expected >= 0 && expected != out.Version {
		return ApplyResult{}, fmt.Errorf("version %d is active: %w", out.Version, ErrStale)
	}
	if current != nil && current.Version.Document == in.Document && current.Version.Format == string(in.Format) {
		return out, nil
	}
	stored, err := c.store.SaveConfig(ctx, storage.ConfigVersion{
		At: c.now().UTC(), Author: in.Author, Comment: in.Comment, Format: string(in.Format), Document: in.Document,
	}, expected)
	if errors.Is(err, storage.ErrConflict) {
		return ApplyResult{}, fmt.Errorf("%w (%w)", ErrStale, err)
	}
	if err != nil {
		return ApplyResult{}, fmt.Errorf("store configuration: %w", err)
	}
	c.swap(newSnapshot(stored, doc, set, problems.Warnings()), secrets)
	useConnections()
	out.Version = stored.Version
	return out, nil
}

// expectedVersion parses an If-Match value. It returns -1 for "*".
func expectedVersion(ifMatch string) (int64, error) {
	text := strings.Trim(strings.TrimPrefix(strings.TrimSpace(ifMatch), "W/"), `"`)
	if text == "*" {
		return -1, nil
	}
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || version < 0 {
		return 0, problem.Errorf("If-Match", "invalid value %q: use the ETag from GET /api/v1/config, or *", problem.Clip(ifMatch))
	}
	return version, nil
}

// Load activates the newest stored configuration with the current secrets and
// environment. An unresolved reference is only a warning, because a server that
// answers some calls is better than none. If the database is unavailable, Load
// activates the last good document. It returns ErrNoConfig if there is no document.
func (c *Controller) Load(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(ctx)
}

func (c *Controller) load(ctx context.Context) error {
	version, err := c.store.ActiveConfig(ctx)
	var secrets map[string][]byte
	if err == nil {
		secrets, err = c.loadSecrets(ctx)
	}
	switch {
	case errors.Is(err, storage.ErrUnavailable):
		lastGood, lastGoodErr := c.lastGood.Load()
		if lastGoodErr != nil {
			return fmt.Errorf("load configuration: %w; and no last good document: %w", err, lastGoodErr)
		}
		c.logger.LogAttrs(ctx, slog.LevelWarn, "database unavailable; last good configuration active", slog.Any("error", err))
		return c.activateLastGood(lastGood)
	case errors.Is(err, storage.ErrNotFound):
		return c.storeLastGood(ctx)
	case err != nil:
		return fmt.Errorf("load configuration: %w", err)
	}
	return c.activate(version, secrets, true)
}

// storeLastGood stores the last good document in a database that has no
// configuration, such as a new database that the server was moved to.
func (c *Controller) storeLastGood(ctx context.Context) error {
	lastGood, err := c.lastGood.Load()
	if errors.Is(err, storage.ErrNotFound) {
		return ErrNoConfig
	}
	if err != nil {
		return fmt.Errorf("load last good configuration: %w", err)
	}
	lastGood.Version.Comment = strings.TrimSpace("restored from the data directory because the database was empty. " + lastGood.Version.Comment)
	version, err := c.store.SaveConfig(ctx, lastGood.Version, 0)
	if err != nil {
		return fmt.Errorf("store last good configuration: %w", err)
	}
	return c.activate(version, lastGood.sealedSecrets(), true)
}

// activate compiles a stored version and makes it the active configuration.
// lenient turns unresolved references into warnings.
func (c *Controller) activate(version storage.ConfigVersion, secrets map[string][]byte, lenient bool) error {
	doc, snapshot, err := c.compile(version, secrets, lenient)
	if err != nil {
		return err
	}
	c.swap(snapshot, secrets)
	c.openConnections(doc)
	c.logWarnings(snapshot)
	return nil
}

// activateLastGood compiles the last good document and makes it the active
// configuration until the database is available.
func (c *Controller) activateLastGood(lastGood LastGood) error {
	secrets := lastGood.sealedSecrets()
	doc, snapshot, err := c.compile(lastGood.Version, secrets, true)
	if err != nil {
		return err
	}
	c.replace(snapshot, secrets)
	c.openConnections(doc)
	c.logWarnings(snapshot)
	return nil
}

// compile compiles a stored version.
func (c *Controller) compile(version storage.ConfigVersion, secrets map[string][]byte, lenient bool) (*Document, *Snapshot, error) {
	doc, set, problems := Load([]byte(version.Document), Format(version.Format), c.resolver(secrets, lenient))
	if set == nil {
		return nil, nil, fmt.Errorf("activate configuration version %d: %w", version.Version, &problem.Invalid{Problems: problems.Errors()})
	}
	return doc, newSnapshot(version, doc, set, problems.Warnings()), nil
}

// openConnections opens the CRM connections of a document. Calls are answered even if
// one cannot be opened.
func (c *Controller) openConnections(doc *Document) {
	useConnections, failed := c.connections.Prepare(doc)
	for _, p := range failed {
		c.logger.LogAttrs(context.Background(), slog.LevelError, "connection misconfigured", slog.String("path", p.Path), slog.String("reason", p.Message))
	}
	useConnections()
}

func (c *Controller) logWarnings(snapshot *Snapshot) {
	for _, p := range snapshot.Warnings {
		c.logger.LogAttrs(context.Background(), slog.LevelWarn, "configuration warning",
			slog.String("path", p.Path), slog.Int("line", p.Line), slog.String("warning", p.Message))
	}
}

// swap makes a stored configuration the active one and saves it as the last good one.
func (c *Controller) swap(snapshot *Snapshot, secrets map[string][]byte) {
	c.replace(snapshot, secrets)
	c.pending.Store(nil)
	c.saveLastGood(snapshot, secrets)
	c.logger.LogAttrs(context.Background(), slog.LevelInfo, "configuration activated",
		slog.Int64("version", snapshot.Version.Version), slog.Int("trackers", len(snapshot.Set.Trackers())))
	if len(snapshot.Version.Document) > largeDocumentBytes {
		debug.FreeOSMemory()
	}
}

// replace replaces the active configuration. The caller must hold the lock.
func (c *Controller) replace(snapshot *Snapshot, secrets map[string][]byte) {
	c.current.Store(snapshot)
	c.secrets = secrets
}

func (c *Controller) saveLastGood(snapshot *Snapshot, secrets map[string][]byte) {
	lastGood := LastGood{Version: snapshot.Version, Secrets: map[string]string{}}
	for name, sealed := range secrets {
		if snapshot.references(name) {
			lastGood.Secrets[name] = base64.StdEncoding.EncodeToString(sealed)
		}
	}
	if err := c.lastGood.Save(lastGood); err != nil {
		c.logger.LogAttrs(context.Background(), slog.LevelError,
			"last good configuration not saved", slog.Any("error", err))
	}
}

// largeDocumentBytes is the document size from which the memory used for compiling
// is returned to the system in one step. Otherwise the runtime returns it in many
// small steps that delay calls by a millisecond each.
const largeDocumentBytes = 1 << 20

func (l LastGood) sealedSecrets() map[string][]byte {
	out := map[string][]byte{}
	for name, text := range l.Secrets {
		if sealed, err := base64.StdEncoding.DecodeString(text); err == nil {
			out[name] = sealed
		}
	}
	return out
}

func (c *Controller) loadSecrets(ctx context.Context) (map[string][]byte, error) {
	stored, err := c.store.Secrets(ctx)
	if err != nil {
		return nil, fmt.Errorf("load secrets: %w", err)
	}
	out := make(map[string][]byte, len(stored))
	for _, s := range stored {
		out[s.Name] = s.Sealed
	}
	return out, nil
}

// resolver resolves references. lenient turns unresolved references into warnings.
func (c *Controller) resolver(secrets map[string][]byte, lenient bool) Resolver {
	return func(kind, name string) (string, error) {
		value, err := c.resolve(secrets, kind, name)
		if err != nil && lenient {
			err = fmt.Errorf("%w (%w)", err, ErrUnresolvedHere)
		}
		return value, err
	}
}

func (c *Controller) resolve(secrets map[string][]byte, kind, name string) (string, error) {
	if kind == "env" {
		if value, ok := c.env(name); ok {
			return value, nil
		}
		return "", fmt.Errorf("environment variable %s is not set", name)
	}
	sealed, ok := secrets[name]
	if !ok {
		return "", fmt.Errorf("unknown secret; store it with PUT /api/v1/secrets/%s", name)
	}
	return c.vault.open(name, sealed)
}

// References reports whether the active configuration references a secret.
func (c *Controller) References(secret string) bool {
	snapshot := c.Current()
	return snapshot != nil && snapshot.references(secret)
}

// VersionView is a version in the history.
type VersionView struct {
	Version  int64     `json:"version"`
	At       time.Time `json:"at" format:"date-time"`
	Author   string    `json:"author"`
	Comment  string    `json:"comment"`
	Format   string    `json:"format" enums:"yaml,json"`
	Active   bool      `json:"active"`
	Document string    `json:"document,omitempty"` // only when a single version is requested
} // @name ConfigVersionView

// VersionList is a page of the history, newest first.
type VersionList struct {
	Versions []VersionView `json:"versions"`
	Next     string        `json:"next"`
} // @name ConfigVersionList

// Document returns the active document. It returns ErrNoConfig if there is none.
func (c *Controller) Document() (storage.ConfigVersion, error) {
	snapshot := c.Current()
	if snapshot == nil {
		return storage.ConfigVersion{}, ErrNoConfig
	}
	return snapshot.Version, nil
}

// Versions returns a page of the history without documents.
func (c *Controller) Versions(ctx context.Context, page storage.Page) (VersionList, error) {
	versions, next, err := c.store.ConfigVersions(ctx, page)
	if err != nil {
		return VersionList{}, fmt.Errorf("list configuration versions: %w", err)
	}
	out := VersionList{Versions: make([]VersionView, len(versions)), Next: next}
	for i, v := range versions {
		out.Versions[i] = c.view(v)
	}
	return out, nil
}

// Version returns a version with its document. It returns storage.ErrNotFound if
// the version does not exist.
func (c *Controller) Version(ctx context.Context, n int64) (VersionView, error) {
	v, err := c.store.ConfigVersion(ctx, n)
	if err != nil {
		return VersionView{}, fmt.Errorf("load configuration version %d: %w", n, err)
	}
	out := c.view(v)
	out.Document = v.Document
	return out, nil
}

func (c *Controller) view(v storage.ConfigVersion) VersionView {
	snapshot := c.Current()
	return VersionView{
		Version: v.Version, At: v.At, Author: v.Author, Comment: v.Comment, Format: v.Format,
		Active: snapshot != nil && snapshot.Version.Version == v.Version,
	}
}

// Restore applies the document of an older version as a new version. Errors:
// those of Apply, and storage.ErrNotFound.
func (c *Controller) Restore(ctx context.Context, n int64, author string) (ApplyResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, err := c.store.ConfigVersion(ctx, n)
	if err != nil {
		return ApplyResult{}, fmt.Errorf("load configuration version %d: %w", n, err)
	}
	return c.apply(ctx, Input{
		Document: v.Document, Format: Format(v.Format), Author: author,
		Comment: fmt.Sprintf("restore of version %d", n), IfMatch: "*",
	})
}

// NumberForms returns the stored forms that the text of a number can mean: the
// form without a region, and the form for each region of the active
// configuration. It returns nil for an empty text.
func (c *Controller) NumberForms(number string) []string {
	if number == "" {
		return nil
	}
	forms := []string{phone.Parse(number, "").Key()}
	if snapshot := c.Current(); snapshot != nil {
		for _, region := range snapshot.Set.Regions() {
			if key := phone.Parse(number, region).Key(); !slices.Contains(forms, key) {
				forms = append(forms, key)
			}
		}
	}
	return forms
}

// HasLastGood reports whether a last good configuration was saved.
func (c *Controller) HasLastGood() bool {
	_, err := c.lastGood.Load()
	return err == nil
}
