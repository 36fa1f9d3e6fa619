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
	"html/template"
	"io"
	"strings"
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
	out := append(k.code(".js"), "(JSON.parse("...)
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
	body := append(k.code(".pinned.js"), "();\n"...)
	sum, integrity := sha256.Sum256(body), sha512.Sum384(body)
	const shown = 8 // bytes; enough to tell releases apart
	return Release{
		Version:   hex.EncodeToString(sum[:shown]),
		Integrity: "sha384-" + base64.StdEncoding.EncodeToString(integrity[:]),
		Body:      body,
	}
}

// code is an expression that takes the configuration; the caller may append to it.
func (k Kind) code(suffix string) []byte {
	code, err := served.ReadFile("served/" + string(k) + suffix)
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

//go:embed site.html
var siteHTML string

var siteTemplate = template.Must(template.New("site").Parse(siteHTML))

// SitePage is what the page for a site's owner shows.
type SitePage struct {
	Site   string
	Embeds []SiteEmbed
	Button *SiteButton // nil for a site without one
	Checks []SiteCheck
}

// SiteEmbed is a line to paste.
type SiteEmbed struct {
	Title, About, Line, Pinned string
	Policy                     string // what a Content-Security-Policy has to allow
}

// SiteButton is the call-me-back button as it is now.
type SiteButton struct {
	Corner     string // a class of the page's stylesheet
	Place      string // the same in words
	Offline    bool
	Why        string
	Next       string // RFC 3339; "" when nothing changes
	NextText   string
	NextState  string
	Extensions []string
	Languages  []SiteLanguage
}

// SiteLanguage is the texts of the button in one language.
type SiteLanguage struct {
	Code, Name, Direction string
	Shown                 bool
	Texts                 map[string]string
}

// Text is one of the texts, by Ziwo's name for it.
func (l SiteLanguage) Text(name string) string { return l.Texts[name] }

// CheckState tells whether a thing is there, and how much it matters.
type CheckState string

// The states; they are classes of the page's stylesheet, too.
const (
	CheckDone     CheckState = "done"
	CheckMissing  CheckState = "missing"
	CheckOptional CheckState = "optional"
)

// SiteCheck is one thing that a site needs or may have.
type SiteCheck struct {
	State CheckState
	Text  string
}

// Write renders the page.
func (p SitePage) Write(w io.Writer) error {
	style, script := assetName("site.css"), assetName("site.js")
	return siteTemplate.Execute(w, struct {
		SitePage
		Style, Script string
	}{p, style, script})
}

// Asset is a style or script of the pages, by the name that they use for it,
// which changes with the content.
func Asset(name string) (body []byte, ok bool) {
	for _, file := range []string{"site.css", "site.js"} {
		if name == assetName(file) {
			body, err := served.ReadFile("served/" + file)
			return body, err == nil
		}
	}
	return nil, false
}

func assetName(file string) string {
	body, err := served.ReadFile("served/" + file)
	if err != nil {
		panic("web: no file " + file) // the name stands in this package
	}
	sum := sha256.Sum256(body)
	const shown = 8
	kind := file[strings.LastIndexByte(file, '.'):]
	return strings.TrimSuffix(file, kind) + "-" + hex.EncodeToString(sum[:shown]) + kind
}
