package main

import (
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/jobs"
	"calltracker/server/datadir"
	"calltracker/storage/recordings/s3test"
	"calltracker/ziwo"
	"calltracker/ziwo/ziwotest"
)

// jobOf waits until the job of a kind and key is in a state, with an error that
// holds some words.
func (h *harness) jobOf(kind, key, state, words string) jobs.View {
	h.t.Helper()
	var found jobs.View
	eventually(h.t, fmt.Sprintf("a job %s of %s that is %s (%s)", kind, key, state, words), func() bool {
		for _, j := range into[jobs.Page](h.t, h.get("/api/v1/jobs?limit=1000&kind="+kind).want(h.t, 200)).Jobs {
			if j.Key == key {
				found = j
			}
		}
		return found.State == state && strings.Contains(found.Error, words)
	})
	return found
}

func (h *harness) retry(job string) {
	h.t.Helper()
	h.do(request{method: "POST", path: "/api/v1/jobs/" + job + "/retry", admin: true}).want(h.t, 200)
}

// copies are the files of recordings in the data directory.
func (h *harness) copies() []string {
	h.t.Helper()
	var found []string
	root := filepath.Join(h.dir, datadir.RecordingsFolder)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() != "id" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}

// servesCopy holds that a recording comes although Ziwo does not answer.
func (r *reconciled) servesCopy(id string, call ziwotest.Call) {
	r.t.Helper()
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500})
	defer r.ziwo.ClearFaults()
	sound := string(ziwotest.Audio(call))
	size := strconv.Itoa(len(sound))
	whole := r.recording(id).want(r.t, 200)
	tag := whole.header.Get("ETag")
	if whole.body != sound || whole.header.Get("Content-Type") != "audio/mpeg" || whole.header.Get("Content-Length") != size || tag == "" {
		r.t.Errorf("%d bytes, %v", len(whole.body), whole.header)
	}
	part := r.recording(id, "Range", "bytes=10-19", "If-Range", tag).want(r.t, 206)
	if part.body != sound[10:20] || part.header.Get("Content-Range") != "bytes 10-19/"+size {
		r.t.Errorf("%q, %v", part.body, part.header)
	}
	if r.recording(id, "Range", "bytes=-5").want(r.t, 206).body != sound[len(sound)-5:] {
		r.t.Error("the end is another")
	}
	if r.recording(id, "Range", "bytes=0-4", "If-Range", `"another"`).want(r.t, 200).body != sound {
		r.t.Error("a part of another recording is sent")
	}
	if outside := r.recording(id, "Range", "bytes="+size+"-").want(r.t, 416); outside.header.Get("Content-Range") != "bytes */"+size {
		r.t.Errorf("%v", outside.header)
	}
	if head := r.head(id).want(r.t, 200); head.header.Get("Content-Length") != size {
		r.t.Errorf("HEAD: %v", head.header)
	}
}

func TestRecordingsAreKeptInTheDataDirectory(t *testing.T) {
	r := withRecordings(t, "{styles: [surveillance], keep: data_directory}")
	id, call := r.heard("kept", time.Minute, nil)
	r.jobOf("recording", id, "done", "")
	asked := r.ziwo.Requests("GET /surveillance/recordings/{file}")
	r.servesCopy(id, call)
	if n := r.ziwo.Requests("GET /surveillance/recordings/{file}"); n != asked {
		t.Errorf("Ziwo was asked %d more times", n-asked)
	}
	files := r.copies()
	if len(files) != 1 || filepath.Base(files[0]) != id+".mp3" {
		t.Fatalf("files %v", files)
	}
	// Without the file, Ziwo's is as good.
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if r.recording(id).want(t, 200).body != string(ziwotest.Audio(call)) {
		t.Error("it is another")
	}
	r.secretless()
}

func TestRecordingsAreKeptInABucket(t *testing.T) {
	store := &s3test.Store{Bucket: "acme-calls", AccessKey: "access-key-1"}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	r := withRecordings(t, fmt.Sprintf("{styles: [signed_url], keep: s3, s3: {endpoint: %q, bucket: acme-calls, prefix: calls/, access_key: access-key-1, secret_key: s3-secret-1}}", server.URL))
	store.SetUnavailable(true)
	id, call := r.heard("kept", time.Minute, nil)
	job := r.jobOf("recording", id, "waiting", "bucket")
	if job.Attempts != 0 {
		t.Errorf("a bucket that is away counts: %+v", job)
	}
	store.SetUnavailable(false)
	r.retry(job.ID)
	r.jobOf("recording", id, "done", "")
	if objects := store.Objects(); len(objects) != 1 || objects[0] != "calls/"+id+".mp3" {
		t.Fatalf("objects %v", objects)
	}
	r.servesCopy(id, call)
	store.SetUnavailable(true)
	if r.recording(id).want(t, 200).body != string(ziwotest.Audio(call)) {
		t.Error("without the bucket, Ziwo's is another")
	}
	if len(r.copies()) > 0 {
		t.Errorf("files are left: %v", r.copies())
	}
	if strings.Contains(r.log.String(), "s3-secret-1") {
		t.Error("the log holds the secret key")
	}
}

