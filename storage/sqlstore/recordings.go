package sqlstore

import (
	"context"

	"gorm.io/gorm/clause"

	"calltracker/storage"
)

// recordingRow is a row of recordings.
type recordingRow struct {
	OfCall        string `gorm:"column:of_call;primaryKey"`
	ContactCenter string `gorm:"column:contact_center"`
	AtUS          int64  `gorm:"column:at_us"`
	Place         string `gorm:"column:place"`
	Name          string `gorm:"column:name"`
	SHA256        string `gorm:"column:sha256"`
	Bytes         int64  `gorm:"column:bytes"`
	ContentType   string `gorm:"column:content_type"`
	KeptUS        int64  `gorm:"column:kept_us"`
}

func (recordingRow) TableName() string { return "recordings" }

func (r recordingRow) recording() storage.Recording {
	return storage.Recording{
		Call: r.OfCall, ContactCenter: r.ContactCenter, At: instant(r.AtUS), Place: r.Place, Name: r.Name,
		SHA256: r.SHA256, Bytes: r.Bytes, ContentType: r.ContentType, CopiedAt: instant(r.KeptUS),
	}
}

// SaveRecording stores the record of a recording copy. It replaces the record of an
// earlier copy of the same call.
func (s *Store) SaveRecording(ctx context.Context, r storage.Recording) error {
	row := recordingRow{
		OfCall: indexText(r.Call), ContactCenter: indexText(r.ContactCenter), AtUS: micros(r.At), Place: cleanText(r.Place), Name: cleanText(r.Name),
		SHA256: cleanText(r.SHA256), Bytes: r.Bytes, ContentType: cleanText(r.ContentType), KeptUS: micros(r.CopiedAt),
	}
	return s.do("save recording of call "+r.Call, func(db *database) error {
		return db.writeGorm.WithContext(ctx).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "of_call"}}, UpdateAll: true}).Create(&row).Error
	})
}

// Recording returns the record of a call's recording copy. It returns
// storage.ErrNotFound if there is none.
func (s *Store) Recording(ctx context.Context, call string) (r storage.Recording, err error) {
	err = s.do("load recording of call "+call, func(db *database) error {
		var rows []recordingRow
		if err := db.readGorm.WithContext(ctx).Where("of_call = ?", cleanText(call)).Limit(1).Find(&rows).Error; err != nil {
			return err
		}
		if len(rows) == 0 {
			return storage.ErrNotFound
		}
		r = rows[0].recording()
		return nil
	})
	return r, err
}

// OldRecordings returns the recording copies that match the filter, oldest first.
func (s *Store) OldRecordings(ctx context.Context, f storage.RecordingFilter) (old []storage.Recording, err error) {
	err = s.do("list old recordings", func(db *database) error {
		q := db.readGorm.WithContext(ctx).Where("at_us < ?", micros(f.Before))
		if f.ContactCenter != "" {
			q = q.Where("contact_center = ?", indexText(f.ContactCenter))
		}
		if f.After.Call != "" {
			q = q.Where("(at_us, of_call) > (?, ?)", micros(f.After.At), cleanText(f.After.Call))
		}
		var rows []recordingRow
		if err := q.Order("at_us, of_call").Limit(pageSize(f.Limit)).Find(&rows).Error; err != nil {
			return err
		}
		for _, row := range rows {
			old = append(old, row.recording())
		}
		return nil
	})
	return old, err
}

// DeleteRecording deletes the record of a call's recording copy, if there is one.
func (s *Store) DeleteRecording(ctx context.Context, call string) error {
	return s.do("delete recording of call "+call, func(db *database) error {
		return db.writeGorm.WithContext(ctx).Where("of_call = ?", cleanText(call)).Delete(&recordingRow{}).Error
	})
}
