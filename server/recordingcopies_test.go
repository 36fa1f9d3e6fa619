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

// waitForJob waits until the job with a kind and key is in a state and its error
// contains a text. It returns the job.
func (h *harness) waitForJob(kind, key, state, errorText string) jobs.View {
	h.t.Helper()
	var found jobs.View
	eventually(h.t, fmt.Sprintf("%s job %s in state %s with error %q", kind, key, state, errorText), func() bool {
		for _, j := range into[jobs.List](h.t, h.get("/api/v1/jobs?limit=1000&kind="+kind).want(h.t, 200)).Jobs {
			if j.Key == key {
				found = j
			}
		}
		return found.State == state && strings.Contains(found.Error, errorText)
	})
	return found
}

func (h *harness) retryJob(job string) {
	h.t.Helper()
	h.do(request{method: "POST", path: "/api/v1/jobs/" + job + "/retry", admin: true}).want(h.t, 200)
}

// recordingFiles returns the paths of the recordings in the data directory.
func (h *harness) recordingFiles() []string {
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

// checkCopy checks that the server serves a recording while Ziwo fails.
func (r *ziwoHarness) checkCopy(id string, call ziwotest.Call) {
	r.t.Helper()
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500})
	defer r.ziwo.ClearFaults()
	audio := string(ziwotest.Audio(call))
	size := strconv.Itoa(len(audio))
	whole := r.getRecording(id).want(r.t, 200)
	tag := whole.header.Get("ETag")
	if whole.body != audio || whole.header.Get("Content-Type") != "audio/mpeg" || whole.header.Get("Content-Length") != size || tag == "" {
		r.t.Errorf("whole recording: %d bytes, want %s; headers %v", len(whole.body), size, whole.header)
	}
	part := r.getRecording(id, "Range", "bytes=10-19", "If-Range", tag).want(r.t, 206)
	if part.body != audio[10:20] || part.header.Get("Content-Range") != "bytes 10-19/"+size {
		r.t.Errorf("bytes 10-19: body %q, headers %v", part.body, part.header)
	}
	if r.getRecording(id, "Range", "bytes=-5").want(r.t, 206).body != audio[len(audio)-5:] {
		r.t.Error("bytes=-5: wrong body")
	}
	if r.getRecording(id, "Range", "bytes=0-4", "If-Range", `"another"`).want(r.t, 200).body != audio {
		r.t.Error("an If-Range header with another ETag does not return the whole recording")
	}
	if outside := r.getRecording(id, "Range", "bytes="+size+"-").want(r.t, 416); outside.header.Get("Content-Range") != "bytes */"+size {
		r.t.Errorf("range past the end: headers %v", outside.header)
	}
	if head := r.headRecording(id).want(r.t, 200); head.header.Get("Content-Length") != size {
		r.t.Errorf("HEAD: headers %v, want Content-Length %s", head.header, size)
	}
}

func TestRecordingsAreCopiedToDataDirectory(t *testing.T) {
	r := serveWithRecordings(t, "{styles: [surveillance], keep: data_directory}")
	id, call := r.addCall("kept", time.Minute, nil)
	r.waitForJob("recording", id, "done", "")
	before := r.ziwo.Requests("GET /surveillance/recordings/{file}")
	r.checkCopy(id, call)
	if n := r.ziwo.Requests("GET /surveillance/recordings/{file}") - before; n != 0 {
		t.Errorf("%d requests to Ziwo for a copied recording, want 0", n)
	}
	files := r.recordingFiles()
	if len(files) != 1 || filepath.Base(files[0]) != id+".mp3" {
		t.Fatalf("files %v, want only %s.mp3", files, id)
	}
	// If the file is missing, the server reads the recording from Ziwo.
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if r.getRecording(id).want(t, 200).body != string(ziwotest.Audio(call)) {
		t.Error("wrong recording from Ziwo")
	}
	r.checkNoSecrets()
}

func TestRecordingsAreCopiedToS3(t *testing.T) {
	store := &s3test.Store{Bucket: "acme-calls", AccessKey: "access-key-1"}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	r := serveWithRecordings(t, fmt.Sprintf("{styles: [signed_url], keep: s3, s3: {endpoint: %q, bucket: acme-calls, prefix: calls/, access_key: access-key-1, secret_key: s3-secret-1}}", server.URL))
	store.SetUnavailable(true)
	id, call := r.addCall("kept", time.Minute, nil)
	job := r.waitForJob("recording", id, "waiting", "bucket")
	if job.Attempts != 0 {
		t.Errorf("unavailable bucket: job %+v, want no attempt counted", job)
	}
	store.SetUnavailable(false)
	r.retryJob(job.ID)
	r.waitForJob("recording", id, "done", "")
	if objects := store.Objects(); len(objects) != 1 || objects[0] != "calls/"+id+".mp3" {
		t.Fatalf("objects %v, want only calls/%s.mp3", objects, id)
	}
	r.checkCopy(id, call)
	store.SetUnavailable(true)
	if r.getRecording(id).want(t, 200).body != string(ziwotest.Audio(call)) {
		t.Error("unavailable bucket: wrong recording from Ziwo")
	}
	if len(r.recordingFiles()) > 0 {
		t.Errorf("files in the data directory: %v, want none", r.recordingFiles())
	}
	if strings.Contains(r.log.String(), "s3-secret-1") {
		t.Error("the log contains the secret key")
	}
}

