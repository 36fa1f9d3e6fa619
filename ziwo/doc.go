// Package ziwo implements Ziwo's call tracker protocol and REST API. It parses the
// start call and the call detail record (CDR) that Ziwo sends to a call tracker,
// and writes the answers. Client calls the REST API.
//
// https://www.ziwo.io/api-integration-developers/ is the only public description
// of the protocol. It names one field of the start call, truncates its samples,
// and shows a CDR from 2016 whose names have changed since. Parsing is therefore
// tolerant: it accepts every plausible encoding, name and type, and records each
// repair as a note. Writing is strict: it produces exactly the documented bytes.
// The package has not been verified against a live instance.
package ziwo