// A late recording is waited for; one that never was is not.
func TestKeepingWaitsForLateRecordings(t *testing.T) {
	r := withRecordings(t, "{keep: data_directory}")
	late := func(c *ziwotest.Call) { c.RecordedAt = time.Now().Add(time.Hour) }
	id, call := r.heard("late", time.Minute, late)
	job := r.jobOf("recording", id, "waiting", "not available yet")
	if wait := time.Until(job.RunAt); job.Attempts != 0 || wait > 2*time.Minute {
		t.Errorf("%+v", job)
	}
	never, _ := r.heard("never", 25*time.Hour, late)
	dead := r.jobOf("recording", never, "dead", "none is expected")
	unanswered, _ := r.heard("unanswered", time.Minute, func(c *ziwotest.Call) { c.AnsweredAt, c.Result, c.RecordingFile = time.Time{}, "missed", "" })
	r.ziwo.SetNow(time.Now().Add(2 * time.Hour))
	r.retry(job.ID)
	r.jobOf("recording", id, "done", "")
	r.servesCopy(id, call)
	r.retry(dead.ID)
	r.jobOf("recording", never, "done", "")
	for _, j := range into[jobs.Page](t, r.get("/api/v1/jobs?kind=recording").want(t, 200)).Jobs {
		if j.Key == unanswered {
			t.Errorf("a call without a recording has the job %+v", j)
		}
	}
}

func TestOldCopiesAreDeleted(t *testing.T) {
	store := &s3test.Store{Bucket: "acme-calls", AccessKey: "access-key-1"}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	bucket := fmt.Sprintf("s3: {endpoint: %q, bucket: acme-calls, access_key: access-key-1, secret_key: s3-secret-1}", server.URL)
	r := withRecordings(t, "{keep: data_directory, days: 30}")
	young, youngCall := r.heard("young", time.Hour, nil)
	old, _ := r.heard("old", 20*24*time.Hour, nil)
	ancient, _ := r.heard("ancient", 40*24*time.Hour, nil)
	r.jobOf("recording", young, "done", "")
	r.jobOf("recording", old, "done", "")
	r.jobOf("recording", ancient, "done", "")
	if files := r.copies(); len(files) != 2 {
		t.Errorf("files %v; what is too old is not kept at all", files)
	}
	r.recordings("{keep: s3, days: 30, " + bucket + "}")
	inBucket, _ := r.heard("in-bucket", 21*24*time.Hour, nil)
	r.jobOf("recording", inBucket, "done", "")
	if len(store.Objects()) != 1 {
		t.Fatalf("objects %v", store.Objects())
	}

	forget := func(state string) {
		t.Helper()
		if err := r.parts.recordings.Schedule(t.Context()); err != nil {
			t.Fatal(err)
		}
		day := time.Now().UTC().Format(time.DateOnly)
		r.retry(r.jobOf("forget_recordings", day, "done", "").ID)
		r.jobOf("forget_recordings", day, state, "")
	}
	forget("done")
	if len(r.copies()) != 2 || len(store.Objects()) != 1 {
		t.Errorf("what is kept for 30 days is gone: %v, %v", r.copies(), store.Objects())
	}
	r.recordings("{keep: s3, days: 10, " + bucket + "}")
	forget("done")
	eventually(t, "deleting the old copies", func() bool { return len(r.copies()) == 1 && len(store.Objects()) == 0 })
	r.servesCopy(young, youngCall)

	// The voice goes with who called.
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	document := strings.Replace(documentFor(r.ziwo, api), "webhook_keys: [hook-key-1]}", "webhook_keys: [hook-key-1], recordings: {keep: data_directory}}", 1)
	gone, _ := r.heard("gone", 9*24*time.Hour, nil)
	r.jobOf("recording", gone, "done", "")
	r.do(request{method: "PUT", path: "/api/v1/config", body: document + "retention: {personal_days: 5}\n", admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 200)
	forget("waiting") // the bucket is named no more
	if len(store.Objects()) != 1 || len(r.copies()) != 1 {
		t.Errorf("objects %v, files %v", store.Objects(), r.copies())
	}
	r.jobOf("forget_recordings", time.Now().UTC().Format(time.DateOnly), "waiting", "unknown store")
}

func TestStylesAreThoseOfTheClient(t *testing.T) {
	for _, style := range ziwo.RecordingStyles() {
		_, _, problems := config.Load([]byte("contact_centers: {a: {recordings: {styles: ["+string(style)+"]}}}\n"+
			"trackers: {t: {keys: {start: open, end: open}, routes: [{id: all, voicemail: true}]}}\n"), config.YAML, nil)
		if len(problems.Errors()) > 0 {
			t.Errorf("%s: %v", style, problems.Errors())
		}
	}
	if config.RecordingSurveillance != config.RecordingStyle(ziwo.RecordingSurveillance) || config.RecordingSignedURL != config.RecordingStyle(ziwo.RecordingSignedURL) ||
		config.RecordingHistory != config.RecordingStyle(ziwo.RecordingHistory) || config.RecordingStatic != config.RecordingStyle(ziwo.RecordingStatic) {
		t.Error("the document and the client call a style by different names")
	}
}
