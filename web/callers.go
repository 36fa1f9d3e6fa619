package web

import (
	_ "embed" // for callers.html
	"html/template"
	"io"
)

//go:embed callers.html
var callersHTML string

var callersTemplate = template.Must(template.New("callers").Parse(callersHTML))

// CallersPage is the page that an agent sees when a number does not lead to
// exactly one customer: the customers to choose from, and links into the CRM.
// Every URL must use https.
type CallersPage struct {
	Site, Title, Number, Note string
	Customers                 []CallerLink
	Links                     []CallerLink
}

// CallerLink is a link to a customer or to another page of a CRM.
type CallerLink struct{ Name, URL, About string }

// Write renders the page.
func (p CallersPage) Write(w io.Writer) error {
	return callersTemplate.Execute(w, struct {
		CallersPage
		Style string
	}{p, assetName("site.css")})
}
