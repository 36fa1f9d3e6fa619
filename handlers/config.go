package handlers

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/storage"
)

// configStore is what Config needs of a store.
type configStore interface {
	SaveConfig(ctx context.Context, v storage.ConfigVersion, expected int64) (storage.ConfigVersion, error)
	ActiveConfig(ctx context.Context) (storage.ConfigVersion, error)
	ConfigVersions(ctx context.Context, p storage.Page) ([]storage.ConfigVersion, string, error)
	ConfigVersion(ctx context.Context, n int64) (storage.ConfigVersion, error)
	Secrets(ctx context.Context) ([]storage.Secret, error)
	ConfigMark(ctx context.Context) (string, error)
	ListenConfig(ctx context.Context, heard func()) error
}

// LastGood is what a start without a database needs: the newest document, and
// the secrets that it refers to, still sealed.
type LastGood struct {
	Version storage.ConfigVersion `json:"version"`
	Secrets map[string]string     `json:"secrets"` // base64
}

// keeper holds the last good document outside of the database.
type keeper interface {
	Keep(l LastGood) error
	Kept() (LastGood, error) // storage.ErrNotFound when there is none
}

// Live is a configuration in force. It is immutable.
type Live struct {
	Version  storage.ConfigVersion
	Document *config.Document // without its trackers, which Set and trackers have compiled
	Set      *rules.Set
	Warnings problem.List

	WebhookKeys config.WebhookKeys

	trackers trackerIndex
}

func (c *Config) newLive(version storage.ConfigVersion, doc *config.Document, set *rules.Set, warnings problem.List) *Live {
	return &Live{
		Version: version, Document: doc.WithoutTrackers(), Set: set, Warnings: warnings,
		WebhookKeys: doc.WebhookKeys(), trackers: newTrackerIndex(doc, set, c.Metrics),
	}
}

// Config owns the configuration in force. Reading it never waits; changes come
// one after the other, and a document that cannot be used changes nothing.
type Config struct {
	Store   configStore
	Vault   *Vault
	Keeper  keeper
	Env     func(name string) (string, bool) // os.LookupEnv
	Now     func() time.Time
	Metrics *Metrics
	Logger  *slog.Logger

	LookEvery time.Duration // of Follow, when the database does not tell; 0 for its own choice

	Connections *Connections // nil: the document's are only data

	changing sync.Mutex
	live     atomic.Pointer[Live]
	sealed   map[string][]byte // the secrets that live was compiled with; guarded by changing
	behind   atomic.Pointer[Behind]
}

// Live is the configuration in force; nil before the first one.
func (c *Config) Live() *Live { return c.live.Load() }

// ConfigInput is a document to put in force.
type ConfigInput struct {
	Document string
	Format   config.Format
	Author   string
	Comment  string
	IfMatch  string // "*", or the version that is expected to be in force: 4 or "4"
	DryRun   bool
}

// Applied answers a document that was put in force, or could be.
type Applied struct {
	Version  int64        `json:"version"` // in force now
	Warnings []FieldError `json:"warnings"`
	DryRun   bool         `json:"dryRun,omitempty"`
}

// Apply puts a document in force: it is compiled and its tests are run, it is
// stored as a new version, and only then it replaces the one before. The same
// document again is no new version. Errors: *Invalid with every problem,
// ErrStale when IfMatch names another version, storage.ErrUnavailable.
//
//	@Summary		Put a configuration in force
//	@Description	Every problem is listed. With dry_run nothing changes.
//	@ID		putConfig
//	@Tags			configuration
//	@Accept			application/yaml,json
//	@Produce		json
//	@Param			If-Match	header		string	false	"The version that is expected to be in force, or *; not needed for a dry run"
//	@Param			dry_run		query		boolean	false	"Only check"
//	@Param			comment		query		string	false	"Why, for the history"
//	@Param			author		query		string	false	"Who, for the history"
//	@Param			body		body		string	true	"The document"
//	@Success		200			{object}	Applied
//	@Header			200			{string}	ETag	"The version in force"
//	@Failure		400			{object}	Problem
//	@Failure		401			{object}	Problem
//	@Failure		412			{object}	Problem
//	@Failure		413			{object}	Problem
//	@Failure		415			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		428			{object}	Problem
//	@Failure		503			{object}	Problem
//	@Security		Bearer
//	@x-any-body	true
//	@Router			/api/v1/config [put]
func (c *Config) Apply(ctx context.Context, in ConfigInput) (Applied, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	return c.apply(ctx, in)
}

