package recordings_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"calltracker/storage"
	"calltracker/storage/recordings"
	"calltracker/storage/recordings/s3test"
)

func bucket(t *testing.T, edit func(*recordings.BucketOptions)) (*recordings.Bucket, *s3test.Store, string) {
	t.Helper()
	store := &s3test.Store{Bucket: "acme-calls", AccessKey: "access-key-1"}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	scratch, path := folder(t)
	o := recordings.BucketOptions{Endpoint: server.URL, Bucket: "acme-calls", Prefix: "recordings/", AccessKey: "access-key-1", SecretKey: "secret-key-1"}
	if edit != nil {
		edit(&o)
	}
	b, err := recordings.NewBucket(o, scratch)
	if err != nil {
		t.Fatal(err)
	}
	return b, store, path
}

func TestBucket(t *testing.T) {
	b, store, scratch := bucket(t, nil)
	behaves(t, b)
	if left := append(store.Objects(), files(t, scratch)...); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestBucketTakesLargeFilesInParts(t *testing.T) {
	b, store, _ := bucket(t, nil)
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
	kept, err := b.Put(t.Context(), "long.mp3", "audio/mpeg", bytes.NewReader(content))
	if err != nil || kept.Name != "recordings/long.mp3" || len(store.Objects()) != 1 {
		t.Fatalf("%+v, %v", kept, err)
	}
	if read(t, b, kept, 0, kept.Bytes) != string(content) || read(t, b, kept, 17<<20, 5) != "01234" {
		t.Error("what is read is not what was kept")
	}
}

func TestBucketSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*recordings.BucketOptions)
		want string
	}{
		"another bucket": {func(o *recordings.BucketOptions) { o.Bucket = "missing-calls" }, "NoSuchBucket"},
		"a wrong key":    {func(o *recordings.BucketOptions) { o.AccessKey = "another" }, "InvalidAccessKeyId"},
		"nobody there":   {func(o *recordings.BucketOptions) { o.Endpoint = "http://127.0.0.1:1" }, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _, scratch := bucket(t, c.edit)
			_, err := b.Put(t.Context(), "a.mp3", "audio/mpeg", strings.NewReader("sound"))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-key-1") {
				t.Errorf("put: %v", err)
			}
			body, err := b.Open(t.Context(), storage.Recording{Name: "recordings/a.mp3", Bytes: 5}, 0, 5)
			if err == nil {
				_ = body.Close()
			}
			if err == nil || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("open: %v", err)
			}
			if left := files(t, scratch); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
	scratch, _ := folder(t)
	for _, endpoint := range []string{"", "s3.example.com", "https://user:password@s3.example.com", "https://s3.example.com/path"} {
		if _, err := recordings.NewBucket(recordings.BucketOptions{Endpoint: endpoint, Bucket: "acme-calls"}, scratch); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}
