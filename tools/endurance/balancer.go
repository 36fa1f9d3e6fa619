package endurance

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"syscall"
)

// balancer is a load balancer that distributes requests evenly over two replicas. It
// removes a replica that refuses a connection and answers a request that fails with
// 502.
type balancer struct {
	replicas [2]atomic.Pointer[url.URL]
	turn     atomic.Uint64
	proxy    httputil.ReverseProxy
}

func newBalancer() *balancer {
	b := &balancer{}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	const idle = 64
	transport.MaxIdleConnsPerHost = idle
	b.proxy = httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(b.next()) },
		ErrorLog:  log.New(io.Discard, "", 0), // failing requests are part of the trial
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, syscall.ECONNREFUSED) {
				b.remove(r.URL)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	return b
}

// unreachable is an address that refuses connections.
var unreachable = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}

// next returns the replica that gets the next request.
func (b *balancer) next() *url.URL {
	turn := int(b.turn.Add(1) % uint64(len(b.replicas)))
	for i := range b.replicas {
		if target := b.replicas[(turn+i)%len(b.replicas)].Load(); target != nil {
			return target
		}
	}
	return unreachable
}

// add adds a replica with the given base URL.
func (b *balancer) add(replica int, baseURL string) error {
	target, err := url.Parse(baseURL)
	if err != nil {
		return err
	}
	b.replicas[replica].Store(target)
	return nil
}

// remove removes the replica that a request was sent to.
func (b *balancer) remove(sent *url.URL) {
	for i := range b.replicas {
		if target := b.replicas[i].Load(); target != nil && target.Host == sent.Host {
			b.replicas[i].CompareAndSwap(target, nil)
		}
	}
}

// ServeHTTP forwards a request to the next replica.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.proxy.ServeHTTP(w, r) }

func (b *balancer) close() { b.proxy.Transport.(*http.Transport).CloseIdleConnections() }
