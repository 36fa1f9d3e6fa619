package rejections

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// rejectionStore is the part of a store that Rejections uses.
type rejectionStore interface {
	Rejections(ctx context.Context, p storage.Page) ([]storage.Rejection, string, error)
}

// Rejections stores rejected requests with their reasons, for diagnosing problems
// between Ziwo and this server.
type Rejections struct {
	store rejectionStore
	queue rejectionQueue
	now   func() time.Time
	count *prometheus.CounterVec
}

// rejectionQueue takes rejections to be stored. Add never waits.
type rejectionQueue interface {
	Add(storage.Rejection)
}

// NewRejections returns Rejections that are stored through queue and listed from
// store, and registers their metric.
func New(store rejectionStore, queue rejectionQueue, now func() time.Time, registry prometheus.Registerer) *Rejections {
	h := &Rejections{store: store, queue: queue, now: now, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_rejections_total", Help: "Ziwo requests rejected, or stored although unreadable, by reason.",
	}, []string{"reason"})}
	registry.MustRegister(h.count)
	return h
}

// Add records a rejection in the background. It sets ID and At.
func (h *Rejections) Add(r storage.Rejection) {
	r.ID, r.At = storage.NewID(), h.now().UTC().Truncate(time.Microsecond)
	h.queue.Add(r)
	h.count.WithLabelValues(r.Reason).Inc()
}

// RejectionView is a stored rejection.
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
	Bytes       int64     `json:"bytes"` // bytes of the body that were read
}

// RejectionList is a page of rejections, newest first.
type RejectionList struct {
	Rejections []RejectionView `json:"rejections"`
	Next       string          `json:"next"`
}

// List returns a page of rejections.
func (h *Rejections) List(ctx context.Context, page storage.Page) (RejectionList, error) {
	stored, next, err := h.store.Rejections(ctx, page)
	if err != nil {
		return RejectionList{}, fmt.Errorf("list rejections: %w", err)
	}
	out := RejectionList{Rejections: make([]RejectionView, len(stored)), Next: next}
	for i, r := range stored {
		out.Rejections[i] = RejectionView(r)
	}
	return out, nil
}
