package sqlstore

import (
	"context"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"calltracker/storage"
)

// maxRejections limits the stored rejections. Anyone who can reach the server can
// cause rejections, so their number must be bounded.
const maxRejections = 10_000

// rejectionChunk is the number of rejections in one INSERT.
const rejectionChunk = 100

// rejectionRow is a row of rejections.
type rejectionRow struct {
	ID          string `gorm:"column:id;primaryKey"`
	AtUS        int64  `gorm:"column:at_us"`
	Method      string `gorm:"column:method"`
	Path        string `gorm:"column:path"`
	Tracker     string `gorm:"column:tracker"`
	Address     string `gorm:"column:address"`
	Status      int    `gorm:"column:status"`
	Reason      string `gorm:"column:reason"`
	Message     string `gorm:"column:message"`
	ContentType string `gorm:"column:content_type"`
	UserAgent   string `gorm:"column:user_agent"`
	Bytes       int64  `gorm:"column:bytes"`
}

func (rejectionRow) TableName() string { return "rejections" }

// RecordRejections stores rejections, all or none, and deletes all but the newest
// 10,000. It ignores rejections that are already stored.
func (s *Store) RecordRejections(ctx context.Context, rejections []storage.Rejection) error {
	if len(rejections) == 0 {
		return nil
	}
	rows := make([]rejectionRow, len(rejections))
	for i, r := range rejections {
		rows[i] = rejectionRow{
			ID: indexText(r.ID), AtUS: micros(r.At), Method: cleanText(r.Method), Path: cleanText(r.Path), Tracker: cleanText(r.Tracker),
			Address: cleanText(r.Address), Status: r.Status, Reason: cleanText(r.Reason), Message: cleanText(r.Message),
			ContentType: cleanText(r.ContentType), UserAgent: cleanText(r.UserAgent), Bytes: r.Bytes,
		}
	}
	return s.do("record rejections", func(db *database) error {
		return db.writeGorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			for chunk := range slices.Chunk(rows, rejectionChunk) {
				if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&chunk).Error; err != nil {
					return err
				}
			}
			return deleteOldRows(tx, "rejections", maxRejections)
		})
	})
}

// Rejections returns a page of rejections, newest first, and the cursor of the next
// page, which is empty on the last page. It returns storage.ErrBadCursor for an
// invalid cursor.
func (s *Store) Rejections(ctx context.Context, p storage.Page) (rejections []storage.Rejection, next string, err error) {
	err = s.do("list rejections", func(db *database) error {
		after, err := decodeCursor(rejectionList, p.Cursor)
		if err != nil {
			return err
		}
		size := pageSize(p.Limit)
		var rows []rejectionRow
		if err := newestFirst(db.readGorm.WithContext(ctx), after, size+1).Find(&rows).Error; err != nil {
			return err
		}
		rows, next = trimPage(rejectionList, rows, size, func(r rejectionRow) cursor { return cursor{at: r.AtUS, id: r.ID} })
		for _, r := range rows {
			rejections = append(rejections, storage.Rejection{
				ID: r.ID, At: instant(r.AtUS), Method: r.Method, Path: r.Path, Tracker: r.Tracker, Address: r.Address,
				Status: r.Status, Reason: r.Reason, Message: r.Message, ContentType: r.ContentType,
				UserAgent: r.UserAgent, Bytes: r.Bytes,
			})
		}
		return nil
	})
	return rejections, next, err
}

// deleteOldRows deletes all rows of a table but the newest ones.
func deleteOldRows(tx *gorm.DB, table string, newest int) error {
	return tx.Exec(`DELETE FROM `+table+` WHERE (at_us, id) <
		(SELECT at_us, id FROM `+table+` ORDER BY at_us DESC, id DESC LIMIT 1 OFFSET ?)`, newest-1).Error
}
