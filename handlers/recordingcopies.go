package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"calltracker/config"
	"calltracker/storage"
	"calltracker/ziwo"
)

// RecordingPlace keeps copies of recordings.
type RecordingPlace interface {
	// Name tells the place from others, for good.
	Name() string
	// Put keeps content under a name, whole or not at all, in the place of an
	// earlier one. It tells place, name, size and digest.
	Put(ctx context.Context, name, contentType string, content io.Reader) (storage.Recording, error)
	// Open reads a part of what was kept; storage.ErrNotFound when it is gone.
	Open(ctx context.Context, r storage.Recording, from, length int64) (io.ReadCloser, error)
	// Delete deletes what was kept; that there is nothing is no error.
	Delete(ctx context.Context, r storage.Recording) error
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

// Kind is how its jobs are run. While Ziwo does not have the recording yet, or
// does not answer, tries do not count; where there never was one, the job dies.
func (h *Recordings) Kind() JobKind {
	return JobKind{Kind: keepKind, Run: h.keep, Timeout: keepTimeout, Backoff: func(tries int) time.Duration {
		return min(time.Minute<<min(tries-1, 6), time.Hour)
	}}
}

func (h *Recordings) keep(ctx context.Context, j storage.Job) error {
	call, revisions, err := h.Store.Call(ctx, j.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return Delay(time.Minute, err)
	}
	settings := h.settings(call.ContactCenter)
	if settings.Keep == "" || call.At().Before(h.keptSince(call.ContactCenter)) {
		return nil
	}
	if _, err := h.Store.Recording(ctx, call.ID); !errors.Is(err, storage.ErrNotFound) {
		if err != nil {
			return Delay(time.Minute, err)
		}
		return nil
	}
	place, err := h.place(settings)
	if err != nil {
		return Permanent(err)
	}
	recording, err := h.fetch(ctx, call, revisions, RecordingPart{})
	if err != nil {
		return unfetched(err)
	}
	body := &noted{ReadCloser: recording.Body}
	kept, err := place.Put(ctx, call.ID+extension(recording.ContentType), recording.ContentType, body)
	err = errors.Join(err, body.Close())
	switch {
	case errors.Is(err, errTooLong):
		return Permanent(err)
	case body.failed != nil || ctx.Err() != nil:
		return err
	case err != nil:
		return Delay(keepLater, err)
	}
	kept.Call, kept.ContactCenter, kept.At = call.ID, call.ContactCenter, call.At()
	kept.ContentType, kept.KeptAt = recording.ContentType, h.Now().UTC().Truncate(time.Microsecond)
	if err := h.Store.KeepRecording(ctx, kept); err != nil {
		return Delay(time.Minute, err)
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
		return Permanent(err)
	case why.Code == RecordingNotYet:
		return Delay(why.RetryAfter, err)
	case why.Code == CenterAway:
		return Delay(max(why.RetryAfter, time.Minute), err)
	case ziwo.KindOf(err) == ziwo.Unauthorized: // somebody has to mend the configuration
		return Delay(mostAgain, err)
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
	if settings.Keep != config.KeepInS3 {
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
			place, err := h.place(config.Recordings{Keep: config.KeepInS3, S3: center.Recordings.S3})
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
		LastModified: kept.KeptAt.UTC().Format(http.TimeFormat), FileName: fileName(call, kept.ContentType),
	}
	from := int64(0)
	if wanted, ok := parseRange(part.Range); ok && (part.IfRange == "" || part.IfRange == out.ETag || part.IfRange == out.LastModified) {
		if from, out.Size, out.Partial = wanted.within(kept.Bytes); !out.Partial {
			return nil, &RecordingError{Code: NoSuchRange, Message: "the recording does not have this range", Size: kept.Bytes}
		}
		out.ContentRange = contentRange(from, out.Size, kept.Bytes)
	}
	if out.Body, err = place.Open(ctx, kept, from, out.Size); err != nil {
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

// RetentionKind is how the jobs are run that delete old copies.
func (h *Recordings) RetentionKind() JobKind {
	return JobKind{Kind: uncopyKind, Run: h.forget, Timeout: 2 * time.Minute}
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
	var old []storage.OldRecordings
	doc := live.Document
	if doc.Retention != nil {
		old = append(old, storage.OldRecordings{Before: before(start, doc.Retention.PersonalDays)})
	}
	for name, center := range doc.ContactCenters {
		old = append(old, storage.OldRecordings{ContactCenter: name, Before: before(start, center.Recordings.Days)})
	}
	deleted, failure := 0, h.Tidy(start)
	for _, f := range old {
		f.Limit = uncopyStep
		for more := !f.Before.IsZero(); more; {
			step, err := h.Store.OldRecordings(ctx, f)
			if err != nil {
				return Delay(time.Minute, err)
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
				return Continue(time.Second, nil)
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
	if err := place.Delete(ctx, r); err != nil {
		return err
	}
	return h.Store.ForgetRecording(ctx, r.Call)
}
