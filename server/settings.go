package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"calltracker/crm"
	"calltracker/crm/builtin"
	"calltracker/server/datadir"
	"calltracker/storage/cache"
	"calltracker/storage/sqlstore"
)

// options are the settings in flags and environment variables. They are texts, so
// that one message can report all invalid ones.
type options struct {
	Listen         string `name:"listen" env:"CALLTRACKER_LISTEN" default:":8080" help:"Address of the HTTP server."`
	DataDir        string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Directory of the SQLite file, spool, recordings, last good configuration, and generated secrets."`
	DatabaseURL    string `name:"database-url" env:"CALLTRACKER_DATABASE_URL" help:"PostgreSQL, such as postgres://user:password@host:5432/name; if empty, SQLite in the data directory."`
	RedisURL       string `name:"redis-url" env:"CALLTRACKER_REDIS_URL" help:"Redis that all replicas share, such as redis://host:6379/0; if empty, counters and caches are in this process."`
	AdminToken     string `name:"admin-token" env:"CALLTRACKER_ADMIN_TOKEN" help:"Bearer token of the admin API; if empty, it is generated in the data directory."`
	SecretKey      string `name:"secret-key" env:"CALLTRACKER_SECRET_KEY" help:"Key that encrypts stored secrets, 32 bytes in base64; if empty, it is generated in the data directory."`
	PublicURL      string `name:"public-url" env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"Public URL of this server, for Ziwo and browsers."`
	VoicemailField string `name:"voicemail-field" env:"CALLTRACKER_VOICEMAIL_FIELD" default:"voicemail" help:"Name of the voicemail flag in answers to Ziwo; if empty, answers have no flag."`
	ReconcileEvery string `name:"reconcile-every" env:"CALLTRACKER_RECONCILE_EVERY" default:"5m" help:"How often stored calls are compared with Ziwo's call history; 0 disables it."`
	TrustedProxies string `name:"trusted-proxies" env:"CALLTRACKER_TRUSTED_PROXIES" help:"Networks of load balancers whose X-Forwarded-For header is trusted, comma-separated, such as 10.0.0.0/8."`
	LogFormat      string `name:"log-format" env:"CALLTRACKER_LOG_FORMAT" help:"text or json; if empty, text on a terminal, otherwise json."`
	LogLevel       string `name:"log-level" env:"CALLTRACKER_LOG_LEVEL" default:"info" help:"debug, info, warn, or error."`
}

// settings are validated options.
type settings struct {
	listen         string
	dataDir        string
	databaseURL    string
	redisURL       string        // empty without Redis
	redis          cache.Options // defaults, except in tests
	adminToken     string        // empty: generate
	secretKey      []byte        // nil: generate
	publicURL      string        // without a trailing slash
	voicemailField string
	reconcileEvery time.Duration                    // 0: never
	pollInterval   time.Duration                    // interval of polling for configuration versions; 0, the default, except in tests
	now            func() time.Time                 // clock for routing and storing calls; time.Now, except in tests and the demo
	env            func(name string) (string, bool) // environment of the configuration; os.LookupEnv, except in tests
	liveInterval   time.Duration                    // interval of polling contact centers for the live view; 0, the default, except in tests
	trustedProxies []netip.Prefix
	drivers        []crm.Driver // CRMs that connections can use
	logFormat      string       // text or json
	logLevel       slog.Level
}

// Limits of CALLTRACKER_RECONCILE_EVERY. Each comparison sends requests to Ziwo.
const (
	minReconcileEvery = 10 * time.Second
	maxReconcileEvery = 24 * time.Hour
)

// minTokenLength is the length below which an admin token could be guessed.
const minTokenLength = 16

