package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/handlers"
	"calltracker/jobs"
	"calltracker/storage"
	"calltracker/storage/cache"
	"calltracker/storage/recordings"
	"calltracker/storage/sqlstore"
)

// Times of starting and stopping.
const (
	prepareTimeout = 10 * time.Second        // of the database
	prepareQuickly = 2500 * time.Millisecond // at the start, when calls can be answered without it
	prepareRetry   = 2 * time.Second
	streamGrace    = 2 * time.Second // for streams that are nearly done
	stopTimeout    = 4 * time.Second // for requests under way; the queues get 5 s after that
)

// Records that may wait to be written: some seconds of a flood.
const (
	decisionQueue  = 8_000
	rejectionQueue = 2_000
)

// server is the process as a value: start makes one that listens, run serves
// until its context ends, and everything is closed when run returns.
type server struct {
	settings settings
	logger   *slog.Logger
	listener net.Listener
	store    *sqlstore.Store
	cache    shared
	redis    *cache.Redis // nil without one
	config   *handlers.Config
	registry *prometheus.Registry

	applyLater *handlers.ConfigInput // nil unless the database was away when it was to be applied

	outbox *outbox
	keeper *handlers.Keeper

	keys         *handlers.Checker
	answerer     *handlers.Answerer
	recorder     *handlers.Recorder
	decisions    *handlers.Queue[handlers.DecisionRecord]
	refused      *handlers.Queue[storage.Rejection]
	rejections   *handlers.Rejections
	stored       *handlers.Calls
	decided      *handlers.Decisions
	secrets      *handlers.Secrets
	directory    *crm.Directory
	enricher     *handlers.Enricher
	connections  *handlers.Connections
	crmTransport *http.Transport
	simulator    *handlers.Simulator
	embeds       *handlers.Embeds
	popups       *handlers.Popup
	runner       *jobs.Runner
	jobs         *jobs.List
	leader       *jobs.Leader
	centers      *handlers.Centers
	clicker      *handlers.ClickToCall
	recordings   *handlers.Recordings
	folder       *recordings.Folder
	wallboard    *handlers.Wallboard
	reconciler   *handlers.Reconciler

	api *api
}

