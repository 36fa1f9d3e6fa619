package handlers

import (
	"context"
	"fmt"
	"time"

	"calltracker/storage"
)

// rejectionStore is what Rejections needs of a store.
type rejectionStore interface {
	RecordRejections(ctx context.Context, rejections []storage.Rejection) error
	Rejections(ctx context.Context, p storage.Page) ([]storage.Rejection, string, error)
}

// Rejections remembers what was refused, and why: the first thing to look at
// when Ziwo and this server do not understand each other.
type Rejections struct {
	Store   rejectionStore
	Queue   *Queue[storage.Rejection]
	Metrics *Metrics
	Now     func() time.Time
}

// Add records a rejection in the background; its ID and At are filled in.
func (h *Rejections) Add(r storage.Rejection) {
	r.ID, r.At = newID(), h.Now().UTC().Truncate(time.Microsecond)
	h.Queue.Add(r)
	h.Metrics.rejections.WithLabelValues(r.Reason).Inc()
}

// RejectionView is a rejection as it is shown.
type RejectionView struct {
	ID          string    `json:"id"`
	At          time.Time `json:"at" format:"date-time"`
	Method      string    `json:"method" example:"POST"`
	Path        string    `json:"path" example:"/callTrackers/sales/startCall"`
	Tracker     string    `json:"tracker" example:"sales"`
	Address     string    `json:"address" example:"203.0.113.7"`
	Status      int       `json:"status" example:"401"`
	Reason      string    `json:"reason" example:"wrong_key"`
	Message     string    `json:"message"`
	ContentType string    `json:"contentType"`
	UserAgent   string    `json:"userAgent"`
	Bytes       int64     `json:"bytes"` // of the body, as far as it was read
}

// RejectionList is a page of rejections, newest first.
type RejectionList struct {
	Rejections []RejectionView `json:"rejections"`
	Next       string          `json:"next"`
}

// List returns a page of rejections.
//
//	@Summary	Refused and unreadable requests of Ziwo, with reasons
//	@ID		listRejections
//	@Tags		calls
//	@Produce	json
//	@Param		cursor	query		string	false	"From the page before"
//	@Param		limit	query		int		false	"1 to 1000, 50 by default"
//	@Success	200		{object}	RejectionList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/rejections [get]
func (h *Rejections) List(ctx context.Context, page storage.Page) (RejectionList, error) {
	stored, next, err := h.Store.Rejections(ctx, page)
	if err != nil {
		return RejectionList{}, fmt.Errorf("list rejections: %w", err)
	}
	out := RejectionList{Rejections: make([]RejectionView, len(stored)), Next: next}
	for i, r := range stored {
		out.Rejections[i] = RejectionView(r)
	}
	return out, nil
}
