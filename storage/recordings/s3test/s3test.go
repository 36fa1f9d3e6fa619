// Package s3test provides an object store for tests. It implements the part of the
// S3 protocol that package recordings uses, over HTTP
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

// Store is an http.Handler that serves an object store with one bucket. It checks
// the access key, but not the signature.
type Store struct {
	Bucket, AccessKey string

	mu          sync.Mutex
	objects     map[string]object
	parts       map[string]map[int][]byte // parts of incomplete uploads, by upload ID and part number
	unavailable bool
}

type object struct {
	content     []byte
	contentType string
	modified    time.Time
}

// Objects returns the names of the stored objects, sorted.
func (s *Store) Objects() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// SetUnavailable sets whether the store answers every request with 503.
func (s *Store) SetUnavailable(unavailable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unavailable = unavailable
}

// ServeHTTP serves the S3 protocol.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case s.unavailable:
		writeError(w, http.StatusServiceUnavailable, "SlowDown")
	case !strings.Contains(r.Header.Get("Authorization"), "Credential="+s.AccessKey+"/"):
		writeError(w, http.StatusForbidden, "InvalidAccessKeyId")
	case bucket != s.Bucket:
		writeError(w, http.StatusNotFound, "NoSuchBucket")
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
			writeError(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", `"etag"`)
		w.Header().Set("Content-Type", o.contentType)
		http.ServeContent(w, r, "", o.modified, bytes.NewReader(o.content))
	}
}

func (s *Store) put(w http.ResponseWriter, r *http.Request, name string) {
	content, err := body(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	w.Header().Set("ETag", `"etag"`)
	if upload := s.parts[r.URL.Query().Get("uploadId")]; upload != nil {
		part, _ := strconv.Atoi(r.URL.Query().Get("partNumber")) // 0 if invalid
		upload[part] = content
		return
	}
	s.store(name, content, r.Header.Get("Content-Type"))
}

func (s *Store) store(name string, content []byte, contentType string) {
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	s.objects[name] = object{content, contentType, time.Now()}
}

// upload starts or completes an upload in parts.
func (s *Store) upload(w http.ResponseWriter, r *http.Request, name string) {
	id := r.URL.Query().Get("uploadId")
	if id == "" {
		if s.parts == nil {
			s.parts = map[string]map[int][]byte{}
		}
		id = fmt.Sprint("upload-", len(s.parts))
		s.parts[id] = map[int][]byte{}
		writeResult(w, "InitiateMultipartUploadResult", "<UploadId>"+id+"</UploadId>")
		return
	}
	var content []byte
	for _, part := range slices.Sorted(maps.Keys(s.parts[id])) {
		content = append(content, s.parts[id][part]...)
	}
	delete(s.parts, id)
	s.store(name, content, "audio/mpeg")
	writeResult(w, "CompleteMultipartUploadResult", `<Bucket>`+s.Bucket+`</Bucket><Key>`+name+`</Key><ETag>"etag"</ETag>`)
}

func writeResult(w http.ResponseWriter, element, content string) {
	w.Header().Set("Content-Type", "application/xml")
	_, _ = fmt.Fprintf(w, "<%s>%s</%s>", element, content, element) // fails only if the client disconnected
}

func writeError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: code})
}

// body returns the body of a request without the signatures of its chunks
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
func body(r *http.Request) ([]byte, error) {
	all, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return all, err
	}
	var content []byte
	for {
		header, rest, ok := bytes.Cut(all, []byte("\r\n"))
		size, _, _ := bytes.Cut(header, []byte(";"))
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
