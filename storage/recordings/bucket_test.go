package recordings_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http/httptest"
	"strings"
	"testing"

	"calltracker/storage/recordings"
	"calltracker/storage/recordings/s3test"
)

func openBucket(t *testing.T, edit func(*recordings.BucketOptions)) (*recordings.Bucket, *s3test.Store, string) {
	t.Helper()
	objects := &s3test.Store{Bucket: "acme-calls", AccessKey: "access-key-1"}
	server := httptest.NewServer(objects)
	t.Cleanup(server.Close)
	scratch, path := openFolder(t)
	o := recordings.BucketOptions{Endpoint: server.URL, Bucket: "acme-calls", Prefix: "recordings/", AccessKey: "access-key-1", SecretKey: "secret-key-1"}
	if edit != nil {
		edit(&o)
	}
	b, err := recordings.NewBucket(o, scratch)
	if err != nil {
		t.Fatal(err)
	}
	return b, objects, path
}

func TestBucket(t *testing.T) {
	b, objects, scratch := openBucket(t, nil)
	testStore(t, b)
	if remaining := append(objects.Objects(), files(t, scratch)...); len(remaining) > 0 {
		t.Errorf("remaining objects and files: %v", remaining)
	}
}

func TestBucketSendsLargeFilesInParts(t *testing.T) {
	b, objects, _ := openBucket(t, nil)
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	stored, size, _, err := b.Put(t.Context(), "long.mp3", "audio/mpeg", bytes.NewReader(content))
	if err != nil || stored != "recordings/long.mp3" || len(objects.Objects()) != 1 {
		t.Fatalf("Put returned %q, %v; objects %v", stored, err, objects.Objects())
	}
	if read(t, b, stored, size, 0, size) != string(content) || read(t, b, stored, size, 17<<20, 5) != "01234" {
		t.Error("Open read content that differs from the content of Put")
	}
}

func TestBucketErrorsNameTheCause(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*recordings.BucketOptions)
		want string
	}{
		"missing bucket": {func(o *recordings.BucketOptions) { o.Bucket = "missing-calls" }, "NoSuchBucket"},
		"wrong key":      {func(o *recordings.BucketOptions) { o.AccessKey = "another" }, "InvalidAccessKeyId"},
		"no server":      {func(o *recordings.BucketOptions) { o.Endpoint = "http://127.0.0.1:1" }, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _, scratch := openBucket(t, c.edit)
			_, _, _, err := b.Put(t.Context(), "a.mp3", "audio/mpeg", strings.NewReader("sound"))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-key-1") {
				t.Errorf("put: %v", err)
			}
			body, err := b.Open(t.Context(), "recordings/a.mp3", 5, 0, 5)
			if err == nil {
				_ = body.Close()
			}
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open: %v", err)
			}
			if remaining := files(t, scratch); len(remaining) > 0 {
				t.Errorf("remaining files: %v", remaining)
			}
		})
	}
	scratch, _ := openFolder(t)
	for _, endpoint := range []string{"", "s3.example.com", "https://user:password@s3.example.com", "https://s3.example.com/path"} {
		if _, err := recordings.NewBucket(recordings.BucketOptions{Endpoint: endpoint, Bucket: "acme-calls"}, scratch); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}
