package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
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

// options are the settings as they come from flags and the environment. They
// are all text, so that everything wrong with them can be said in one message.
type options struct {
	Listen         string `name:"listen" env:"CALLTRACKER_LISTEN" default:":8080" help:"Address of the HTTP server."`
	DataDir        string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"SQLite file, spool, last good configuration, generated secrets."`
	DatabaseURL    string `name:"database-url" env:"CALLTRACKER_DATABASE_URL" help:"postgres://user:password@host:5432/name; empty for the SQLite file in the data directory."`
	RedisURL       string `name:"redis-url" env:"CALLTRACKER_REDIS_URL" help:"redis://… that all replicas share; empty for counters and caches in this process."`
	AdminToken     string `name:"admin-token" env:"CALLTRACKER_ADMIN_TOKEN" help:"Bearer token of the admin API; generated into the data directory when empty."`
	SecretKey      string `name:"secret-key" env:"CALLTRACKER_SECRET_KEY" help:"Base64 of 32 bytes that encrypt stored secrets; generated into the data directory when empty."`
	PublicURL      string `name:"public-url" env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"How the outside reaches this server."`
	VoicemailField string `name:"voicemail-field" env:"CALLTRACKER_VOICEMAIL_FIELD" default:"voicemail" help:"Name of the voicemail flag in answers to Ziwo; empty leaves it out."`
	ReconcileEvery string `name:"reconcile-every" env:"CALLTRACKER_RECONCILE_EVERY" default:"5m" help:"How often stored calls are compared with Ziwo's call history; 0 turns it off."`
	TrustedProxies string `name:"trusted-proxies" env:"CALLTRACKER_TRUSTED_PROXIES" help:"Networks of the load balancers whose X-Forwarded-For is believed, such as 10.0.0.0/8; comma-separated."`
	LogFormat      string `name:"log-format" env:"CALLTRACKER_LOG_FORMAT" help:"text or json; text on a terminal when empty."`
	LogLevel       string `name:"log-level" env:"CALLTRACKER_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
}

// settings are options that were checked.
type settings struct {
	listen         string
	dataDir        string
	databaseURL    string
	redisURL       string        // empty: in this process
	redis          cache.Options // of redisURL; only tests have others than the defaults
	adminToken     string        // empty: generate
	secretKey      []byte        // nil: generate
	publicURL      string        // without a slash at the end
	voicemailField string
	reconcileEvery time.Duration    // 0: never
	pollInterval   time.Duration    // config.Controller.LookEvery; only tests set it
	now            func() time.Time // by which calls are routed and stored; time.Now except in tests and the demo
	liveInterval   time.Duration    // between two looks at a contact center; only tests have another than the default
	trustedProxies []netip.Prefix
	drivers        []crm.Driver // the CRMs that connections may name
	logFormat      string       // text or json
	logLevel       slog.Level
}

// Bounds of how often calls are compared with Ziwo's: every time costs Ziwo some
// requests.
const (
	leastReconcile = 10 * time.Second
	mostReconcile  = 24 * time.Hour
)

// leastToken keeps tokens that can be guessed out.
const leastToken = 16

// check returns the settings, or one error that lists every bad one.
func (o options) check(terminal bool) (settings, error) {
	var bad []string
	complain := func(variable, format string, args ...any) {
		bad = append(bad, variable+": "+fmt.Sprintf(format, args...))
	}
	s := settings{
		listen: o.Listen, dataDir: o.DataDir, databaseURL: o.DatabaseURL, redisURL: o.RedisURL, adminToken: strings.TrimSpace(o.AdminToken),
		publicURL: strings.TrimSuffix(o.PublicURL, "/"), voicemailField: o.VoicemailField, logFormat: o.LogFormat,
		drivers: builtin.Drivers(), now: time.Now,
	}
	if _, port, err := net.SplitHostPort(o.Listen); err != nil || port == "" {
		complain("CALLTRACKER_LISTEN", "%q is no address; write :8080 or 127.0.0.1:8080", o.Listen)
	}
	if o.DataDir == "" {
		complain("CALLTRACKER_DATA_DIR", "is empty; name a folder")
	}
	if o.DatabaseURL != "" {
		// Its errors show no password.
		if err := sqlstore.CheckURL(o.DatabaseURL); err != nil {
			complain("CALLTRACKER_DATABASE_URL", "%v", err)
		}
	}
	if o.RedisURL != "" {
		if err := cache.CheckURL(o.RedisURL); err != nil {
			complain("CALLTRACKER_REDIS_URL", "%v", err)
		}
	}
	if s.adminToken != "" && len(s.adminToken) < leastToken {
		complain("CALLTRACKER_ADMIN_TOKEN", "is shorter than %d characters; leave it empty to have one generated", leastToken)
	}
	if o.SecretKey != "" {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(o.SecretKey))
		if err != nil || len(key) != datadir.SecretKeyBytes {
			complain("CALLTRACKER_SECRET_KEY", "is not base64 of %d bytes; make one with: openssl rand -base64 %d", datadir.SecretKeyBytes, datadir.SecretKeyBytes)
		}
		s.secretKey = key
	}
	if u, err := url.Parse(o.PublicURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		complain("CALLTRACKER_PUBLIC_URL", "%q is no address; write https://calls.example.com", o.PublicURL)
	}
	if o.VoicemailField == "didCalled" || o.VoicemailField == "rules" {
		complain("CALLTRACKER_VOICEMAIL_FIELD", "%q is taken by another part of the answer", o.VoicemailField)
	}
	if o.ReconcileEvery != "" {
		every, err := time.ParseDuration(o.ReconcileEvery)
		if err != nil || every < 0 || every > 0 && every < leastReconcile || every > mostReconcile {
			complain("CALLTRACKER_RECONCILE_EVERY", "%q must be from %s to %s, or 0 for never", o.ReconcileEvery, leastReconcile, mostReconcile)
		}
		s.reconcileEvery = every
	}
	for _, text := range strings.FieldsFunc(o.TrustedProxies, func(r rune) bool { return r == ',' || r == ' ' }) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			complain("CALLTRACKER_TRUSTED_PROXIES", "%q is no network; write 10.0.0.0/8 or 192.0.2.7/32", text)
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
		complain("CALLTRACKER_LOG_FORMAT", "%q is neither text nor json", o.LogFormat)
	}
	if err := s.logLevel.UnmarshalText([]byte(o.LogLevel)); err != nil {
		complain("CALLTRACKER_LOG_LEVEL", "%q is none of debug, info, warn, error", o.LogLevel)
	}
	if bad != nil {
		return settings{}, fmt.Errorf("bad settings:\n  %s", strings.Join(bad, "\n  "))
	}
	return s, nil
}

func (s settings) path(name string) string { return filepath.Join(s.dataDir, name) }

func (s settings) logger(out io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "text" {
		return slog.New(slog.NewTextHandler(out, o))
	}
	return slog.New(slog.NewJSONHandler(out, o))
}

// unknownVariables are variables that look like settings and are none: most
// likely a slip of the pen.
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
