package sqlstore

import (
	"context"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"calltracker/storage"
)

// secretRow is a row of secrets.
type secretRow struct {
	Name      string `gorm:"column:name;primaryKey"`
	Sealed    []byte `gorm:"column:sealed"`
	CreatedUS int64  `gorm:"column:created_us"`
	UpdatedUS int64  `gorm:"column:updated_us"`
}

func (secretRow) TableName() string { return "secrets" }

// PutSecret stores a sealed secret. It replaces a secret of the same name, except
// for CreatedAt.
func (s *Store) PutSecret(ctx context.Context, secret storage.Secret) error {
	name := indexText(secret.Name)
	return s.do("put secret "+name, func(db *database) error {
		return db.changeConfig(ctx, func(tx *gorm.DB) error {
			return tx.Clauses(clause.OnConflict{
				Columns:   []clause.Column{{Name: "name"}},
				DoUpdates: clause.AssignmentColumns([]string{"sealed", "updated_us"}),
			}).Create(&secretRow{
				Name: name, Sealed: slices.Concat([]byte{}, secret.Sealed),
				CreatedUS: micros(secret.CreatedAt), UpdatedUS: micros(secret.UpdatedAt),
			}).Error
		})
	})
}

// DeleteSecret deletes a secret. It returns storage.ErrNotFound if there is none.
func (s *Store) DeleteSecret(ctx context.Context, name string) error {
	name = indexText(name)
	return s.do("delete secret "+name, func(db *database) error {
		return db.changeConfig(ctx, func(tx *gorm.DB) error {
			deleted := tx.Where("name = ?", name).Delete(&secretRow{})
			if deleted.Error == nil && deleted.RowsAffected == 0 {
				return storage.ErrNotFound
			}
			return deleted.Error
		})
	})
}

// Secrets returns all secrets, sealed, sorted by name.
func (s *Store) Secrets(ctx context.Context) (secrets []storage.Secret, err error) {
	err = s.do("list secrets", func(db *database) error {
		var rows []secretRow
		if err := db.readGorm.WithContext(ctx).Order("name").Find(&rows).Error; err != nil {
			return err
		}
		for _, r := range rows {
			secrets = append(secrets, storage.Secret{
				Name: r.Name, Sealed: r.Sealed, CreatedAt: instant(r.CreatedUS), UpdatedAt: instant(r.UpdatedUS),
			})
		}
		// Sort here because databases differ in how they sort text.
		slices.SortFunc(secrets, func(a, b storage.Secret) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return secrets, err
}
