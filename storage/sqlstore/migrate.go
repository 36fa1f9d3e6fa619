package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"calltracker/storage"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the missing migrations. It leaves a schema that is newer than this
// program unchanged. If several processes start on one PostgreSQL database, one
// migrates and the others wait.
func (db *database) migrate(ctx context.Context, logger *slog.Logger) error {
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)} // it is global to the process
	if db.dialect.shared {
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("make migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	var err error
	db.schema, err = goose.NewProvider(db.dialect.goose, db.write, dialectFS{db.dialect.name}, options...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	before, target, err := db.schema.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if before > target {
		return fmt.Errorf("%w: its version is %d, this program supports %d: start the newer program, or restore a backup from before the upgrade", storage.ErrSchemaNewer, before, target)
	}
	if before == target {
		return nil
	}
	applied, err := db.schema.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate schema from %d to %d: %w", before, target, err)
	}
	if len(applied) > 0 { // otherwise another process has migrated it
		logger.InfoContext(ctx, "database schema migrated", slog.Int64("from", before), slog.Int64("to", target))
	}
	return nil
}

// dialectFS is a file system with the migrations of one dialect: the common ones,
// named 00002_name.sql, and its own, named 00001_name.dialect.sql.
type dialectFS struct{ dialect string }

// Open opens a migration by a name that Glob returned.
func (d dialectFS) Open(name string) (fs.File, error) {
	if name == "." {
		return migrations.Open("migrations")
	}
	if file, err := migrations.Open("migrations/" + strings.TrimSuffix(name, ".sql") + "." + d.dialect + ".sql"); err == nil {
		return file, nil
	}
	return migrations.Open("migrations/" + name)
}

// Glob returns the names that match pattern. goose calls it to list the migrations.
func (d dialectFS) Glob(pattern string) ([]string, error) {
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		parts := strings.Split(entry.Name(), ".")
		name := parts[0] + ".sql"
		matches, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if matches && (len(parts) == 2 || parts[1] == d.dialect) {
			names = append(names, name)
		}
	}
	return names, nil
}
