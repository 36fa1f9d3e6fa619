package recordings

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"calltracker/storage"
)

// BucketOptions say which bucket, and how to get in. They can be compared.
type BucketOptions struct {
	Endpoint  string // https://host
	Region    string // empty: us-east-1
	Bucket    string
	Prefix    string // in front of every name
	AccessKey string
	SecretKey string
}

// Times of a bucket.
const (
	bucketHead  = 10 * time.Second // until it answers
	bucketIdle  = 20 * time.Second // that a body may stand still
	bucketTries = 3
	bucketPart  = 16 << 20 // bytes of one request; larger files take several
)

// Bucket keeps recordings in an object store. What it sends passes through a
// Folder, so that Ziwo does not wait for the store. It is safe for concurrent use.
type Bucket struct {
	options BucketOptions
	name    string
	core    *minio.Core
	scratch *Folder
}

// NewBucket checks the options. It sends nothing.
func NewBucket(o BucketOptions, scratch *Folder) (*Bucket, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.User != nil || endpoint.Path != "" && endpoint.Path != "/" {
		return nil, errors.New("the endpoint of the bucket must be an address without a path, such as https://s3.eu-central-1.amazonaws.com")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = bucketHead
	transport.DisableCompression = true // of a compressed body no part is a part of the recording
	if o.Region == "" {
		o.Region = "us-east-1" // asked for, it would be one request more, with other rights
	}
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: endpoint.Scheme == "https", Region: o.Region,
		Transport: transport, MaxRetries: bucketTries,
	})
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	return &Bucket{options: o, name: "s3 " + endpoint.Scheme + "://" + endpoint.Host + "/" + o.Bucket, core: core, scratch: scratch}, nil
}

// Name tells this place from others.
func (b *Bucket) Name() string { return b.name }

// Put keeps content under a name, whole or not at all. It tells place, name, size
// and digest.
func (b *Bucket) Put(ctx context.Context, name, contentType string, content io.Reader) (kept storage.Recording, err error) {
	temporary := path.Join(incoming, rand.Text())
	file, kept, err := receive(ctx, b.scratch.root, temporary, content)
	if err != nil {
		return kept, err
	}
	defer func() {
		err = errors.Join(err, file.Close(), b.scratch.root.Remove(temporary))
	}()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return kept, fmt.Errorf("send recording: %w", err)
	}
	kept.Place, kept.Name = b.name, b.options.Prefix+name
	_, err = b.core.Client.PutObject(ctx, b.options.Bucket, kept.Name, file, kept.Bytes, minio.PutObjectOptions{
		ContentType: contentType, PartSize: bucketPart, NumThreads: 1, DisableMultipart: kept.Bytes <= bucketPart,
	})
	if err != nil {
		return kept, fmt.Errorf("send recording to the bucket: %w", b.reason(err))
	}
	return kept, nil
}

// Open reads a part of what was kept. It returns storage.ErrNotFound when there
// is no such object, or it has another size.
func (b *Bucket) Open(ctx context.Context, r storage.Recording, from, length int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	if err := o.SetRange(from, from+length-1); err != nil {
		return nil, fmt.Errorf("open recording in the bucket: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(bucketTries*bucketHead, func() { cancel(context.DeadlineExceeded) })
	release := func() {
		idle.Stop()
		cancel(nil)
	}
	body, info, header, err := b.core.GetObject(ctx, b.options.Bucket, r.Name, o)
	if err != nil {
		release()
		if code := minio.ToErrorResponse(err).Code; code == "NoSuchKey" || code == "NoSuchVersion" || code == "InvalidRange" {
			return nil, fmt.Errorf("open recording in the bucket: %w", storage.ErrNotFound)
		}
		return nil, fmt.Errorf("open recording in the bucket: %w", b.reason(err))
	}
	out := &patient{ReadCloser: body, idle: idle, release: release}
	if whole := header.Get("Content-Range"); whole != fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, r.Bytes) || info.Size != length {
		return nil, errors.Join(fmt.Errorf("open recording in the bucket: %w: it has another size", storage.ErrNotFound), out.Close())
	}
	return out, nil
}

// Delete removes an object; that there is none is no error.
func (b *Bucket) Delete(ctx context.Context, r storage.Recording) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTries*bucketHead)
	defer cancel()
	if err := b.core.RemoveObject(ctx, b.options.Bucket, r.Name, minio.RemoveObjectOptions{}); err != nil && minio.ToErrorResponse(err).Code != "NoSuchKey" {
		return fmt.Errorf("delete recording in the bucket: %w", b.reason(err))
	}
	return nil
}

// reason is an error without the address, which the client puts in front.
func (b *Bucket) reason(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return fmt.Errorf("%s: %w", b.name, at.Err)
	}
	return fmt.Errorf("%s: %w", b.name, err)
}

// patient breaks off a body that stands still.
type patient struct {
	io.ReadCloser
	idle    *time.Timer
	once    sync.Once
	release func()
}

func (p *patient) Read(b []byte) (int, error) {
	p.idle.Reset(bucketIdle)
	return p.ReadCloser.Read(b)
}

func (p *patient) Close() error {
	err := p.ReadCloser.Close()
	p.once.Do(p.release)
	return err
}
