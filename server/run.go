package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/handlers/access"
	"calltracker/handlers/calls"
	"calltracker/handlers/clicktocall"
	"calltracker/handlers/connections"
	"calltracker/handlers/decisions"
	"calltracker/handlers/embeds"
	"calltracker/handlers/endcall"
	"calltracker/handlers/live"
	"calltracker/handlers/lookup"
	"calltracker/handlers/popup"
	"calltracker/handlers/reconcile"
	"calltracker/handlers/recordings"
	"calltracker/handlers/rejections"
	"calltracker/handlers/retention"
	"calltracker/handlers/secrets"
	"calltracker/handlers/simulate"
	"calltracker/handlers/startcall"
	"calltracker/handlers/ziwoclients"
	"calltracker/jobs"
	"calltracker/phone"
	"calltracker/server/datadir"
	"calltracker/server/httpapi"
	"calltracker/storage"
	"calltracker/storage/cache"
	recordingfiles "calltracker/storage/recordings"
	"calltracker/storage/sqlstore"
	"calltracker/storage/writebehind"
)

// Timeouts of starting and stopping.
const (
	prepareTimeout      = 10 * time.Second        // for the database
	prepareTimeoutShort = 2500 * time.Millisecond // for the database, if the last good configuration can serve without it
	prepareRetry        = 2 * time.Second
	shutdownTimeout     = 4 * time.Second // for requests in progress; the write-behind queues have 5 s after that
	streamGrace         = 2 * time.Second // for recordings that are being streamed
)

// Sizes of the write-behind queues: a few seconds of peak load.
const (
	decisionQueueSize  = 8_000
	rejectionQueueSize = 2_000
)

// Leader tasks.
const (
	jobRetention   = 7 * 24 * time.Hour // how long finished jobs are listed
	jobPruneBatch  = 200                // jobs per transaction, for which end calls may have to wait
	lookupInterval = time.Second        // how soon the customer of a call is looked up
	linkInterval   = 10 * time.Second
	linkWindow     = 90 * time.Second // longer than the longest transaction
	retentionCheck = 10 * time.Minute
)

// startOptions change how a server starts.
type startOptions struct {
	apply *config.Input // configuration to apply before serving; nil for none
	ready func(parts)   // called once the server listens; may be nil
}

// parts are the parts of a running server that the program around it uses.
type parts struct {
	address    net.Addr
	settings   settings // with generated secrets
	store      *sqlstore.Store
	redis      *cache.Redis // nil without Redis
	spool      *localSpool
	config     *config.Controller
	clients    *ziwoclients.Clients
	recorder   *endcall.Recorder
	recordings *recordings.Library
	reconciler *reconcile.Reconciler
	wallboard  *live.Wallboard
	runner     *jobs.Runner
	tasks      []jobs.Task // of the leader
}

