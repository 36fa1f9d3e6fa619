// Package rejections logs the requests from Ziwo that the server rejects, with their
// reasons, so that an administrator can diagnose problems between Ziwo and the server.
package rejections

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// rejectionStore is the part of a store that Log uses.
type rejectionStore interface {
	Rejections(ctx context.Context, p storage.Page) ([]storage.Rejection, string, error)
}

// rejectionQueue queues rejections to be stored. Add never blocks.
type rejectionQueue interface {
	Add(storage.Rejection)
}

// Log logs rejected requests. It is safe for concurrent use.
type Log struct {
	store rejectionStore
	queue rejectionQueue
	now   func() time.Time
	count *prometheus.CounterVec
}

// New returns a Log that writes to queue and reads from store, and registers its metric.
func New(store rejectionStore, queue rejectionQueue, now func() time.Time, registry prometheus.Registerer) *Log {
	if store == nil || queue == nil || now == nil || registry == nil {
		panic("rejections.New: store, queue, now, and registry are required")
	}
	l := &Log{store: store, queue: queue, now: now, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_rejections_total", Help: "Ziwo requests rejected, or stored although unreadable, by reason.",
	}, []string{"reason"})}
	registry.MustRegister(l.count)
	return l
}

// Add records a rejection in the background. It sets ID and At.
func (l *Log) Add(r storage.Rejection) {
	r.ID, r.At = storage.NewID(), l.now().UTC().Truncate(time.Microsecond)
	l.queue.Add(r)
	l.count.WithLabelValues(r.Reason).Inc()
}

// View is a stored rejection.
type View struct {
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
} // @name RejectionView

// List is a page of rejections, newest first.
type List struct {
	Rejections []View `json:"rejections"`
	Next       string `json:"next"`
} // @name RejectionList

// List returns a page of rejections.
func (l *Log) List(ctx context.Context, page storage.Page) (List, error) {
	stored, next, err := l.store.Rejections(ctx, page)
	if err != nil {
		return List{}, fmt.Errorf("list rejections: %w", err)
	}
	out := List{Rejections: make([]View, len(stored)), Next: next}
	for i, r := range stored {
		out.Rejections[i] = View(r)
	}
	return out, nil
}
