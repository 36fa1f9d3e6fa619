package endurance

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"calltracker/storage/storetest/postgrestest"
)

// postgres is a PostgreSQL server with its own disk.
type postgres struct {
	dir    string
	disk   *disk
	server *postgrestest.Server
}

func newPostgres(ctx context.Context) (_ *postgres, err error) {
	p := &postgres{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	// If this program runs as root, PostgreSQL runs as another user, who needs access.
	if p.dir, err = os.MkdirTemp("", "calltracker-postgres-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(p.dir, 0o755); err != nil { //nolint:gosec // PostgreSQL runs as another user
		return nil, err
	}
	if p.disk, err = newDisk(ctx, filepath.Join(p.dir, "disk")); err != nil {
		return nil, err
	}
	if p.server, err = postgrestest.NewIn(p.disk.dir); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *postgres) url() string { return p.server.URL() }

func (p *postgres) close() (err error) {
	if p.server != nil {
		err = p.server.Close()
	}
	if p.disk != nil {
		err = errors.Join(err, p.disk.close())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *postgres) faults(c *crash) []fault {
	stop := func(context.Context) error { return p.server.Stop() }
	start := func(context.Context) error { return p.server.Start() }
	all := []fault{
		{name: "database paused", long: longFault, inject: func(context.Context) error { return p.server.Pause() }, repair: func(context.Context) error { return p.server.Resume() }},
		{name: "database stopped", long: longFault, inject: stop, repair: start},
		{name: "database restarted", repair: noop, inject: func(ctx context.Context) error { return errors.Join(stop(ctx), start(ctx)) }},
		{
			name:   "database stopped and data disk full",
			inject: func(ctx context.Context) error { return errors.Join(stop(ctx), c.fill(ctx)) },
			repair: func(ctx context.Context) error { return errors.Join(c.free(ctx), start(ctx)) },
		},
	}
	if p.disk.mounted {
		all = append(all, fault{
			name: "database full", long: longFault, inject: p.disk.fill,
			repair: func(ctx context.Context) error { // PostgreSQL exits if it cannot write its WAL
				return errors.Join(p.disk.grow(ctx), stop(ctx), start(ctx))
			},
		})
	}
	return all
}
