package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"time"
)

// cacheKey makes keys of numbers in the shared cache. It is the same on every
// replica, and the secret key cannot be told from it.
func cacheKey(secretKey []byte) []byte {
	mac := hmac.New(sha256.New, secretKey)
	mac.Write([]byte("numbers in the cache"))
	return mac.Sum(nil)
}

// crmTransport carries the requests to all CRMs. Each request has a time of its
// own; this bounds what it may spend on connecting.
func crmTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.TLSHandshakeTimeout = time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}
