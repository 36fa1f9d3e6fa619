package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"calltracker/storage"
)

// configRow is a row of config_versions.
type configRow struct {
	Version  int64  `gorm:"column:version;primaryKey;autoIncrement:false"`
	AtUS     int64  `gorm:"column:at_us"`
	Author   string `gorm:"column:author"`
	Comment  string `gorm:"column:comment"`
	Format   string `gorm:"column:format"`
	Document string `gorm:"column:document"`
}

func (configRow) TableName() string { return "config_versions" }

func (r configRow) configVersion() storage.ConfigVersion {
	return storage.ConfigVersion{
		Version: r.Version, At: instant(r.AtUS), Author: r.Author, Comment: r.Comment, Format: r.Format, Document: r.Document,
	}
}

// SaveConfig stores a document as the next version and returns it with its
// number; the Version that came with it does not count. Expected is the version
// that the document was made from, 0 when there was none: it returns
// storage.ErrConflict when that is not the newest any more. A negative expected
// takes whatever is there.
func (s *Store) SaveConfig(ctx context.Context, v storage.ConfigVersion, expected int64) (storage.ConfigVersion, error) {
	row := configRow{
		AtUS: micros(v.At), Author: text(v.Author), Comment: text(v.Comment), Format: text(v.Format), Document: text(v.Document),
	}
	err := s.do("save configuration", func(db *database) error {
		for {
			err := db.changeConfig(ctx, func(tx *gorm.DB) error {
				var newest int64
				if err := tx.Model(&configRow{}).Select("COALESCE(MAX(version), 0)").Scan(&newest).Error; err != nil {
					return err
				}
				if expected >= 0 && expected != newest {
					return fmt.Errorf("%w: version %d is the newest, not %d", storage.ErrConflict, newest, expected)
				}
				row.Version = newest + 1
				return tx.Create(&row).Error
			})
			// Where transactions run side by side, another took the number
			// first; the next look finds it there.
			if !errors.Is(err, gorm.ErrDuplicatedKey) {
				return err
			}
		}
	})
	if err != nil {
		return storage.ConfigVersion{}, err
	}
	return row.configVersion(), nil
}

// ActiveConfig is the newest version. It returns storage.ErrNotFound when there
// is none.
func (s *Store) ActiveConfig(ctx context.Context) (v storage.ConfigVersion, err error) {
	err = s.do("load active configuration", func(db *database) error {
		var row configRow
		if err := db.readGorm.WithContext(ctx).Order("version DESC").Take(&row).Error; err != nil {
			return err
		}
		v = row.configVersion()
		return nil
	})
	return v, err
}

// ConfigVersion is version n. It returns storage.ErrNotFound.
func (s *Store) ConfigVersion(ctx context.Context, n int64) (v storage.ConfigVersion, err error) {
	err = s.do(fmt.Sprintf("load configuration %d", n), func(db *database) error {
		var row configRow
		if err := db.readGorm.WithContext(ctx).Where("version = ?", n).Take(&row).Error; err != nil {
			return err
		}
		v = row.configVersion()
		return nil
	})
	return v, err
}

// ConfigVersions lists versions without their documents, newest first, and the
// cursor of the next page, empty on the last. It returns storage.ErrBadCursor
// for a cursor that is not its own.
func (s *Store) ConfigVersions(ctx context.Context, p storage.Page) (versions []storage.ConfigVersion, next string, err error) {
	err = s.do("list configurations", func(db *database) error {
		after, err := decodeCursor(configVersions, p.Cursor)
		if err != nil {
			return err
		}
		size := pageSize(p.Limit)
		q := db.readGorm.WithContext(ctx).Select("version", "at_us", "author", "comment", "format")
		if after != nil {
			q = q.Where("version < ?", after.at)
		}
		var rows []configRow
		if err := q.Order("version DESC").Limit(size + 1).Find(&rows).Error; err != nil {
			return err
		}
		rows, next = cut(configVersions, rows, size, func(r configRow) cursor { return cursor{at: r.Version} })
		for _, row := range rows {
			versions = append(versions, row.configVersion())
		}
		return nil
	})
	return versions, next, err
}

// ConfigChangeToken changes whenever a configuration or a secret is stored or deleted.
// It is cheap to ask for.
func (s *Store) ConfigChangeToken(ctx context.Context) (mark string, err error) {
	err = s.do("look at configuration", func(db *database) error {
		var version, secrets, updated int64
		err := db.read.QueryRowContext(ctx, `SELECT (SELECT COALESCE(MAX(version), 0) FROM config_versions),
			(SELECT COUNT(*) FROM secrets), (SELECT COALESCE(MAX(updated_us), 0) FROM secrets)`).Scan(&version, &secrets, &updated)
		mark = fmt.Sprintf("%d/%d/%d", version, secrets, updated)
		return err
	})
	return mark, err
}