func (c *Config) apply(ctx context.Context, in ConfigInput) (Applied, error) {
	secrets, err := c.sealedSecrets(ctx)
	if err != nil {
		return Applied{}, err
	}
	doc, set, problems := config.Load([]byte(in.Document), in.Format, c.resolver(secrets, false), c.Connections.drivers()...)
	if set == nil {
		return Applied{}, &Invalid{Errors: fieldErrors(problems.Errors())}
	}
	if failed := failedTests(doc, set); len(failed) > 0 {
		return Applied{}, &Invalid{Errors: failed}
	}
	connections, failed := c.Connections.prepare(doc)
	if len(failed) > 0 {
		return Applied{}, &Invalid{Errors: failed}
	}
	out := Applied{Warnings: fieldErrors(problems.Warnings()), DryRun: in.DryRun}
	current := c.Live()
	if current != nil {
		out.Version = current.Version.Version
	}
	if in.DryRun {
		return out, nil
	}
	expected, err := expectedVersion(in.IfMatch)
	if err != nil {
		return Applied{}, err
	}
	if expected >= 0 && expected != out.Version {
		return Applied{}, fmt.Errorf("version %d is in force: %w", out.Version, ErrStale)
	}
	if current != nil && current.Version.Document == in.Document && current.Version.Format == string(in.Format) {
		return out, nil
	}
	stored, err := c.Store.SaveConfig(ctx, storage.ConfigVersion{
		At: c.Now().UTC(), Author: in.Author, Comment: in.Comment, Format: string(in.Format), Document: in.Document,
	}, expected)
	if errors.Is(err, storage.ErrConflict) {
		return Applied{}, fmt.Errorf("%w (%w)", ErrStale, err)
	}
	if err != nil {
		return Applied{}, fmt.Errorf("store configuration: %w", err)
	}
	c.swap(c.newLive(stored, doc, set, problems.Warnings()), secrets)
	c.Connections.use(connections)
	out.Version = stored.Version
	return out, nil
}

// expectedVersion reads an If-Match; -1 is "whatever is there".
func expectedVersion(ifMatch string) (int64, error) {
	text := strings.Trim(strings.TrimPrefix(strings.TrimSpace(ifMatch), "W/"), `"`)
	if text == "*" {
		return -1, nil
	}
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || version < 0 {
		return 0, invalid("If-Match", "%q is neither * nor the version that GET /api/v1/config gave as its ETag", shorten(ifMatch))
	}
	return version, nil
}

// Load puts the newest stored configuration in force, with the secrets and the
// environment as they are now. A reference that cannot be resolved is a warning
// here, since a server that answers some calls is better than none. Without a
// database the last good document serves. It returns ErrNoConfig when there is
// none at all.
func (c *Config) Load(ctx context.Context) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	return c.load(ctx)
}

func (c *Config) load(ctx context.Context) error {
	version, err := c.Store.ActiveConfig(ctx)
	var secrets map[string][]byte
	if err == nil {
		secrets, err = c.sealedSecrets(ctx)
	}
	switch {
	case errors.Is(err, storage.ErrUnavailable):
		kept, keptErr := c.Keeper.Kept()
		if keptErr != nil {
			return fmt.Errorf("load configuration: %w; and no last good document: %w", err, keptErr)
		}
		c.Logger.LogAttrs(ctx, slog.LevelWarn, "the last good configuration serves", slog.Any("error", err))
		return c.force(kept.Version, kept.sealed(), false, true)
	case errors.Is(err, storage.ErrNotFound):
		return c.adoptKept(ctx)
	case err != nil:
		return fmt.Errorf("load configuration: %w", err)
	}
	return c.force(version, secrets, true, true)
}

// adoptKept brings the last good document into a database that has none, such
// as one that the server was just moved to.
func (c *Config) adoptKept(ctx context.Context) error {
	kept, err := c.Keeper.Kept()
	if errors.Is(err, storage.ErrNotFound) {
		return ErrNoConfig
	}
	if err != nil {
		return fmt.Errorf("load last good configuration: %w", err)
	}
	kept.Version.Comment = strings.TrimSpace("from the data directory, since the database had none. " + kept.Version.Comment)
	version, err := c.Store.SaveConfig(ctx, kept.Version, 0)
	if err != nil {
		return fmt.Errorf("store last good configuration: %w", err)
	}
	return c.force(version, kept.sealed(), true, true)
}

