package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"calltracker/storage"
)

// maxReconciliations limits the stored reconciliations. It covers a few weeks of one
// every few minutes.
const maxReconciliations = 10_000

// reconciliationRow is a row of reconciliations.
type reconciliationRow struct {
	ID            string `gorm:"column:id;primaryKey"`
	AtUS          int64  `gorm:"column:at_us"`
	EndedUS       int64  `gorm:"column:ended_us"`
	ContactCenter string `gorm:"column:contact_center"`
	CausedBy      string `gorm:"column:caused_by"`
	FromUS        int64  `gorm:"column:from_us"`
	ToUS          int64  `gorm:"column:to_us"`
	ReachedUS     int64  `gorm:"column:reached_us"`
	State         string `gorm:"column:state"`
	Error         string `gorm:"column:error"`
	Notes         string `gorm:"column:notes"`
	Figures       string `gorm:"column:figures"`
}

func (reconciliationRow) TableName() string { return "reconciliations" }

// RecordReconciliation stores a reconciliation and deletes all but the newest
// 10,000. It ignores a reconciliation that is already stored.
func (s *Store) RecordReconciliation(ctx context.Context, r storage.Reconciliation) error {
	figures, err := json.Marshal(r.Counts)
	if err != nil {
		return fmt.Errorf("record reconciliation: %w", err)
	}
	notes, err := encodeList(r.Notes)
	if err != nil {
		return fmt.Errorf("record reconciliation: %w", err)
	}
	row := reconciliationRow{
		ID: indexText(r.ID), AtUS: micros(r.StartedAt), EndedUS: micros(r.EndedAt), ContactCenter: indexText(r.ContactCenter),
		CausedBy: cleanText(string(r.Trigger)), FromUS: micros(r.From), ToUS: micros(r.To), ReachedUS: micros(r.Reached),
		State: cleanText(string(r.State)), Error: cleanText(r.Error), Notes: notes, Figures: string(figures),
	}
	return s.do("record reconciliation", func(db *database) error {
		return db.writeGorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
				return err
			}
			return deleteOldRows(tx, "reconciliations", maxReconciliations)
		})
	})
}

// Reconciliations returns a page of reconciliations, newest first, and the cursor of
// the next page, which is empty on the last page. It returns storage.ErrBadCursor for
// an invalid cursor.
func (s *Store) Reconciliations(ctx context.Context, p storage.Page) (runs []storage.Reconciliation, next string, err error) {
	err = s.do("list reconciliations", func(db *database) error {
		after, err := decodeCursor(reconciliationList, p.Cursor)
		if err != nil {
			return err
		}
		size := pageSize(p.Limit)
		var rows []reconciliationRow
		if err := newestFirst(db.readGorm.WithContext(ctx), after, size+1).Find(&rows).Error; err != nil {
			return err
		}
		rows, next = trimPage(reconciliationList, rows, size, func(r reconciliationRow) cursor { return cursor{at: r.AtUS, id: r.ID} })
		for _, row := range rows {
			r, err := row.reconciliation()
			if err != nil {
				return err
			}
			runs = append(runs, r)
		}
		return nil
	})
	return runs, next, err
}

func (r reconciliationRow) reconciliation() (storage.Reconciliation, error) {
	out := storage.Reconciliation{
		ID: r.ID, ContactCenter: r.ContactCenter, Trigger: storage.Trigger(r.CausedBy), From: instant(r.FromUS), To: instant(r.ToUS),
		Reached: instant(r.ReachedUS), StartedAt: instant(r.AtUS), EndedAt: instant(r.EndedUS),
		State: storage.ReconciliationState(r.State), Error: r.Error,
	}
	var err error
	if out.Notes, err = decodeList[string](r.Notes); err != nil {
		return out, err
	}
	if err := json.Unmarshal([]byte(r.Figures), &out.Counts); err != nil {
		return out, fmt.Errorf("decode figures: %w", err)
	}
	return out, nil
}

// LastReconciliation describes the scheduled reconciliations of a contact center.
// reached is the latest time up to which one of them compared calls. done is when
// the latest successful one ended. Both are zero if there is none.
func (s *Store) LastReconciliation(ctx context.Context, contactCenter string) (reached, done time.Time, err error) {
	err = s.do("load last reconciliation", func(db *database) error {
		var row struct{ Reached, Done int64 }
		err := db.readGorm.WithContext(ctx).Model(&reconciliationRow{}).
			Select("COALESCE(MAX(reached_us), 0) AS reached, COALESCE(MAX(CASE WHEN state = ? THEN ended_us ELSE 0 END), 0) AS done", string(storage.ReconciliationDone)).
			Where("contact_center = ? AND caused_by = ?", indexText(contactCenter), string(storage.TriggerSchedule)).Scan(&row).Error
		reached, done = instant(row.Reached), instant(row.Done)
		return err
	})
	return reached, done, err
}

// maxKeys limits the values in one statement.
const maxKeys = 500

// CallsByKey returns the calls with any of the keys in any of the contact centers,
// in no particular order. It ignores unknown keys.
func (s *Store) CallsByKey(ctx context.Context, contactCenters, keys []string) ([]storage.Call, error) {
	var calls []storage.Call
	err := s.do("load calls by key", func(db *database) error {
		calls = calls[:0]
		callKeys := make([]string, len(keys))
		for i, k := range keys {
			callKeys[i] = callKey(k)
		}
		slices.Sort(callKeys)
		for chunk := range slices.Chunk(slices.Compact(callKeys), maxKeys) {
			rows, err := db.readGorm.WithContext(ctx).Table("calls").Select(callColumns).
				Where("call_key IN ? AND contact_center IN ?", chunk, distinct(contactCenters)).Rows()
			if err != nil {
				return err
			}
			if calls, err = appendRows(calls, rows, scanPlainCall); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return calls, nil
}

// OpenDecisions counts the decisions of the trackers in [from, to) without a known
// call, and returns the IDs of the newest ones, at most limit.
func (s *Store) OpenDecisions(ctx context.Context, trackers []string, from, to time.Time, limit int) (n int, newest []string, err error) {
	if len(trackers) == 0 {
		return 0, nil, nil
	}
	err = s.do("count open decisions", func(db *database) error {
		query := func() *gorm.DB {
			return db.readGorm.WithContext(ctx).Model(&decisionRow{}).
				Where("linked_call = '' AND at_us >= ? AND at_us < ? AND tracker IN ?", micros(from), micros(to), trackers)
		}
		var count int64
		if err := query().Count(&count).Error; err != nil {
			return err
		}
		n = int(count)
		return query().Order("at_us DESC, id DESC").Limit(limit).Pluck("id", &newest).Error
	})
	return n, newest, err
}