// shared is what replicas share when they have a Redis: storage/cache.
type shared interface {
	Next(key string) uint64
	CountInWindow(key string, window time.Duration) (hits int, closes time.Duration)
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	TakeToken(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration
	Drain(ctx context.Context, key string, size int, every, wait time.Duration)
	TokensLeft(ctx context.Context, key string, size int, every time.Duration) int
}

// start brings everything up that can be, and listens. With the database away
// it goes on with the last good configuration; a database that this program
// must not touch is an error. apply, when it is not nil, is put in force first.
func start(ctx context.Context, set settings, logger *slog.Logger, apply *handlers.ConfigInput) (s *server, err error) {
	if err := os.MkdirAll(set.dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if set.adminToken == "" {
		var fresh bool
		if set.adminToken, fresh, err = generated(set.path(adminTokenFile), adminTokenBytes); err != nil {
			return nil, fmt.Errorf("admin token: %w", err)
		}
		logger.Info("the admin token is in a file", slog.String("path", set.path(adminTokenFile)), slog.Bool("new", fresh))
	}
	if set.secretKey == nil {
		if set.secretKey, err = secretKey(set.path(secretKeyFile)); err != nil {
			return nil, fmt.Errorf("secret key: %w", err)
		}
	}
	vault, err := handlers.NewVault(set.secretKey)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(sqlstore.Options{URL: set.databaseURL, DataDir: set.dataDir, Logger: logger})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, store.Close())
		}
	}()

	s = &server{
		settings: set, logger: logger, store: store, cache: cache.NewMemory(time.Now), registry: prometheus.NewRegistry(),
	}
	if set.redisURL != "" {
		set.redis.Logger = logger
		if s.redis, err = cache.NewRedis(set.redisURL, set.redis); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		redis := s.redis
		defer func() {
			if err != nil {
				err = errors.Join(err, redis.Close())
			}
		}()
		s.cache = redis
		s.redis.Probe(ctx)
	}
	schema, err := config.Schema()
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	counts := handlers.NewMetrics(s.registry)
	s.config = &handlers.Config{
		Store: store, Vault: vault, Keeper: lastGood{path: set.path(lastGoodFile)}, Env: os.LookupEnv, Now: time.Now,
		Logger: logger, LookEvery: set.lookEvery,
	}
	s.crmTransport = crmTransport()
	s.directory = crm.NewDirectory(crm.Options{
		Cache: s.cache, Key: cacheKey(set.secretKey), Logger: logger, Observe: newCRMMetrics(s.registry).observe,
	})
	s.registry.MustRegister(newCRMState(s.directory))
	s.connections = &handlers.Connections{Drivers: set.drivers, Directory: s.directory, Transport: s.crmTransport, Config: s.config}
	s.config.Connections = s.connections
	spooled := newOutbox(set.path(spoolFolder), logger)
	defer func() {
		if err != nil {
			err = errors.Join(err, spooled.Close())
		}
	}()
	s.outbox = spooled
	numbers := handlers.NewNumbers()
	s.refused = handlers.NewQueue("rejections", rejectionQueue, logger, store.RecordRejections)
	s.rejections = &handlers.Rejections{Store: store, Queue: s.refused, Metrics: counts, Now: time.Now}
	s.decisions = handlers.NewQueue("decisions", decisionQueue, logger, handlers.NewDecisionWriter(store, numbers).Write)
	s.answerer = handlers.NewAnswerer(handlers.AnswererOptions{
		Customers: s.directory, Rotations: s.cache, Numbers: numbers, Decisions: s.decisions, Now: set.now, Registry: s.registry,
	})
	s.keys = handlers.NewChecker(s.config, s.cache)
	s.enricher = handlers.NewEnricher(handlers.EnricherOptions{Store: store, Directory: s.directory, Now: set.now})
	s.stored = &handlers.Calls{Store: store, Config: s.config, Soon: s.enricher.Soon}
	s.decided = &handlers.Decisions{Store: store, Config: s.config}
	s.secrets = &handlers.Secrets{Store: store, Vault: vault, Config: s.config, Now: time.Now}
	s.simulator = &handlers.Simulator{Config: s.config, Numbers: numbers, VoicemailField: set.voicemailField, Now: time.Now}
	s.embeds = &handlers.Embeds{Config: s.config, PublicURL: set.publicURL, Now: time.Now}
	s.popups = &handlers.Popup{Config: s.config, Directory: s.directory, Keys: s.keys, Numbers: numbers, Key: tokenKey(set.secretKey), Now: time.Now}
	s.centers = &handlers.Centers{Config: s.config}
	s.clicker = &handlers.ClickToCall{Config: s.config, Centers: s.centers, Numbers: numbers, Logger: logger}
	if s.folder, err = recordings.OpenFolder(set.path(recordingsFolder)); err != nil {
		return nil, err
	}
	folder := s.folder
	defer func() {
		if err != nil {
			err = errors.Join(err, folder.Close())
		}
	}()
	s.recordings = newRecordings(s)
	retention := &handlers.Retention{Store: store, Config: s.config, Now: time.Now, Logger: logger}
	if err := s.prepareJobs(retention); err != nil {
		return nil, err
	}
	s.keeper = &handlers.Keeper{Store: store, Spool: s.outbox, Metrics: counts, Now: time.Now, Logger: logger, Wake: s.runner.Wake}
	s.recorder = handlers.NewRecorder(handlers.RecorderOptions{Intake: s.keeper, Jobs: s.recordings, Numbers: numbers, Now: set.now})
	s.wallboard = handlers.NewWallboard(handlers.WallboardOptions{
		Store: store, Config: s.config, Centers: s.centers, Numbers: numbers, Now: time.Now, Logger: logger, Every: set.liveEvery,
	})
	s.reconciler = handlers.NewReconciler(handlers.Reconciler{
		Centers: s.centers, Config: s.config, Calls: s.recorder, Store: store, Metrics: counts, Now: time.Now, Logger: logger,
		Every: set.reconcileEvery,
	})
	if err := s.prepareTasks(retention); err != nil {
		return nil, err
	}
	options := apiOptions{
		AdminToken: set.adminToken, VoicemailField: set.voicemailField, TrustedProxies: set.trustedProxies, SQLite: set.databaseURL == "",
		Logger: logger, Registry: s.registry, Schema: schema,
		Config: s.config, Secrets: s.secrets, Keys: s.keys, Answerer: s.answerer, Recorder: s.recorder, Stored: s.stored, Decided: s.decided, Rejections: s.rejections,
		Simulator: s.simulator, Reconciler: s.reconciler, Wallboard: s.wallboard, Clicker: s.clicker, Recordings: s.recordings,
		Embeds: s.embeds, Popups: s.popups, Connections: s.connections, Enricher: s.enricher, Jobs: s.jobs, Keeper: s.keeper,
		Database: store, Spool: s.outbox,
	}
	if s.redis != nil {
		options.Redis = s.redis
	}
	s.api = newAPI(options)
	registerState(s.registry, s.config, s.decisions, s.refused, func() bool { return store.Ready() && !s.keeper.Away() })
	registerSpool(s.registry, s.outbox.Stats, s.keeper.Spooled)
	registerWallboard(s.registry, s.wallboard)
	if s.redis != nil {
		registerRedis(s.registry, s.redis.Up)
	}

	if err := s.load(ctx, apply); err != nil {
		return nil, err
	}
	if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", set.listen); err != nil {
		return nil, err
	}
	return s, nil
}

