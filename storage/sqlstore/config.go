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

// SaveConfig stores a document as the next version and returns it with its version
// number. It ignores v.Version. expected is the version on which the document is
// based, or 0 if there was none. If it is not the newest version, SaveConfig returns
// storage.ErrConflict. A negative expected skips that check.
func (s *Store) SaveConfig(ctx context.Context, v storage.ConfigVersion, expected int64) (storage.ConfigVersion, error) {
	row := configRow{
		AtUS: micros(v.At), Author: cleanText(v.Author), Comment: cleanText(v.Comment), Format: cleanText(v.Format), Document: cleanText(v.Document),
	}
	err := s.do("save configuration", func(db *database) error {
		for {
			err := db.changeConfig(ctx, func(tx *gorm.DB) error {
				var newest int64
				if err := tx.Model(&configRow{}).Select("COALESCE(MAX(version), 0)").Scan(&newest).Error; err != nil {
					return err
				}
				if expected >= 0 && expected != newest {
					return fmt.Errorf("%w: the newest version is %d, not %d", storage.ErrConflict, newest, expected)
				}
				row.Version = newest + 1
				return tx.Create(&row).Error
			})
			// A concurrent transaction has used the number. The next attempt
			// sees it.
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

// ActiveConfig returns the newest version. It returns storage.ErrNotFound if there is
// none.
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

// ConfigVersion returns version n. It returns storage.ErrNotFound if the version does
// not exist.
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

// ConfigVersions returns a page of versions without their documents, newest first,
// and the cursor of the next page, which is empty on the last page. It returns
// storage.ErrBadCursor for an invalid cursor.
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
		rows, next = trimPage(configVersions, rows, size, func(r configRow) cursor { return cursor{at: r.Version} })
		for _, row := range rows {
			versions = append(versions, row.configVersion())
		}
		return nil
	})
	return versions, next, err
}

// ConfigChangeToken returns a token that changes whenever a configuration or a secret
// is stored or deleted. It is cheap to call.
func (s *Store) ConfigChangeToken(ctx context.Context) (token string, err error) {
	err = s.do("load configuration change token", func(db *database) error {
		var version, secrets, updated int64
		err := db.read.QueryRowContext(ctx, `SELECT (SELECT COALESCE(MAX(version), 0) FROM config_versions),
			(SELECT COUNT(*) FROM secrets), (SELECT COALESCE(MAX(updated_us), 0) FROM secrets)`).Scan(&version, &secrets, &updated)
		token = fmt.Sprintf("%d/%d/%d", version, secrets, updated)
		return err
	})
	return token, err
}
