// Package crmtest contains simulated CRMs: HTTP handlers that respond as the real
// CRMs are documented to, with invented customers. The tests of the drivers and the
// demo use them. Package suite contains the tests that every driver must pass.
package crmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Person is a customer of a simulated CRM.
type Person struct {
	ID     string // digits only, which is valid in every CRM
	Name   string // "" is sent as null
	Phones []string
	Shared []string // numbers that other customers can also have
	Tags   []string
}

// Upstream is the common part of the simulated CRMs: customers, faults, and a log
// of requests. It is safe for concurrent use.
type Upstream struct {
	mutex   sync.Mutex
	people  []Person
	fault   http.HandlerFunc
	delay   time.Duration
	log     []string
	invalid []string // requests that the real CRM would misinterpret or reject
}

// Add adds customers.
func (u *Upstream) Add(people ...Person) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.people = append(u.people, people...)
}

// SetFault makes fault answer every request. nil ends the fault.
func (u *Upstream) SetFault(fault http.HandlerFunc) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.fault = fault
}

// SetDelay delays every response.
func (u *Upstream) SetDelay(d time.Duration) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.delay = d
}

// Requests returns all requests so far, as "METHOD path?query" with the original
// encoding.
func (u *Upstream) Requests() []string {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return append([]string(nil), u.log...)
}

// InvalidRequests describes the requests that the real CRM would misinterpret or
// reject.
func (u *Upstream) InvalidRequests() []string {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return append([]string(nil), u.invalid...)
}

// begin logs a request, applies the delay, and answers the request if a fault is
// set.
func (u *Upstream) begin(w http.ResponseWriter, r *http.Request) (answered bool) {
	u.mutex.Lock()
	u.log = append(u.log, r.Method+" "+r.RequestURI)
	fault, delay := u.fault, u.delay
	u.mutex.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
		}
	}
	if fault != nil {
		fault(w, r)
	}
	return fault != nil
}

func (u *Upstream) reportInvalid(format string, args ...any) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.invalid = append(u.invalid, fmt.Sprintf(format, args...))
}

// owners returns the customers with a number that matches. shared includes shared
// numbers.
func (u *Upstream) owners(matches func(number string) bool, shared bool) []Person {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	var out []Person
	for _, p := range u.people {
		numbers := p.Phones
		if shared {
			numbers = append(append([]string(nil), numbers...), p.Shared...)
		}
		if slices.ContainsFunc(numbers, matches) {
			out = append(out, p)
		}
	}
	return out
}

// respond writes a JSON response.
func respond(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client may have disconnected
}

// object is a JSON object. The responses have many fields that no driver decodes, so
// they have no types.
type object map[string]any

// nullable returns text, or nil for "".
func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// digits returns the digits in text.
func digits(text string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text)
}