// sharedCache is a cache of package storage/cache: Redis, which replicas share, or the
// memory of this process.
type sharedCache interface {
	Next(key string) uint64
	CountInWindow(key string, window time.Duration) (hits int, closes time.Duration)
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	TakeToken(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration
	Drain(ctx context.Context, key string, size int, every, wait time.Duration)
	TokensLeft(ctx context.Context, key string, size int, every time.Duration) int
}

// runServer starts every component of the server in order of dependency, serves until
// ctx ends, and stops within 10 seconds. If the database is unavailable, it
// serves the last good configuration. A database with a newer schema is an error.
func runServer(ctx context.Context, set settings, logger *slog.Logger, options startOptions) (err error) {
	// Directories, secrets, and databases.
	if err := os.MkdirAll(set.dataDir, 0o700); err != nil {
		return fmt.Errorf("create data directory (CALLTRACKER_DATA_DIR): %w", err)
	}
	if set.adminToken == "" {
		var created bool
		if set.adminToken, created, err = datadir.ReadOrGenerate(set.path(datadir.AdminTokenFile), datadir.AdminTokenBytes); err != nil {
			return fmt.Errorf("admin token in the data directory: %w", err)
		}
		logger.Info("admin token file in use", slog.String("path", set.path(datadir.AdminTokenFile)), slog.Bool("new", created))
	}
	if set.secretKey == nil {
		if set.secretKey, err = datadir.ReadSecretKey(set.path(datadir.SecretKeyFile)); err != nil {
			return fmt.Errorf("secret key in the data directory: %w", err)
		}
	}
	vault, err := config.NewVault(set.secretKey)
	if err != nil {
		return err
	}
	store, err := sqlstore.New(sqlstore.Options{URL: set.databaseURL, DataDir: set.dataDir, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var shared sharedCache = cache.NewMemory(time.Now)
	var redis *cache.Redis
	if set.redisURL != "" {
		set.redis.Logger = logger
		if redis, err = cache.NewRedis(set.redisURL, set.redis); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		defer func() { err = errors.Join(err, redis.Close()) }()
		redis.Probe(ctx)
		shared = redis
	}
	spool := newLocalSpool(set.path(datadir.SpoolFolder), logger)
	defer func() { err = errors.Join(err, spool.Close()) }()
	local, err := recordingfiles.OpenFolder(set.path(datadir.RecordingsFolder))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	registry := prometheus.NewRegistry()

	// Configuration and the systems that it names.
	transport := crmTransport()
	defer transport.CloseIdleConnections()
	directory := crm.NewDirectory(crm.Options{
		Cache: shared, Key: cacheKey(set.secretKey), Logger: logger, Observe: newCRMMetrics(registry).observe,
	})
	crmConnections := connections.New(set.drivers, directory, transport, time.Now)
	controller := config.NewController(config.ControllerOptions{
		Store: store, Vault: vault, LastGood: datadir.LastGood{Path: set.path(datadir.LastGoodFile)}, Env: set.env, Now: time.Now,
		Logger: logger, PollInterval: set.pollInterval, Connections: crmConnections, Test: simulate.FailedTests,
	})
	clients := ziwoclients.New(controller)
	defer clients.Close()
	numbers := phone.NewCache()

	// What Ziwo calls.
	decisionQueue := writebehind.New("decisions", decisionQueueSize, logger, startcall.NewDecisionWriter(store, numbers).Write)
	rejectionQueue := writebehind.New("rejections", rejectionQueueSize, logger, store.RecordRejections)
	rejectionLog := rejections.New(store, rejectionQueue, time.Now, registry)
	keys := access.New(controller, shared)
	answerer := startcall.New(startcall.Options{
		Customers: directory, Rotations: shared, Numbers: numbers, Decisions: decisionQueue, Now: set.now, Registry: registry,
	})
	library := recordings.New(recordings.Options{
		Store: store, Clients: clients, Config: controller, Local: local, Tidy: local.RemoveAbandoned, Now: time.Now, Logger: logger,
		OpenBucket: func(b config.Bucket) (recordings.CopyStore, error) {
			return recordingfiles.NewBucket(recordingfiles.BucketOptions{
				Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Bucket, Prefix: b.Prefix, AccessKey: b.AccessKey.Reveal(), SecretKey: b.SecretKey.Reveal(),
			}, local)
		},
	})
	retentionJobs := retention.New(store, controller, time.Now, logger)
	lookups := lookup.New(store, directory, set.now)
	runner, err := jobs.NewRunner(jobs.RunnerOptions{
		Store: store, Registry: registry, Now: time.Now, Logger: logger,
		Kinds: []jobs.Kind{retentionJobs.Kind(), library.CopyKind(), library.RetentionKind(), lookups.Kind()},
	})
	if err != nil {
		return err
	}
	intake := endcall.NewIntake(endcall.IntakeOptions{Store: store, Spool: spool, Wake: runner.Wake, Now: time.Now, Logger: logger, Registry: registry})
	recorder := endcall.NewRecorder(intake, library, numbers, set.now)

	// What runs in the background.
	wallboard := live.New(live.Options{
		Store: store, Config: controller, Clients: clients, Numbers: numbers, Now: time.Now, Logger: logger, PollInterval: set.liveInterval,
	})
	reconciler := reconcile.New(reconcile.Options{
		Clients: clients, Config: controller, Recorder: recorder, Store: store, Registry: registry, Now: time.Now, Logger: logger,
		Interval: set.reconcileEvery,
	})
	tasks := []jobs.Task{
		{Name: "queue lookups", Interval: lookupInterval, Run: func(ctx context.Context) error {
			queued, err := lookups.Queue(ctx)
			if queued > 0 {
				runner.Wake()
			}
			return err
		}},
		{Name: "schedule retention", Interval: retentionCheck, Run: retentionJobs.Schedule},
		{Name: "schedule retention of recordings", Interval: retentionCheck, Run: library.Schedule},
		{Name: "prune finished jobs", Interval: time.Hour, Run: func(ctx context.Context) error { return pruneJobs(ctx, store) }},
		{Name: "link calls to decisions", Interval: linkInterval, Run: func(ctx context.Context) error {
			_, err := store.LinkUnlinkedCalls(ctx, time.Now().Add(-linkWindow))
			return err
		}},
		{Name: "create partitions", Interval: 6 * time.Hour, Run: func(ctx context.Context) error {
			return store.EnsurePartitions(ctx, time.Now())
		}},
	}
	if set.reconcileEvery > 0 {
		tasks = append(tasks, reconciler.Task())
	}
	leader, err := jobs.NewLeader(jobs.LeaderOptions{Store: store, Tasks: tasks, Now: time.Now, Logger: logger})
	if err != nil {
		return err
	}

	// What browsers and administrators call.
	schema, err := config.Schema()
	if err != nil {
		return fmt.Errorf("configuration schema: %w", err)
	}
	api := httpapi.New(httpapi.Options{
		AdminToken: set.adminToken, VoicemailField: set.voicemailField, TrustedProxies: set.trustedProxies, SQLite: set.databaseURL == "",
		Logger: logger, Registry: registry, Schema: schema, Keys: keys,
		Config:   controller,
		Answerer: answerer, Recorder: recorder, Intake: intake, Rejections: rejectionLog,
		Secrets:     secrets.New(store, vault, controller, time.Now),
		Calls:       calls.New(store, controller, lookups.LookupExpected),
		Decisions:   decisions.New(store, controller),
		Simulator:   simulate.New(controller, numbers, set.voicemailField, time.Now),
		Reconciler:  reconciler,
		Wallboard:   wallboard,
		ClickToCall: clicktocall.New(controller, clients, numbers, logger),
		Recordings:  library,
		Embeds:      embeds.New(controller, set.publicURL, time.Now),
		Popup: popup.New(popup.Options{
			Config: controller, Directory: directory, WrongKeys: keys, Numbers: numbers,
			Tokens: popup.NewTokens(siteTokenKey(set.secretKey), time.Now),
		}),
		Connections: crmConnections, Lookups: lookups,
		Jobs:     jobs.NewAdmin(store, runner.Wake, time.Now),
		Database: store, Spool: spool, Redis: optionalRedis(redis),
	})
	registerMetrics(registry, metricSources{
		config: controller, decisions: decisionQueue, rejections: rejectionQueue, wallboard: wallboard,
		databaseUp: func() bool { return store.Ready() && !intake.Spooling() },
		spool:      spool.Stats, spooled: intake.Spooled, directory: directory, jobs: store, redis: redis,
	})

	// Load the configuration and listen.
	applyLater, err := load(ctx, store, controller, logger, options.apply)
	if err != nil {
		return err
	}
	var pending *config.Input
	if applyLater {
		pending = options.apply
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", set.listen)
	if err != nil {
		return fmt.Errorf("%w: set CALLTRACKER_LISTEN to a free port of this machine", err)
	}
	defer func() { _ = listener.Close() }() // serving closes it first, except after an error

	// Start the long-lived parts. Those that finish the work of requests stop after the
	// HTTP server.
	finishing, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	var group errgroup.Group
	for _, run := range []func(context.Context) error{decisionQueue.Run, rejectionQueue.Run, directory.Run} {
		group.Go(func() error { return run(finishing) })
	}
	group.Go(func() error { return spool.Run(finishing, intake.Drain) })
	if redis != nil {
		group.Go(func() error { return redis.Run(finishing) })
	}
	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	for _, run := range []func(context.Context) error{controller.Follow, runner.Run, leader.Run, wallboard.Run} {
		group.Go(func() error { return run(working) })
	}
	group.Go(func() error { return prepareInBackground(working, store, controller, logger, pending) })

	logger.Info("listening", slog.String("address", listener.Addr().String()), slog.String("version", currentBuild().Version))
	if options.ready != nil {
		options.ready(parts{
			address: listener.Addr(), settings: set, store: store, redis: redis, spool: spool, config: controller, clients: clients,
			recorder: recorder, recordings: library, reconciler: reconciler, wallboard: wallboard, runner: runner, tasks: tasks,
		})
	}
	err = serveHTTP(ctx, api, listener, logger)
	stopWork()
	finish()
	err = errors.Join(err, group.Wait())
	logger.Info("stopped", slog.Int64("decisions_dropped", decisionQueue.Dropped()))
	return err
}

// serveHTTP serves until ctx ends, and then finishes the requests in progress.
func serveHTTP(ctx context.Context, api *httpapi.API, listener net.Listener, logger *slog.Logger) error {
	server := api.NewServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served: // the listener failed
		return err
	case <-ctx.Done():
	}
	logger.Info("stopping")
	cut := time.AfterFunc(streamGrace, api.CutStreams)
	defer cut.Stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		logger.Warn("requests interrupted", slog.Any("error", err))
		err = server.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// load prepares the database and activates the configuration. Calls that the
// last good configuration can answer do not wait for a database that hangs. load
// reports whether apply must be applied later, because the database is unavailable.
func load(ctx context.Context, store *sqlstore.Store, controller *config.Controller, logger *slog.Logger, apply *config.Input) (applyLater bool, err error) {
	timeout := prepareTimeout
	if controller.HasLastGood() {
		timeout = prepareTimeoutShort
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = store.Prepare(ctx)
	if errors.Is(err, storage.ErrSchemaNewer) {
		return false, err
	}
	if err != nil {
		logger.Error("database unavailable; retrying in the background", slog.Any("error", err))
	}
	loadErr := controller.Load(ctx)
	if apply != nil { // replaces the loaded configuration, or the one that could not be loaded
		_, err := controller.Apply(ctx, *apply)
		if errors.Is(err, storage.ErrUnavailable) && controller.Current() != nil {
			logger.Error("configuration file not stored; last good configuration active", slog.Any("error", err))
			return true, nil
		}
		if errors.Is(err, storage.ErrUnavailable) {
			return false, fmt.Errorf("apply configuration: %w; without --apply, the server starts and waits for the database", err)
		}
		return false, err
	}
	switch {
	case loadErr == nil:
	case errors.Is(loadErr, config.ErrNoConfig):
		logger.Warn("no configuration applied yet")
	case errors.Is(loadErr, storage.ErrUnavailable):
		logger.Error("no configuration active", slog.Any("error", loadErr))
	default:
		return false, loadErr
	}
	return false, nil
}

// prepareInBackground prepares a database that was unavailable at startup, and
// then does what load could not do without it. It returns nil.
func prepareInBackground(ctx context.Context, store *sqlstore.Store, controller *config.Controller, logger *slog.Logger, pending *config.Input) error {
	retry := time.NewTicker(prepareRetry)
	defer retry.Stop()
	reported := "" // the last failure
	for !store.Ready() {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
		attempt, cancel := context.WithTimeout(ctx, prepareTimeout)
		if err := store.Prepare(attempt); err != nil {
			if text := err.Error(); text != reported && ctx.Err() == nil {
				reported = text
				logger.Error("database still unavailable", slog.Any("error", err))
			}
		} else {
			logger.Info("database available")
			err := controller.Load(attempt)
			if errors.Is(err, config.ErrNoConfig) {
				err = nil
			}
			if err == nil && pending != nil {
				_, err = controller.Apply(attempt, *pending)
			}
			if err != nil {
				logger.Error("configuration not activated; previous one stays active", slog.Any("error", err))
			}
		}
		cancel()
	}
	return nil
}

// pruneJobs deletes jobs that finished long ago.
func pruneJobs(ctx context.Context, store *sqlstore.Store) error {
	for {
		n, err := store.PruneJobs(ctx, time.Now().Add(-jobRetention), jobPruneBatch)
		if err != nil || n < jobPruneBatch {
			return err
		}
	}
}

// optionalRedis returns redis, or a nil interface without Redis.
func optionalRedis(redis *cache.Redis) httpapi.Redis {
	if redis == nil {
		return nil
	}
	return redis
}

// crmTransport returns the HTTP transport of all CRMs. Each request has its own
// timeout; the transport limits how much of it connecting may take.
func crmTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.TLSHandshakeTimeout = time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}