// force compiles a version that was good when it was stored and swaps it in.
// Lenient makes references that cannot be resolved warnings.
func (c *Config) force(version storage.ConfigVersion, secrets map[string][]byte, keep, lenient bool) error {
	doc, set, problems := config.Load([]byte(version.Document), config.Format(version.Format), c.resolver(secrets, lenient))
	if set == nil {
		return fmt.Errorf("configuration version %d cannot be used: %w", version.Version, &Invalid{Errors: fieldErrors(problems.Errors())})
	}
	live := c.newLive(version, doc, set, problems.Warnings())
	if keep {
		c.swap(live, secrets)
	} else {
		c.live.Store(live)
		c.sealed = secrets
	}
	// A CRM that cannot be used is no reason to answer no calls.
	connections, failed := c.Connections.prepare(doc)
	for _, p := range failed {
		c.Logger.LogAttrs(context.Background(), slog.LevelError, "a connection cannot be used", slog.String("path", p.Path), slog.String("reason", p.Message))
	}
	c.Connections.use(connections)
	for _, p := range problems.Warnings() {
		c.Logger.LogAttrs(context.Background(), slog.LevelWarn, "configuration warning",
			slog.String("path", p.Path), slog.Int("line", p.Line), slog.String("warning", p.Message))
	}
	return nil
}

func (c *Config) swap(live *Live, secrets map[string][]byte) {
	c.live.Store(live)
	c.sealed = secrets
	c.behind.Store(nil)
	kept := LastGood{Version: live.Version, Secrets: map[string]string{}}
	for name, sealed := range secrets {
		if strings.Contains(live.Version.Document, "${secret:"+name+"}") {
			kept.Secrets[name] = base64.StdEncoding.EncodeToString(sealed)
		}
	}
	if err := c.Keeper.Keep(kept); err != nil {
		c.Logger.LogAttrs(context.Background(), slog.LevelError,
			"the last good configuration could not be kept; a start without the database would serve an older one", slog.Any("error", err))
	}
	c.Logger.LogAttrs(context.Background(), slog.LevelInfo, "configuration in force",
		slog.Int64("version", live.Version.Version), slog.Int("trackers", len(live.Set.Trackers())))
	if len(live.Version.Document) > largeDocument {
		debug.FreeOSMemory()
	}
}

// largeDocument is from where what compiling leaves behind is given back to the
// system at once, in bytes: otherwise the runtime does it little by little, a
// millisecond at a time, while calls wait.
const largeDocument = 1 << 20

func (l LastGood) sealed() map[string][]byte {
	out := map[string][]byte{}
	for name, text := range l.Secrets {
		if sealed, err := base64.StdEncoding.DecodeString(text); err == nil {
			out[name] = sealed
		}
	}
	return out
}

func (c *Config) sealedSecrets(ctx context.Context) (map[string][]byte, error) {
	stored, err := c.Store.Secrets(ctx)
	if err != nil {
		return nil, fmt.Errorf("load secrets: %w", err)
	}
	out := make(map[string][]byte, len(stored))
	for _, s := range stored {
		out[s.Name] = s.Sealed
	}
	return out, nil
}

// resolver finds references; lenient makes those it cannot find warnings.
func (c *Config) resolver(secrets map[string][]byte, lenient bool) config.Resolver {
	return func(kind, name string) (string, error) {
		value, err := c.lookUp(secrets, kind, name)
		if err != nil && lenient {
			err = fmt.Errorf("%w (%w)", err, config.ErrUnresolvedHere)
		}
		return value, err
	}
}

func (c *Config) lookUp(secrets map[string][]byte, kind, name string) (string, error) {
	if kind == "env" {
		if value, ok := c.Env(name); ok {
			return value, nil
		}
		return "", fmt.Errorf("the environment variable %s is not set", name)
	}
	sealed, ok := secrets[name]
	if !ok {
		return "", fmt.Errorf("there is no such secret; store it with PUT /api/v1/secrets/%s", name)
	}
	return c.Vault.open(name, sealed)
}

