package recordings

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// BucketOptions identifies a bucket and its credentials. It is comparable.
type BucketOptions struct {
	Endpoint  string // URL without a path, such as https://s3.eu-central-1.amazonaws.com
	Region    string // empty means us-east-1
	Bucket    string
	Prefix    string // prefix of every object name
	AccessKey string
	SecretKey string
}

// Limits of requests to a bucket.
const (
	bucketHeaderTimeout = 10 * time.Second // time until the response header
	bucketIdleTimeout   = 20 * time.Second // longest time in which no data of a response body is read
	bucketTries         = 3
	bucketPartSize      = 16 << 20 // bytes of one request; larger files are sent in parts
)

// Bucket stores recordings in an object store. Uploads pass through a Folder, so
// that the download from Ziwo does not wait for the store. It is safe for
// concurrent use.
type Bucket struct {
	options BucketOptions
	name    string
	core    *minio.Core
	scratch *Folder
}

// NewBucket returns the bucket that the options describe. It sends no request.
func NewBucket(o BucketOptions, scratch *Folder) (*Bucket, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.User != nil || endpoint.Path != "" && endpoint.Path != "/" {
		return nil, errors.New("invalid bucket endpoint: use a URL without a path, such as https://s3.eu-central-1.amazonaws.com")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = bucketHeaderTimeout
	transport.DisableCompression = true // byte ranges of a compressed body are not ranges of the recording
	if o.Region == "" {
		o.Region = "us-east-1" // looking it up takes another request, with another permission
	}
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: endpoint.Scheme == "https", Region: o.Region,
		Transport: transport, MaxRetries: bucketTries,
	})
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	return &Bucket{options: o, name: "s3 " + endpoint.Scheme + "://" + endpoint.Host + "/" + o.Bucket, core: core, scratch: scratch}, nil
}

// Name returns a name that identifies this bucket among all stores.
func (b *Bucket) Name() string { return b.name }

// Put stores content as an object, completely or not at all, and replaces an earlier
// object of that name. It returns the full object name, and the size and hexadecimal
// SHA-256 digest of the content.
func (b *Bucket) Put(ctx context.Context, name, contentType string, content io.Reader) (stored string, size int64, digest string, err error) {
	temporary := path.Join(incoming, rand.Text())
	file, size, digest, err := receive(ctx, b.scratch.root, temporary, content)
	if err != nil {
		return "", 0, "", err
	}
	defer func() {
		err = errors.Join(err, file.Close(), b.scratch.root.Remove(temporary))
	}()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", 0, "", fmt.Errorf("store recording in bucket: %w", err)
	}
	stored = b.options.Prefix + name
	_, err = b.core.Client.PutObject(ctx, b.options.Bucket, stored, file, size, minio.PutObjectOptions{
		ContentType: contentType, PartSize: bucketPartSize, NumThreads: 1, DisableMultipart: size <= bucketPartSize,
	})
	if err != nil {
		return "", 0, "", fmt.Errorf("store recording in bucket: %w", b.withoutURL(err))
	}
	return stored, size, digest, nil
}

// Open reads length bytes of an object, starting at an offset. It returns an error
// that wraps fs.ErrNotExist if the object does not exist, or if its size is not size.
func (b *Bucket) Open(ctx context.Context, stored string, size, offset, length int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	if err := o.SetRange(offset, offset+length-1); err != nil {
		return nil, fmt.Errorf("open recording in bucket: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(bucketTries*bucketHeaderTimeout, func() { cancel(context.DeadlineExceeded) })
	release := func() {
		idle.Stop()
		cancel(nil)
	}
	body, info, header, err := b.core.GetObject(ctx, b.options.Bucket, stored, o)
	if err != nil {
		release()
		if code := minio.ToErrorResponse(err).Code; code == "NoSuchKey" || code == "NoSuchVersion" || code == "InvalidRange" {
			return nil, fmt.Errorf("open recording in bucket: %w", fs.ErrNotExist)
		}
		return nil, fmt.Errorf("open recording in bucket: %w", b.withoutURL(err))
	}
	out := &idleTimeoutBody{ReadCloser: body, idle: idle, release: release}
	if got := header.Get("Content-Range"); got != fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, size) || info.Size != length {
		return nil, errors.Join(fmt.Errorf("open recording in bucket: size is not %d bytes: %w", size, fs.ErrNotExist), out.Close())
	}
	return out, nil
}

// Delete deletes an object. It returns nil if there is none.
func (b *Bucket) Delete(ctx context.Context, stored string) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTries*bucketHeaderTimeout)
	defer cancel()
	if err := b.core.RemoveObject(ctx, b.options.Bucket, stored, minio.RemoveObjectOptions{}); err != nil && minio.ToErrorResponse(err).Code != "NoSuchKey" {
		return fmt.Errorf("delete recording in bucket: %w", b.withoutURL(err))
	}
	return nil
}

// withoutURL replaces the URL that the client puts in front of an error with the
// name of the bucket.
func (b *Bucket) withoutURL(err error) error {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return fmt.Errorf("%s: %w", b.name, urlError.Err)
	}
	return fmt.Errorf("%s: %w", b.name, err)
}

// idleTimeoutBody is a response body that ends its request when no data has been
// read for bucketIdleTimeout.
type idleTimeoutBody struct {
	io.ReadCloser
	idle    *time.Timer
	once    sync.Once
	release func()
}

func (b *idleTimeoutBody) Read(p []byte) (int, error) {
	b.idle.Reset(bucketIdleTimeout)
	return b.ReadCloser.Read(p)
}

func (b *idleTimeoutBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.release)
	return err
}
