// Package web is what browsers get: the scripts that embed Ziwo's button and
// web phone in other pages, and the pages of the server itself, with their
// styles. All of it is embedded in the binary.
package web

import (
	"crypto/sha256"
	"crypto/sha512"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
)

//go:generate go run ./generate -dir .

//go:embed served
var served embed.FS

// Kind is one of the scripts. The zero value is invalid.
type Kind string

// The scripts, by the folder of their addresses.
const (
	WebCallback Kind = "webcallback"
	Jorel       Kind = "jorel"
	Popup       Kind = "popup"
)

// Kinds lists the scripts.
func Kinds() []Kind { return []Kind{WebCallback, Jorel, Popup} }

// Script is the script with a configuration in it. The configuration is handed
// over as a string for JSON.parse: no text in it can end the string, since
// encoding/json escapes what ends a script element or a line, and no key can
// mean more than a name, as "__proto__" would in a literal.
func (k Kind) Script(config []byte) ([]byte, error) {
	quoted, err := json.Marshal(string(config))
	if err != nil {
		return nil, err
	}
	out := append(k.code(), "(JSON.parse("...)
	out = append(out, quoted...)
	return append(out, "));\n"...), nil
}

// Release is a script that never changes under its address, and fetches its
// configuration: a page can pin it.
type Release struct {
	Version   string // stands in its address
	Integrity string // for the attribute integrity of the script element
	Body      []byte
}

// Release is the one of this binary.
func (k Kind) Release() Release {
	body := append(k.code(), "();\n"...)
	sum, integrity := sha256.Sum256(body), sha512.Sum384(body)
	const shown = 8 // bytes; enough to tell releases apart
	return Release{
		Version:   hex.EncodeToString(sum[:shown]),
		Integrity: "sha384-" + base64.StdEncoding.EncodeToString(integrity[:]),
		Body:      body,
	}
}

// code is an expression that takes the configuration; the caller may append to it.
func (k Kind) code() []byte {
	code, err := served.ReadFile("served/" + string(k) + ".js")
	if err != nil {
		panic("web: no script " + string(k)) // a Kind that nobody declared
	}
	return code
}

// Complaint is a script that does nothing but tell the web developer, in the
// console, what is wrong.
func Complaint(message string) ([]byte, error) {
	quoted, err := json.Marshal("calltracker: " + message)
	if err != nil {
		return nil, err
	}
	return append(append([]byte("console.error("), quoted...), ");\n"...), nil
}
