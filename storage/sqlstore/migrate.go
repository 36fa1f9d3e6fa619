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

// migrate applies what is missing of the schema. A schema that is ahead of this
// program is left alone. Of several starters on one PostgreSQL one migrates and
// the others wait.
func (db *database) migrate(ctx context.Context, logger *slog.Logger) error {
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)} // that one belongs to the whole process
	if db.dialect.sessions {
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("make migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	var err error
	db.schema, err = goose.NewProvider(db.dialect.goose, db.write, twins{db.dialect.name}, options...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	before, target, err := db.schema.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if before > target {
		return fmt.Errorf("%w: it is at %d, the program at %d", storage.ErrSchemaNewer, before, target)
	}
	if before == target {
		return nil
	}
	applied, err := db.schema.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate schema from %d to %d: %w", before, target, err)
	}
	if len(applied) > 0 { // else another starter was first
		logger.InfoContext(ctx, "database schema migrated", slog.Int64("from", before), slog.Int64("to", target))
	}
	return nil
}

// twins shows the migrations of one dialect: those for all, called
// 00002_name.sql, and its own, called 00001_name.dialect.sql.
type twins struct{ dialect string }

// Open opens a migration by the name that ReadDir gave it.
func (t twins) Open(name string) (fs.File, error) {
	if name == "." {
		return migrations.Open("migrations")
	}
	if file, err := migrations.Open("migrations/" + strings.TrimSuffix(name, ".sql") + "." + t.dialect + ".sql"); err == nil {
		return file, nil
	}
	return migrations.Open("migrations/" + name)
}

// Glob lists the names that match, which is what goose asks for.
func (t twins) Glob(pattern string) ([]string, error) {
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
		if matches && (len(parts) == 2 || parts[1] == t.dialect) {
			names = append(names, name)
		}
	}
	return names, nil
}
