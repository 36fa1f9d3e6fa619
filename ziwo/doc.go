// Package ziwo speaks Ziwo's language: it reads the start call and the call
// detail record (CDR) that a call tracker is sent, and writes the answers. Its
// Client asks Ziwo's REST API.
//
// What Ziwo documents is at
// https://www.ziwo.io/api-integration-developers/. That page is the only public
// description of the call tracker's protocol: it names one field of the start
// call, cuts its samples off, and shows a CDR of 2016 whose names have changed
// since. Reading is therefore tolerant: every plausible encoding, name and type
// is accepted, and each repair leaves a note. Writing is strict: exactly the
// documented bytes. Nothing here was verified against a live instance.
package ziwo
