package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"

	"calltracker/storage"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies what is missing of the schema. A schema that is ahead of this
// program is left alone.
func (db *database) migrate(ctx context.Context, logger *slog.Logger) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// The registry of Go migrations belongs to the whole process: not used.
	db.schema, err = goose.NewProvider(dialect, db.write, folder, goose.WithDisableGlobalRegistry(true))
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
	if _, err := db.schema.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema from %d to %d: %w", before, target, err)
	}
	logger.InfoContext(ctx, "database schema migrated", slog.Int64("from", before), slog.Int64("to", target))
	return nil
}