// TestCopyJobWaitsForLateRecordings checks that a job waits for a late recording but
// not for one that Ziwo never stores.
func TestCopyJobWaitsForLateRecordings(t *testing.T) {
	r := serveWithRecordings(t, "{keep: data_directory}")
	late := func(c *ziwotest.Call) { c.RecordedAt = time.Now().Add(time.Hour) }
	id, call := r.addCall("late", time.Minute, late)
	job := r.waitForJob("recording", id, "waiting", "not available yet")
	if wait := time.Until(job.RunAt); job.Attempts != 0 || wait > 2*time.Minute {
		t.Errorf("late recording: job %+v, want a retry within 2 minutes and no attempt counted", job)
	}
	never, _ := r.addCall("never", 25*time.Hour, late)
	dead := r.waitForJob("recording", never, "dead", "none is expected")
	unanswered, _ := r.addCall("unanswered", time.Minute, func(c *ziwotest.Call) { c.AnsweredAt, c.Result, c.RecordingFile = time.Time{}, "missed", "" })
	r.ziwo.SetNow(time.Now().Add(2 * time.Hour))
	r.retryJob(job.ID)
	r.waitForJob("recording", id, "done", "")
	r.checkCopy(id, call)
	r.retryJob(dead.ID)
	r.waitForJob("recording", never, "done", "")
	for _, j := range into[jobs.List](t, r.get("/api/v1/jobs?kind=recording").want(t, 200)).Jobs {
		if j.Key == unanswered {
			t.Errorf("a call without a recording has job %+v", j)
		}
	}
}

func TestOldCopiesAreDeleted(t *testing.T) {
	store := &s3test.Store{Bucket: "acme-calls", AccessKey: "access-key-1"}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	bucket := fmt.Sprintf("s3: {endpoint: %q, bucket: acme-calls, access_key: access-key-1, secret_key: s3-secret-1}", server.URL)
	r := serveWithRecordings(t, "{keep: data_directory, days: 30}")
	young, youngCall := r.addCall("young", time.Hour, nil)
	old, _ := r.addCall("old", 20*24*time.Hour, nil)
	ancient, _ := r.addCall("ancient", 40*24*time.Hour, nil)
	r.waitForJob("recording", young, "done", "")
	r.waitForJob("recording", old, "done", "")
	r.waitForJob("recording", ancient, "done", "")
	if files := r.recordingFiles(); len(files) != 2 {
		t.Errorf("files %v, want 2: recordings past the retention are not copied", files)
	}
	r.setRecordings("{keep: s3, days: 30, " + bucket + "}")
	inBucket, _ := r.addCall("in-bucket", 21*24*time.Hour, nil)
	r.waitForJob("recording", inBucket, "done", "")
	if len(store.Objects()) != 1 {
		t.Fatalf("objects %v, want 1", store.Objects())
	}

	deleteOld := func(state string) {
		t.Helper()
		if err := r.parts.recordings.Schedule(t.Context()); err != nil {
			t.Fatal(err)
		}
		day := time.Now().UTC().Format(time.DateOnly)
		r.retryJob(r.waitForJob("forget_recordings", day, "done", "").ID)
		r.waitForJob("forget_recordings", day, state, "")
	}
	deleteOld("done")
	if len(r.recordingFiles()) != 2 || len(store.Objects()) != 1 {
		t.Errorf("files %v, objects %v; want 2 and 1 with 30 days of retention", r.recordingFiles(), store.Objects())
	}
	r.setRecordings("{keep: s3, days: 10, " + bucket + "}")
	deleteOld("done")
	eventually(t, "deletion of the old copies", func() bool { return len(r.recordingFiles()) == 1 && len(store.Objects()) == 0 })
	r.checkCopy(young, youngCall)

	// Recordings are deleted together with personal data.
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	document := strings.Replace(documentFor(r.ziwo, api), "webhook_keys: [hook-key-1]}", "webhook_keys: [hook-key-1], recordings: {keep: data_directory}}", 1)
	withoutStore, _ := r.addCall("without-store", 9*24*time.Hour, nil)
	r.waitForJob("recording", withoutStore, "done", "")
	r.do(request{method: "PUT", path: "/api/v1/config", body: document + "retention: {personal_days: 5}\n", admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 200)
	deleteOld("waiting") // the configuration no longer contains the bucket
	if len(store.Objects()) != 1 || len(r.recordingFiles()) != 1 {
		t.Errorf("objects %v, files %v; want 1 of each", store.Objects(), r.recordingFiles())
	}
	r.waitForJob("forget_recordings", time.Now().UTC().Format(time.DateOnly), "waiting", "unknown store")
}

func TestRecordingStylesMatchClient(t *testing.T) {
	for _, style := range ziwo.RecordingStyles() {
		_, _, problems := config.Load([]byte("contact_centers: {a: {recordings: {styles: ["+string(style)+"]}}}\n"+
			"trackers: {t: {keys: {start: open, end: open}, routes: [{id: all, voicemail: true}]}}\n"), config.YAML, nil)
		if len(problems.Errors()) > 0 {
			t.Errorf("style %s: %v", style, problems.Errors())
		}
	}
	if config.RecordingSurveillance != config.RecordingStyle(ziwo.RecordingSurveillance) || config.RecordingSignedURL != config.RecordingStyle(ziwo.RecordingSignedURL) ||
		config.RecordingHistory != config.RecordingStyle(ziwo.RecordingHistory) || config.RecordingStatic != config.RecordingStyle(ziwo.RecordingStatic) {
		t.Error("config and ziwo define different names for a recording style")
	}
}
