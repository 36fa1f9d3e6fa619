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

// balancer spreads requests evenly over two replicas, as a load balancer in front of
// them does: one that refuses a connection gets no more of them, and what was on
// its way there is answered with 502.
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
		ErrorLog:  log.New(io.Discard, "", 0), // broken requests are what a trial wants
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, syscall.ECONNREFUSED) {
				b.remove(r.URL)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	return b
}

// nowhere refuses connections.
var nowhere = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}

// next is the replica whose turn it is.
func (b *balancer) next() *url.URL {
	turn := int(b.turn.Add(1) % uint64(len(b.replicas)))
	for i := range b.replicas {
		if target := b.replicas[(turn+i)%len(b.replicas)].Load(); target != nil {
			return target
		}
	}
	return nowhere
}

// put gives a replica its share; base is how its addresses begin.
func (b *balancer) put(replica int, base string) error {
	target, err := url.Parse(base)
	if err != nil {
		return err
	}
	b.replicas[replica].Store(target)
	return nil
}

// remove takes the replica away that a request was sent to.
func (b *balancer) remove(sent *url.URL) {
	for i := range b.replicas {
		if target := b.replicas[i].Load(); target != nil && target.Host == sent.Host {
			b.replicas[i].CompareAndSwap(target, nil)
		}
	}
}

// ServeHTTP passes a request on.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.proxy.ServeHTTP(w, r) }

func (b *balancer) close() { b.proxy.Transport.(*http.Transport).CloseIdleConnections() }
