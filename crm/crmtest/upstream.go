// Package crmtest is CRMs that are made up: handlers that answer over real HTTP as
// the real ones are documented to, with invented customers. Drivers are tested
// against them, and the demonstration uses the same; suite/ has what every driver
// must do.
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

// Person is a customer of a CRM that is made up.
type Person struct {
	ID     string // digits, so that it is one in every CRM
	Name   string // empty: null
	Phones []string
	Shared []string // numbers that belong to others as well
	Tags   []string
}

// Upstream is what the CRMs here have in common: people, credentials, faults and
// a log. It is safe for concurrent use.
type Upstream struct {
	mutex  sync.Mutex
	people []Person
	fault  http.HandlerFunc
	delay  time.Duration
	log    []string
	bad    []string // requests that the real CRM would not have understood
}

// Put adds people.
func (u *Upstream) Put(people ...Person) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.people = append(u.people, people...)
}

// Break has every request answered by fault; nil mends it.
func (u *Upstream) Break(fault http.HandlerFunc) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.fault = fault
}

// Delay has every request wait before it is answered.
func (u *Upstream) Delay(d time.Duration) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.delay = d
}

// Requests are those that came so far, as "METHOD path?query" the way they were
// sent.
func (u *Upstream) Requests() []string {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return append([]string(nil), u.log...)
}

// Misunderstood are requests that the real CRM would have answered in another
// way than their sender meant.
func (u *Upstream) Misunderstood() []string {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	return append([]string(nil), u.bad...)
}

// begin logs a request and answers it when it is to fail.
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

func (u *Upstream) complain(format string, args ...any) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.bad = append(u.bad, fmt.Sprintf(format, args...))
}

// owners are those who have a number that fits.
func (u *Upstream) owners(fits func(number string) bool, shared bool) []Person {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	var out []Person
	for _, p := range u.people {
		numbers := p.Phones
		if shared {
			numbers = append(append([]string(nil), numbers...), p.Shared...)
		}
		if slices.ContainsFunc(numbers, fits) {
			out = append(out, p)
		}
	}
	return out
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client may have gone
}

// object is JSON that is put together by hand, since the CRMs have much that
// nobody reads.
type object map[string]any

// nullable is null for nothing.
func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// digits of a number, whatever form it has.
func digits(text string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text)
}
