package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"calltracker/config"
	"calltracker/jobs"
	"calltracker/storage"
	"calltracker/ziwo"
)

// RecordingPlace keeps copies of recordings.
type RecordingPlace interface {
	// Name tells the place from others, for good.
	Name() string
	// Put stores content, all of it or nothing, and replaces an earlier content of
	// that name. It returns the name under which Open and Delete find it, its size
	// and its hexadecimal SHA-256 digest.
	Put(ctx context.Context, name, contentType string, content io.Reader) (stored string, size int64, digest string, err error)
	// Open reads length bytes, starting at an offset. The error wraps fs.ErrNotExist
	// if there is no such content, or if its size is not size.
	Open(ctx context.Context, stored string, size, offset, length int64) (io.ReadCloser, error)
	// Delete deletes stored content. It returns nil if there is none.
	Delete(ctx context.Context, stored string) error
}

// knownBucket is a bucket of the configuration, and the place that it is.
type knownBucket struct {
	settings config.Bucket
	place    RecordingPlace
}

// Keeping recordings.
const (
	keepKind     = "recording"
	keepTimeout  = 3 * time.Minute // of one try: 30 MB at 1.4 Mbit/s
	keepPriority = -1              // after everything else
	keepLater    = 5 * time.Minute // while a place does not take it
)

// Jobs are the jobs that a call causes: to keep its recording.
func (h *Recordings) Jobs(c storage.Call) []storage.NewJob {
	if c.RecordingFile == "" || c.CallID == "" || h.settings(c.ContactCenter).Keep == "" {
		return nil
	}
	// One that is dead because there was no recording has another chance.
	return []storage.NewJob{{Kind: keepKind, Priority: keepPriority, Again: true}}
}

// Kind returns the kind of the jobs that copy recordings. Attempts do not count while
// Ziwo is unavailable or does not have the recording yet. The job is dead if there is no
// recording.
func (h *Recordings) Kind() jobs.Kind {
	return jobs.Kind{Name: keepKind, Run: h.keep, Timeout: keepTimeout, Backoff: jobs.Backoff{First: time.Minute}}
}

func (h *Recordings) keep(ctx context.Context, j storage.Job) error {
	call, revisions, err := h.Store.Call(ctx, j.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return jobs.Delay(time.Minute, err)
	}
	settings := h.settings(call.ContactCenter)
	if settings.Keep == "" || call.At().Before(h.keptSince(call.ContactCenter)) {
		return nil
	}
	if _, err := h.Store.Recording(ctx, call.ID); !errors.Is(err, storage.ErrNotFound) {
		if err != nil {
			return jobs.Delay(time.Minute, err)
		}
		return nil
	}
	place, err := h.place(settings)
	if err != nil {
		return jobs.Permanent(err)
	}
	recording, err := h.fetch(ctx, call, revisions, RecordingPart{})
	if err != nil {
		return unfetched(err)
	}
	body := &noted{ReadCloser: recording.Body}
	stored, size, digest, err := place.Put(ctx, call.ID+extension(recording.ContentType), recording.ContentType, body)
	err = errors.Join(err, body.Close())
	switch {
	case errors.Is(err, errTooLong):
		return jobs.Permanent(err)
	case body.failed != nil || ctx.Err() != nil:
		return err
	case err != nil:
		return jobs.Delay(keepLater, err)
	}
	err = h.Store.SaveRecording(ctx, storage.Recording{
		Call: call.ID, ContactCenter: call.ContactCenter, At: call.At(),
		Place: place.Name(), Name: stored, SHA256: digest, Bytes: size,
		ContentType: recording.ContentType, CopiedAt: h.Now().UTC().Truncate(time.Microsecond),
	})
	if err != nil {
		return jobs.Delay(time.Minute, err)
	}
	return nil
}

// unfetched says what becomes of a job whose recording Ziwo did not give.
func unfetched(err error) error {
	var why *RecordingError
	if !errors.As(err, &why) {
		return err
	}
	switch {
	case why.Code == NoRecording, why.Code == CenterUnknown:
		return jobs.Permanent(err)
	case why.Code == RecordingNotYet:
		return jobs.Delay(why.RetryAfter, err)
	case why.Code == CenterAway:
		return jobs.Delay(max(why.RetryAfter, time.Minute), err)
	case ziwo.KindOf(err) == ziwo.Unauthorized: // somebody has to mend the configuration
		return jobs.Delay(mostAgain, err)
	default:
		return err
	}
}

// noted remembers that reading a body failed: then it was not the place.
type noted struct {
	io.ReadCloser
	failed error
}

func (b *noted) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = err
	}
	return n, err
}

// settings are those of a contact center in the configuration in force.
func (h *Recordings) settings(center string) config.Recordings {
	live := h.Config.Live()
	if live == nil {
		return config.Recordings{}
	}
	return live.Document.ContactCenters[center].Recordings
}

// keptSince is from when on the copies of a contact center's calls are kept: zero
// means for good. Who called goes with the recording, since it is the voice.
func (h *Recordings) keptSince(center string) time.Time {
	since := before(h.Now(), h.settings(center).Days)
	if live := h.Config.Live(); live != nil && live.Document.Retention != nil {
		if personal := before(h.Now(), live.Document.Retention.PersonalDays); personal.After(since) {
			return personal
		}
	}
	return since
}

// before is so many days before an instant; zero for no days.
func before(now time.Time, days int) time.Time {
	if days <= 0 {
		return time.Time{}
	}
	return now.UTC().AddDate(0, 0, -days)
}

