// Package web holds everything that a browser loads: the scripts that embed
// Ziwo's button and web phone in other people's pages, and the server's own
// pages with their styles. All of it is embedded in the binary.
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
	"path"
	"strconv"
	"strings"
)

//go:generate go run ./generate -dir .

//go:embed served
var served embed.FS

// Kind names an embed script. The zero value is invalid.
type Kind string

// The embed scripts. Each value is the first segment of the script's URL path.
const (
	WebCallback Kind = "webcallback"
	Jorel       Kind = "jorel"
	Popup       Kind = "popup"
)

// Kinds returns every embed script.
func Kinds() []Kind { return []Kind{WebCallback, Jorel, Popup} }

// Script returns the script with a configuration embedded in it. The
// configuration is a string literal that the script passes to JSON.parse.
// encoding/json escapes every character that could end the literal, the line,
// or the script element. Unlike in an object literal, the key "__proto__" has
// no special meaning in JSON.
func (k Kind) Script(config []byte) ([]byte, error) {
	quoted, err := json.Marshal(string(config))
	if err != nil {
		return nil, err
	}
	out := append(k.code(".js"), "(JSON.parse("...)
	out = append(out, quoted...)
	return append(out, "));\n"...), nil
}

// Release is a versioned script that fetches its configuration. The body at a
// versioned URL never changes, so a page can pin it with Subresource Integrity.
type Release struct {
	Version   string // last segment of the URL path, without ".js"
	Integrity string // value of the script element's integrity attribute
	Body      []byte
}

// Release returns the versioned script in this binary.
func (k Kind) Release() Release {
	body := append(k.code(".pinned.js"), "();\n"...)
	sum, integrity := sha256.Sum256(body), sha512.Sum384(body)
	const prefix = 8 // bytes of the hash; enough to distinguish releases
	return Release{
		Version:   hex.EncodeToString(sum[:prefix]),
		Integrity: "sha384-" + base64.StdEncoding.EncodeToString(integrity[:]),
		Body:      body,
	}
}

// code returns a function expression that takes the configuration. The caller
// may append to the result.
func (k Kind) code(suffix string) []byte {
	code, err := served.ReadFile("served/" + string(k) + suffix)
	if err != nil {
		panic("web: unknown script kind " + strconv.Quote(string(k)))
	}
	return code
}

// ErrorScript returns a script that only logs message as an error to the
// browser console.
func ErrorScript(message string) ([]byte, error) {
	quoted, err := json.Marshal("calltracker: " + message)
	if err != nil {
		return nil, err
	}
	return append(append([]byte("console.error("), quoted...), ");\n"...), nil
}

//go:embed site.html
var siteHTML string

var siteTemplate = template.Must(template.New("site").Parse(siteHTML))

// SitePage is the data of the page that a site's owner opens to set up embeds.
type SitePage struct {
	Site   string
	Embeds []SiteEmbed
	Button *SiteButton // nil if the site has no callback button
	Checks []SiteCheck
}

// SiteEmbed is a script tag to paste into a page.
type SiteEmbed struct {
	Title, About, Line, Pinned string
	Policy                     string // directives that a Content-Security-Policy must include
}

// SiteButton is the current state of the callback button.
type SiteButton struct {
	Corner     string // class in the page's stylesheet
	Place      string // position as a sentence
	Offline    bool
	Why        string // reason for the state
	Next       string // time of the next change in RFC 3339; "" if there is none
	NextText   string
	NextState  string
	Extensions []string
	Languages  []SiteLanguage
}

// SiteLanguage is the button's texts in one language.
type SiteLanguage struct {
	Code, Name, Direction string
	Shown                 bool
	Texts                 map[string]string
}

// Text returns a text by Ziwo's name for it.
func (l SiteLanguage) Text(name string) string { return l.Texts[name] }

// CheckState is the outcome of one check of a site.
type CheckState string

// The check states. Each value is also a class in the page's stylesheet.
const (
	CheckDone     CheckState = "done"
	CheckMissing  CheckState = "missing"
	CheckOptional CheckState = "optional"
)

// SiteCheck is one line of the checklist on a site's page.
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

// Asset returns a stylesheet or script of the server's own pages. The name
// contains a hash of the content. Asset reports false for any other name.
func Asset(name string) (body []byte, ok bool) {
	for _, file := range []string{"site.css", "site.js"} {
		if name == assetName(file) {
			body, err := served.ReadFile("served/" + file)
			return body, err == nil
		}
	}
	return nil, false
}

// assetName returns the name under which the server's pages load a file: its
// base name, a hash of its content, and its extension.
func assetName(file string) string {
	body, err := served.ReadFile("served/" + file)
	if err != nil {
		panic("web: missing embedded file " + strconv.Quote(file))
	}
	sum := sha256.Sum256(body)
	const prefix = 8 // bytes of the hash
	extension := path.Ext(file)
	return strings.TrimSuffix(file, extension) + "-" + hex.EncodeToString(sum[:prefix]) + extension
}