// load prepares the database and puts the configuration in force. Calls that the
// last good document can answer do not wait for a database that hangs.
func (s *server) load(ctx context.Context, apply *handlers.ConfigInput) error {
	limit := prepareTimeout
	if _, err := s.config.Keeper.Kept(); err == nil {
		limit = prepareQuickly
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.store.Prepare(ctx)
	if errors.Is(err, storage.ErrSchemaNewer) {
		return err
	}
	if err != nil {
		s.logger.Error("the database cannot be used yet; trying again in the background", slog.Any("error", err))
	}
	loaded := s.config.Load(ctx)
	if apply != nil { // whatever was in force, or could not be, makes way
		_, err := s.config.Apply(ctx, *apply)
		if errors.Is(err, storage.ErrUnavailable) && s.config.Live() != nil {
			s.applyLater = apply
			s.logger.Error("the file cannot be stored yet; the last good configuration serves until then", slog.Any("error", err))
			return nil
		}
		return err
	}
	switch {
	case errors.Is(loaded, handlers.ErrNoConfig):
		s.logger.Warn("no configuration has been applied yet")
	case loaded != nil && errors.Is(loaded, storage.ErrUnavailable):
		s.logger.Error("no configuration yet", slog.Any("error", loaded))
	case loaded != nil:
		return loaded
	}
	return nil
}

// run serves until ctx ends, then finishes what is under way within 10 seconds
// and closes everything.
func (s *server) run(ctx context.Context) error {
	web := s.api.NewServer()

	// The queues outlive the requests that fill them.
	queues, stopQueues := context.WithCancel(context.WithoutCancel(ctx))
	defer stopQueues()
	var background sync.WaitGroup
	background.Go(func() { _ = s.decisions.Run(queues) }) // always nil
	background.Go(func() { _ = s.refused.Run(queues) })   // always nil
	background.Go(func() { s.prepareLater(ctx) })
	background.Go(func() { _ = s.config.Follow(ctx) })    // always nil
	background.Go(func() { _ = s.runner.Run(ctx) })       // always nil
	background.Go(func() { _ = s.leader.Run(ctx) })       // always nil
	background.Go(func() { _ = s.directory.Run(queues) }) // always nil
	background.Go(func() { _ = s.wallboard.Run(ctx) })    // always nil; it ends the streams, for which Shutdown waits
	background.Go(func() {                                // outlives the requests that wait for the database with it
		if err := s.outbox.Run(queues, s.keeper.Drain); err != nil {
			s.logger.Error("the spool is not drained", slog.Any("error", err))
		}
	})
	if s.redis != nil {
		background.Go(func() { _ = s.redis.Run(queues) }) // always nil
	}

	s.logger.Info("listening", slog.String("address", s.listener.Addr().String()), slog.String("version", currentBuild().Version))
	served := make(chan error, 1)
	go func() { served <- web.Serve(s.listener) }()
	var err error
	select {
	case err = <-served: // it cannot go on
	case <-ctx.Done():
		s.logger.Info("stopping")
		cut := time.AfterFunc(streamGrace, s.api.CutStreams)
		defer cut.Stop()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err = web.Shutdown(grace); err != nil {
			s.logger.Warn("requests were cut off", slog.Any("error", err))
			err = web.Close()
		}
		err = errors.Join(err, ended(<-served))
	}
	stopQueues()
	background.Wait()
	s.crmTransport.CloseIdleConnections()
	err = errors.Join(err, s.outbox.Close(), s.store.Close(), s.folder.Close())
	s.centers.Close()
	if s.redis != nil {
		err = errors.Join(err, s.redis.Close())
	}
	s.logger.Info("stopped", slog.Int64("decisions_dropped", s.decisions.Dropped()))
	return err
}

// ended is the error of a server that ended, unless it was told to.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// prepareLater keeps trying to use the database when it was away at the start.
func (s *server) prepareLater(ctx context.Context) {
	retry := time.NewTicker(prepareRetry)
	defer retry.Stop()
	for !s.store.Ready() {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
		attempt, cancel := context.WithTimeout(ctx, prepareTimeout)
		if err := s.store.Prepare(attempt); err == nil {
			s.logger.Info("the database is in use now")
			if err := s.catchUp(attempt); err != nil {
				s.logger.Error("the configuration did not change", slog.Any("error", err))
			}
		}
		cancel()
	}
}

// catchUp does what load could not do without the database.
func (s *server) catchUp(ctx context.Context) error {
	if err := s.config.Load(ctx); err != nil && !errors.Is(err, handlers.ErrNoConfig) {
		return err
	}
	if s.applyLater == nil {
		return nil
	}
	_, err := s.config.Apply(ctx, *s.applyLater)
	return err
}

func newRecordings(s *server) *handlers.Recordings {
	return &handlers.Recordings{
		Store: s.store, Centers: s.centers, Config: s.config, Folder: s.folder, Tidy: s.folder.RemoveAbandoned, Now: time.Now, Logger: s.logger,
		OpenBucket: func(b config.Bucket) (handlers.RecordingPlace, error) {
			return recordings.NewBucket(recordings.BucketOptions{
				Endpoint: b.Endpoint, Region: b.Region, Bucket: b.Bucket, Prefix: b.Prefix, AccessKey: b.AccessKey.Reveal(), SecretKey: b.SecretKey.Reveal(),
			}, s.folder)
		},
	}
}