// check returns the settings, or an error that lists every invalid one.
func (o options) check(terminal bool) (settings, error) {
	var problems []string
	invalid := func(variable, format string, args ...any) {
		problems = append(problems, variable+": "+fmt.Sprintf(format, args...))
	}
	s := settings{
		listen: o.Listen, dataDir: o.DataDir, databaseURL: o.DatabaseURL, redisURL: o.RedisURL, adminToken: strings.TrimSpace(o.AdminToken),
		publicURL: strings.TrimSuffix(o.PublicURL, "/"), voicemailField: o.VoicemailField, logFormat: o.LogFormat,
		drivers: builtin.Drivers(), now: time.Now, env: os.LookupEnv,
	}
	if _, port, err := net.SplitHostPort(o.Listen); err != nil || port == "" {
		invalid("CALLTRACKER_LISTEN", "invalid address %q: use :8080 or 127.0.0.1:8080", o.Listen)
	}
	if o.DataDir == "" {
		invalid("CALLTRACKER_DATA_DIR", "empty: use a directory")
	}
	if o.DatabaseURL != "" {
		// The error does not contain the password.
		if err := sqlstore.CheckURL(o.DatabaseURL); err != nil {
			invalid("CALLTRACKER_DATABASE_URL", "%v", err)
		}
	}
	if o.RedisURL != "" {
		if err := cache.CheckURL(o.RedisURL); err != nil {
			invalid("CALLTRACKER_REDIS_URL", "%v", err)
		}
	}
	if s.adminToken != "" && len(s.adminToken) < minTokenLength {
		invalid("CALLTRACKER_ADMIN_TOKEN", "shorter than %d characters: use a longer one, or leave it empty to generate one", minTokenLength)
	}
	if o.SecretKey != "" {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(o.SecretKey))
		if err != nil || len(key) != datadir.SecretKeyBytes {
			invalid("CALLTRACKER_SECRET_KEY", "not %d bytes in base64: generate it with openssl rand -base64 %d", datadir.SecretKeyBytes, datadir.SecretKeyBytes)
		}
		s.secretKey = key
	}
	if u, err := url.Parse(o.PublicURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		invalid("CALLTRACKER_PUBLIC_URL", "invalid URL %q: use one such as https://calls.example.com", o.PublicURL)
	}
	if o.VoicemailField == "didCalled" || o.VoicemailField == "rules" {
		invalid("CALLTRACKER_VOICEMAIL_FIELD", "invalid name %q: the answer has another field with this name; use one such as voicemail", o.VoicemailField)
	}
	if o.ReconcileEvery != "" {
		every, err := time.ParseDuration(o.ReconcileEvery)
		if err != nil || every < 0 || every > 0 && every < minReconcileEvery || every > maxReconcileEvery {
			invalid("CALLTRACKER_RECONCILE_EVERY", "invalid duration %q: use 10s to 24h, or 0 to disable it", o.ReconcileEvery)
		}
		s.reconcileEvery = every
	}
	for _, text := range strings.FieldsFunc(o.TrustedProxies, func(r rune) bool { return r == ',' || r == ' ' }) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			invalid("CALLTRACKER_TRUSTED_PROXIES", "invalid network %q: use one such as 10.0.0.0/8 or 192.0.2.7/32", text)
			continue
		}
		s.trustedProxies = append(s.trustedProxies, prefix)
	}
	switch {
	case o.LogFormat == "" && terminal:
		s.logFormat = "text"
	case o.LogFormat == "":
		s.logFormat = "json"
	case o.LogFormat != "text" && o.LogFormat != "json":
		invalid("CALLTRACKER_LOG_FORMAT", "invalid format %q: use text or json", o.LogFormat)
	}
	if err := s.logLevel.UnmarshalText([]byte(o.LogLevel)); err != nil {
		invalid("CALLTRACKER_LOG_LEVEL", "invalid level %q: use debug, info, warn, or error", o.LogLevel)
	}
	if problems != nil {
		return settings{}, fmt.Errorf("invalid settings:\n  %s", strings.Join(problems, "\n  "))
	}
	return s, nil
}

// path returns the path of a file in the data directory.
func (s settings) path(name string) string { return filepath.Join(s.dataDir, name) }

// logger returns a logger that writes to out.
func (s settings) logger(out io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "text" {
		return slog.New(slog.NewTextHandler(out, o))
	}
	return slog.New(slog.NewJSONHandler(out, o))
}

// unknownVariables returns the environment variables that look like settings but are
// not, such as misspelled ones.
func unknownVariables(environment []string, known []string) []string {
	var out []string
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "CALLTRACKER_") && !slices.Contains(known, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
