package recordings

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

// CopyStore stores copies of recordings.
type CopyStore interface {
	// Name returns a name that identifies the store permanently.
	Name() string
	// Put stores the complete content under a name, or nothing, and replaces earlier
	// content. It returns the name for Open and Delete, the size, and the hexadecimal
	// SHA-256 digest of the content.
	Put(ctx context.Context, name, contentType string, content io.Reader) (stored string, size int64, digest string, err error)
	// Open reads length bytes of a copy from an offset. The error wraps fs.ErrNotExist
	// if the copy is missing or does not have the given size.
	Open(ctx context.Context, stored string, size, offset, length int64) (io.ReadCloser, error)
	// Delete deletes a copy. Deleting a missing copy is not an error.
	Delete(ctx context.Context, stored string) error
}

// bucket is a configured bucket and its store.
type bucket struct {
	settings config.Bucket
	store    CopyStore
}

// Kind, timing, and priority of copy jobs.
const (
	copyKind       = "recording"
	copyTimeout    = 3 * time.Minute // per attempt; enough for 30 MB at 1.4 Mbit/s
	copyPriority   = -1              // after all other jobs
	copyRetryDelay = 5 * time.Minute // while the store fails
)

// Jobs returns the jobs that a call causes, which copy its recording.
func (l *Library) Jobs(c storage.Call) []storage.NewJob {
	if c.RecordingFile == "" || c.CallID == "" || l.settings(c.ContactCenter).Keep == "" {
		return nil
	}
	// Again revives a job that is dead because there was no recording yet.
	return []storage.NewJob{{Kind: copyKind, Priority: copyPriority, Again: true}}
}

// CopyKind returns the kind of copy jobs. Attempts do not count while Ziwo is unavailable
// or has no recording yet. If there will never be a recording, the job is dead.
func (l *Library) CopyKind() jobs.Kind {
	return jobs.Kind{Name: copyKind, Run: l.copyRecording, Timeout: copyTimeout, Backoff: jobs.Backoff{First: time.Minute}}
}

func (l *Library) copyRecording(ctx context.Context, j storage.Job) error {
	call, revisions, err := l.store.Call(ctx, j.Key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return jobs.Delay(time.Minute, err)
	}
	settings := l.settings(call.ContactCenter)
	if settings.Keep == "" || call.At().Before(l.deletedBefore(call.ContactCenter)) {
		return nil
	}
	if _, err := l.store.Recording(ctx, call.ID); !errors.Is(err, storage.ErrNotFound) {
		if err != nil {
			return jobs.Delay(time.Minute, err)
		}
		return nil
	}
	copies, err := l.configuredStore(settings)
	if err != nil {
		return jobs.Permanent(err)
	}
	recording, err := l.fetch(ctx, call, revisions, Part{})
	if err != nil {
		return fetchJobError(err)
	}
	body := &readErrorRecorder{ReadCloser: recording.Body}
	stored, size, digest, err := copies.Put(ctx, call.ID+extension(recording.ContentType), recording.ContentType, body)
	err = errors.Join(err, body.Close())
	switch {
	case errors.Is(err, errTooLong):
		return jobs.Permanent(err)
	case body.err != nil || ctx.Err() != nil:
		return err
	case err != nil:
		return jobs.Delay(copyRetryDelay, err)
	}
	err = l.store.SaveRecording(ctx, storage.Recording{
		Call: call.ID, ContactCenter: call.ContactCenter, At: call.At(),
		Place: copies.Name(), Name: stored, SHA256: digest, Bytes: size,
		ContentType: recording.ContentType, CopiedAt: l.now().UTC().Truncate(time.Microsecond),
	})
	if err != nil {
		return jobs.Delay(time.Minute, err)
	}
	return nil
}

// fetchJobError converts an error of fetching a recording to the result of a job.
func fetchJobError(err error) error {
	var failure *Error
	if !errors.As(err, &failure) {
		return err
	}
	switch {
	case failure.Code == NoRecording, failure.Code == ContactCenterUnknown:
		return jobs.Permanent(err)
	case failure.Code == Pending:
		return jobs.Delay(failure.RetryAfter, err)
	case failure.Code == ContactCenterUnavailable:
		return jobs.Delay(max(failure.RetryAfter, time.Minute), err)
	case ziwo.KindOf(err) == ziwo.Unauthorized: // an administrator must correct the credentials
		return jobs.Delay(maxRetry, err)
	default:
		return err
	}
}

// readErrorRecorder records a read error, to distinguish it from an error of the store.
type readErrorRecorder struct {
	io.ReadCloser
	err error
}

func (b *readErrorRecorder) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// settings returns the recording settings of a contact center.
func (l *Library) settings(contactCenter string) config.Recordings {
	snapshot := l.config.Current()
	if snapshot == nil {
		return config.Recordings{}
	}
	return snapshot.Document.ContactCenters[contactCenter].Recordings
}

// deletedBefore returns the time before which copies are deleted; zero means never. A
// recording is personal data, so the personal retention period applies too.
func (l *Library) deletedBefore(contactCenter string) time.Time {
	since := daysBefore(l.now(), l.settings(contactCenter).Days)
	if snapshot := l.config.Current(); snapshot != nil && snapshot.Document.Retention != nil {
		if personal := daysBefore(l.now(), snapshot.Document.Retention.PersonalDays); personal.After(since) {
			return personal
		}
	}
	return since
}

// daysBefore returns the time the given number of days earlier; zero for no days.
func daysBefore(now time.Time, days int) time.Time {
	if days <= 0 {
		return time.Time{}
	}
	return now.UTC().AddDate(0, 0, -days)
}

