package web

import (
	_ "embed" // of the page
	"html/template"
	"io"
)

//go:embed callers.html
var callersHTML string

var callersTemplate = template.Must(template.New("callers").Parse(callersHTML))

// CallersPage is what an agent sees when it is not one customer who calls: whom
// to choose, or where to go on. Addresses must be https.
type CallersPage struct {
	Site, Title, Number, Note string
	Customers                 []CallerLink
	Links                     []CallerLink
}

// CallerLink is a customer or a page of a CRM.
type CallerLink struct{ Name, URL, About string }

// Write renders the page.
func (p CallersPage) Write(w io.Writer) error {
	return callersTemplate.Execute(w, struct {
		CallersPage
		Style string
	}{p, assetName("site.css")})
}