// place is where recordings are kept.
func (h *Recordings) place(settings config.Recordings) (RecordingPlace, error) {
	if settings.Keep != config.InS3 {
		return h.Folder, nil
	}
	if settings.S3 == nil {
		return nil, errors.New("the configuration names no bucket")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range h.buckets {
		if known.settings == *settings.S3 {
			return known.place, nil
		}
	}
	place, err := h.OpenBucket(*settings.S3)
	if err != nil {
		return nil, err
	}
	const most = 100 // changes of a configuration that buckets are remembered for
	if len(h.buckets) >= most {
		h.buckets = nil
	}
	h.buckets = append(h.buckets, knownBucket{*settings.S3, place})
	return place, nil
}

// placeOf is where a copy is; an error when that is another server's folder, or a
// bucket that the configuration does not name any more.
func (h *Recordings) placeOf(r storage.Recording) (RecordingPlace, error) {
	if r.Place == h.Folder.Name() {
		return h.Folder, nil
	}
	if live := h.Config.Live(); live != nil {
		for _, center := range live.Document.ContactCenters {
			if center.Recordings.S3 == nil {
				continue
			}
			place, err := h.place(config.Recordings{Keep: config.InS3, S3: center.Recordings.S3})
			if err == nil && place.Name() == r.Place {
				return place, nil
			}
		}
	}
	return nil, fmt.Errorf("the copy is in a place that this server does not know: %s; name its bucket, or ask the server whose data directory it is", r.Place)
}

// copied opens the copy of a recording; storage.ErrNotFound when there is none.
func (h *Recordings) copied(ctx context.Context, call storage.Call, part RecordingPart) (*Recording, error) {
	kept, err := h.Store.Recording(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	place, err := h.placeOf(kept)
	if err != nil {
		return nil, err
	}
	out := &Recording{
		Size: kept.Bytes, ContentType: kept.ContentType, ETag: `"` + kept.SHA256 + `"`,
		LastModified: kept.CopiedAt.UTC().Format(http.TimeFormat), FileName: fileName(call, kept.ContentType),
	}
	from := int64(0)
	if wanted, ok := parseRange(part.Range); ok && (part.IfRange == "" || part.IfRange == out.ETag || part.IfRange == out.LastModified) {
		if from, out.Size, out.Partial = wanted.within(kept.Bytes); !out.Partial {
			return nil, &RecordingError{Code: NoSuchRange, Message: "the recording does not have this range", Size: kept.Bytes}
		}
		out.ContentRange = contentRange(from, out.Size, kept.Bytes)
	}
	out.Body, err = place.Open(ctx, kept.Name, kept.Bytes, from, out.Size)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Deleting copies.
const (
	uncopyKind = "forget_recordings"
	uncopyStep = 100
	uncopyTry  = 30 * time.Second // of working; then it goes on as a try of its own
)

// RetentionKind returns the kind of the jobs that delete old copies.
func (h *Recordings) RetentionKind() jobs.Kind {
	return jobs.Kind{Name: uncopyKind, Run: h.forget, Timeout: 2 * time.Minute}
}

// Schedule asks for the job of the day that deletes old copies, unless the
// configuration keeps all or none. Asking again changes nothing.
func (h *Recordings) Schedule(ctx context.Context) error {
	now, deletes := h.Now().UTC(), false
	if live := h.Config.Live(); live != nil {
		for name, center := range live.Document.ContactCenters {
			deletes = deletes || center.Recordings.Keep != "" || !h.keptSince(name).IsZero()
		}
	}
	if !deletes {
		return nil
	}
	return h.Store.AddJobs(ctx, now, []storage.NewJob{{Kind: uncopyKind, Key: now.Format(time.DateOnly)}})
}

// forget deletes the copies that are older than the configuration keeps them, and
// what downloads have left that were broken off.
func (h *Recordings) forget(ctx context.Context, _ storage.Job) error {
	start := h.Now()
	live := h.Config.Live()
	if live == nil {
		return nil
	}
	var old []storage.RecordingFilter
	doc := live.Document
	if doc.Retention != nil {
		old = append(old, storage.RecordingFilter{Before: before(start, doc.Retention.PersonalDays)})
	}
	for name, center := range doc.ContactCenters {
		old = append(old, storage.RecordingFilter{ContactCenter: name, Before: before(start, center.Recordings.Days)})
	}
	deleted, failure := 0, h.Tidy(start)
	for _, f := range old {
		f.Limit = uncopyStep
		for more := !f.Before.IsZero(); more; {
			step, err := h.Store.OldRecordings(ctx, f)
			if err != nil {
				return jobs.Delay(time.Minute, err)
			}
			for _, r := range step {
				if err := h.uncopy(ctx, r); err != nil {
					failure = err // the others are deleted all the same
					continue
				}
				deleted++
			}
			if more = len(step) == uncopyStep; more {
				f.After = step[len(step)-1]
			}
			if h.Now().Sub(start) >= uncopyTry || ctx.Err() != nil {
				return jobs.Continue(time.Second, nil)
			}
		}
	}
	if deleted > 0 {
		h.Logger.LogAttrs(ctx, slog.LevelInfo, "old copies of recordings were deleted", slog.Int("recordings", deleted))
	}
	return failure
}

// uncopy deletes the copy first, so that none is left that nobody knows of.
func (h *Recordings) uncopy(ctx context.Context, r storage.Recording) error {
	place, err := h.placeOf(r)
	if err != nil {
		return err
	}
	if err := place.Delete(ctx, r.Name); err != nil {
		return err
	}
	return h.Store.DeleteRecording(ctx, r.Call)
}