// configuredStore returns the store to which a contact center with these settings
// copies its recordings.
func (l *Library) configuredStore(settings config.Recordings) (CopyStore, error) {
	if settings.Keep != config.KeepInS3 {
		return l.local, nil
	}
	if settings.S3 == nil {
		return nil, errors.New("recordings.s3 is not configured")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, known := range l.buckets {
		if known.settings == *settings.S3 {
			return known.store, nil
		}
	}
	store, err := l.openBucket(*settings.S3)
	if err != nil {
		return nil, err
	}
	const maxOpenBuckets = 100 // limit after many configuration changes
	if len(l.buckets) >= maxOpenBuckets {
		l.buckets = nil
	}
	l.buckets = append(l.buckets, bucket{*settings.S3, store})
	return store, nil
}

// storeOfCopy returns the store that has a copy. It fails if the copy is in another
// server's data directory or in a bucket that is no longer configured.
func (l *Library) storeOfCopy(r storage.Recording) (CopyStore, error) {
	if r.Place == l.local.Name() {
		return l.local, nil
	}
	if snapshot := l.config.Current(); snapshot != nil {
		for _, center := range snapshot.Document.ContactCenters {
			if center.Recordings.S3 == nil {
				continue
			}
			store, err := l.configuredStore(config.Recordings{Keep: config.KeepInS3, S3: center.Recordings.S3})
			if err == nil && store.Name() == r.Place {
				return store, nil
			}
		}
	}
	return nil, fmt.Errorf("the copy is in an unknown store %q: configure its bucket, or use the server that has the data directory", r.Place)
}

// openCopy opens the copy of a recording. It returns storage.ErrNotFound if there is
// none.
func (l *Library) openCopy(ctx context.Context, call storage.Call, part Part) (*Recording, error) {
	copied, err := l.store.Recording(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	copies, err := l.storeOfCopy(copied)
	if err != nil {
		return nil, err
	}
	out := &Recording{
		Size: copied.Bytes, ContentType: copied.ContentType, ETag: `"` + copied.SHA256 + `"`,
		LastModified: copied.CopiedAt.UTC().Format(http.TimeFormat), FileName: fileName(call, copied.ContentType),
	}
	from := int64(0)
	if wanted, ok := parseRange(part.Range); ok && (part.IfRange == "" || part.IfRange == out.ETag || part.IfRange == out.LastModified) {
		if from, out.Size, out.Partial = wanted.within(copied.Bytes); !out.Partial {
			return nil, &Error{Code: RangeNotSatisfiable, Message: "the recording does not have this range", Size: copied.Bytes}
		}
		out.ContentRange = contentRange(from, out.Size, copied.Bytes)
	}
	out.Body, err = copies.Open(ctx, copied.Name, copied.Bytes, from, out.Size)
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
	deleteCopiesKind = "forget_recordings"
	deleteBatch      = 100
	deleteBudget     = 30 * time.Second // working time of an attempt; the work continues in the next attempt
)

// RetentionKind returns the kind of jobs that delete old copies.
func (l *Library) RetentionKind() jobs.Kind {
	return jobs.Kind{Name: deleteCopiesKind, Run: l.deleteOldCopies, Timeout: 2 * time.Minute}
}

// Schedule adds the job of the day that deletes old copies, unless no copies are
// configured or all are kept. It is idempotent.
func (l *Library) Schedule(ctx context.Context) error {
	now, deletes := l.now().UTC(), false
	if snapshot := l.config.Current(); snapshot != nil {
		for name, center := range snapshot.Document.ContactCenters {
			deletes = deletes || center.Recordings.Keep != "" || !l.deletedBefore(name).IsZero()
		}
	}
	if !deletes {
		return nil
	}
	return l.store.AddJobs(ctx, now, []storage.NewJob{{Kind: deleteCopiesKind, Key: now.Format(time.DateOnly)}})
}

// deleteOldCopies deletes copies beyond their retention period and the remains of
// interrupted downloads.
func (l *Library) deleteOldCopies(ctx context.Context, _ storage.Job) error {
	start := l.now()
	snapshot := l.config.Current()
	if snapshot == nil {
		return nil
	}
	var old []storage.RecordingFilter
	doc := snapshot.Document
	if doc.Retention != nil {
		old = append(old, storage.RecordingFilter{Before: daysBefore(start, doc.Retention.PersonalDays)})
	}
	for name, center := range doc.ContactCenters {
		old = append(old, storage.RecordingFilter{ContactCenter: name, Before: daysBefore(start, center.Recordings.Days)})
	}
	deleted, lastErr := 0, l.tidy(start)
	for _, f := range old {
		f.Limit = deleteBatch
		for more := !f.Before.IsZero(); more; {
			batch, err := l.store.OldRecordings(ctx, f)
			if err != nil {
				return jobs.Delay(time.Minute, err)
			}
			for _, r := range batch {
				if err := l.deleteCopy(ctx, r); err != nil {
					lastErr = err // delete the other copies anyway
					continue
				}
				deleted++
			}
			if more = len(batch) == deleteBatch; more {
				f.After = batch[len(batch)-1]
			}
			if l.now().Sub(start) >= deleteBudget || ctx.Err() != nil {
				return jobs.Continue(time.Second, nil)
			}
		}
	}
	if deleted > 0 {
		l.logger.LogAttrs(ctx, slog.LevelInfo, "old recording copies deleted", slog.Int("recordings", deleted))
	}
	return lastErr
}

// deleteCopy deletes the copy before its record, so that no unrecorded copy remains.
func (l *Library) deleteCopy(ctx context.Context, r storage.Recording) error {
	copies, err := l.storeOfCopy(r)
	if err != nil {
		return err
	}
	if err := copies.Delete(ctx, r.Name); err != nil {
		return err
	}
	return l.store.DeleteRecording(ctx, r.Call)
}