func (c *Config) refersTo(secret string) bool {
	live := c.Live()
	return live != nil && strings.Contains(live.Version.Document, "${secret:"+secret+"}")
}

// ConfigVersionView is one version of the history.
type ConfigVersionView struct {
	Version  int64     `json:"version"`
	At       time.Time `json:"at" format:"date-time"`
	Author   string    `json:"author"`
	Comment  string    `json:"comment"`
	Format   string    `json:"format" enums:"yaml,json"`
	Active   bool      `json:"active"`
	Document string    `json:"document,omitempty"` // only of a single version
}

// ConfigVersionList is the history, newest first.
type ConfigVersionList struct {
	Versions []ConfigVersionView `json:"versions"`
	Next     string              `json:"next"`
}

// Document is the one in force; ErrNoConfig when there is none.
//
//	@Summary	The configuration in force, as it was written
//	@ID		getConfig
//	@Tags		configuration
//	@Produce	application/yaml,json
//	@Success	200	{object}	object	"YAML, or JSON when that is asked for"
//	@Header		200	{string}	ETag	"Its version"
//	@Success	304
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/config [get]
func (c *Config) Document() (storage.ConfigVersion, error) {
	live := c.Live()
	if live == nil {
		return storage.ConfigVersion{}, ErrNoConfig
	}
	return live.Version, nil
}

// Versions lists the history without the documents.
//
//	@Summary	Every version of the configuration: who, when, why
//	@ID		listConfigVersions
//	@Tags		configuration
//	@Produce	json
//	@Param		cursor	query		string	false	"From the page before"
//	@Param		limit	query		int		false	"1 to 1000, 50 by default"
//	@Success	200		{object}	ConfigVersionList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/config/versions [get]
func (c *Config) Versions(ctx context.Context, page storage.Page) (ConfigVersionList, error) {
	versions, next, err := c.Store.ConfigVersions(ctx, page)
	if err != nil {
		return ConfigVersionList{}, fmt.Errorf("list configuration versions: %w", err)
	}
	out := ConfigVersionList{Versions: make([]ConfigVersionView, len(versions)), Next: next}
	for i, v := range versions {
		out.Versions[i] = c.view(v)
	}
	return out, nil
}

// Version is one version with its document; storage.ErrNotFound when there is
// no such one.
//
//	@Summary	One version of the configuration, with its document
//	@ID		getConfigVersion
//	@Tags		configuration
//	@Produce	json
//	@Param		n	path		int	true	"Version"
//	@Success	200	{object}	ConfigVersionView
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	422	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/config/versions/{n} [get]
func (c *Config) Version(ctx context.Context, n int64) (ConfigVersionView, error) {
	v, err := c.Store.ConfigVersion(ctx, n)
	if err != nil {
		return ConfigVersionView{}, fmt.Errorf("load configuration version %d: %w", n, err)
	}
	out := c.view(v)
	out.Document = v.Document
	return out, nil
}

func (c *Config) view(v storage.ConfigVersion) ConfigVersionView {
	live := c.Live()
	return ConfigVersionView{
		Version: v.Version, At: v.At, Author: v.Author, Comment: v.Comment, Format: v.Format,
		Active: live != nil && live.Version.Version == v.Version,
	}
}

// Restore applies the document of an older version as a new one. Errors are
// those of Apply, and storage.ErrNotFound.
//
//	@Summary	Put the document of an older version in force again, as a new version
//	@ID		restoreConfigVersion
//	@Tags		configuration
//	@Produce	json
//	@Param		n		path		int		true	"Version"
//	@Param		author	query		string	false	"Who, for the history"
//	@Success	200		{object}	Applied
//	@Header		200		{string}	ETag	"The version in force"
//	@Failure	401		{object}	Problem
//	@Failure	404		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/config/versions/{n}/restore [post]
func (c *Config) Restore(ctx context.Context, n int64, author string) (Applied, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	v, err := c.Store.ConfigVersion(ctx, n)
	if err != nil {
		return Applied{}, fmt.Errorf("load configuration version %d: %w", n, err)
	}
	return c.apply(ctx, ConfigInput{
		Document: v.Document, Format: config.Format(v.Format), Author: author,
		Comment: fmt.Sprintf("version %d restored", n), IfMatch: "*",
	})
}
