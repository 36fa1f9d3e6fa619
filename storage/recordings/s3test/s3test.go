// Package s3test is an object store for tests that speaks as much of S3's protocol
// as recordings need, over HTTP
// (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html).
package s3test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Store is an object store with one bucket; it is an http.Handler. It takes any
// secret key: signatures are not checked, the access key is.
type Store struct {
	Bucket, AccessKey string

	mu      sync.Mutex
	objects map[string]object
	parts   map[string]map[int][]byte // of uploads that are not complete, by their id
	broken  bool
}

type object struct {
	content []byte
	kind    string
	at      time.Time
}

// Objects are the names of what is kept, sorted.
func (s *Store) Objects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Break makes it answer 503 to everything, or mends it.
func (s *Store) Break(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// ServeHTTP is the protocol.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case s.broken:
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
	case !strings.Contains(r.Header.Get("Authorization"), "Credential="+s.AccessKey+"/"):
		refuse(w, http.StatusForbidden, "InvalidAccessKeyId")
	case bucket != s.Bucket:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodPost:
		s.upload(w, r, name)
	case r.Method == http.MethodPut:
		s.put(w, r, name)
	case r.Method == http.MethodDelete:
		delete(s.objects, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		o, ok := s.objects[name]
		if !ok {
			refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", `"etag"`)
		w.Header().Set("Content-Type", o.kind)
		http.ServeContent(w, r, "", o.at, bytes.NewReader(o.content))
	}
}

func (s *Store) put(w http.ResponseWriter, r *http.Request, name string) {
	content, err := body(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	w.Header().Set("ETag", `"etag"`)
	if upload := s.parts[r.URL.Query().Get("uploadId")]; upload != nil {
		part, _ := strconv.Atoi(r.URL.Query().Get("partNumber")) // 0 when it is none
		upload[part] = content
		return
	}
	s.keep(name, content, r.Header.Get("Content-Type"))
}

func (s *Store) keep(name string, content []byte, kind string) {
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	s.objects[name] = object{content, kind, time.Now()}
}

// upload begins an upload in parts, or completes it.
func (s *Store) upload(w http.ResponseWriter, r *http.Request, name string) {
	id := r.URL.Query().Get("uploadId")
	if id == "" {
		if s.parts == nil {
			s.parts = map[string]map[int][]byte{}
		}
		id = fmt.Sprint("upload-", len(s.parts))
		s.parts[id] = map[int][]byte{}
		answer(w, "InitiateMultipartUploadResult", "<UploadId>"+id+"</UploadId>")
		return
	}
	var content []byte
	for _, part := range slices.Sorted(maps.Keys(s.parts[id])) {
		content = append(content, s.parts[id][part]...)
	}
	delete(s.parts, id)
	s.keep(name, content, "audio/mpeg")
	answer(w, "CompleteMultipartUploadResult", `<Bucket>`+s.Bucket+`</Bucket><Key>`+name+`</Key><ETag>"etag"</ETag>`)
}

func answer(w http.ResponseWriter, kind, content string) {
	w.Header().Set("Content-Type", "application/xml")
	_, _ = fmt.Fprintf(w, "<%s>%s</%s>", kind, content, kind) // a client that went away is its own affair
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: code})
}

// body is the body of a request, without the signatures between its chunks
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
func body(r *http.Request) ([]byte, error) {
	all, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return all, err
	}
	var content []byte
	for {
		head, rest, ok := bytes.Cut(all, []byte("\r\n"))
		size, _, _ := bytes.Cut(head, []byte(";"))
		n, err := strconv.ParseInt(string(size), 16, 32)
		if !ok || err != nil || int64(len(rest)) < n {
			return nil, io.ErrUnexpectedEOF
		}
		if n == 0 {
			return content, nil
		}
		content = append(content, rest[:n]...)
		all = bytes.TrimPrefix(rest[n:], []byte("\r\n"))
	}
}
