package popup

import (
	"calltracker/config"
	"calltracker/crm"
	"calltracker/storage"
	"calltracker/ziwo"
)

// CallerPage is the result of looking up a caller.
type CallerPage struct {
	Status    crm.State          `json:"status" enums:"found,many,none,skipped,unavailable"`
	URL       string             `json:"url" example:"https://acme.zendesk.com/agent/users/7236"`
	Number    string             `json:"number" example:"+971501234567"`
	Customers []storage.Customer `json:"customers"`

	answers []crm.Answer
}

// AppendJSON appends the page as encoding/json encodes it, except for HTML escapes. It
// is fast because every agent's browser sends a request when phones ring.
func (p CallerPage) AppendJSON(dst []byte) []byte {
	dst = ziwo.AppendString(append(dst, `{"status":`...), string(p.Status))
	dst = ziwo.AppendString(append(dst, `,"url":`...), p.URL)
	dst = ziwo.AppendString(append(dst, `,"number":`...), p.Number)
	dst = append(dst, `,"customers":[`...)
	for i, c := range p.Customers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = ziwo.AppendString(append(dst, `{"connection":`...), c.Connection)
		dst = ziwo.AppendString(append(dst, `,"id":`...), c.ID)
		dst = ziwo.AppendString(append(dst, `,"name":`...), c.Name)
		dst = ziwo.AppendString(append(dst, `,"url":`...), c.URL)
		dst = ziwo.AppendString(append(dst, `,"matchedBy":`...), c.MatchedBy)
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// CRMPage is a page of a CRM connection.
type CRMPage struct{ Connection, URL string }

// SearchPages returns the pages that search the CRMs for the number.
func (p CallerPage) SearchPages() []CRMPage {
	return p.pages(func(a crm.Answer) string { return a.SearchURL })
}

// CreatePages returns the pages that create a customer with the number.
func (p CallerPage) CreatePages() []CRMPage {
	return p.pages(func(a crm.Answer) string { return a.CreateURL })
}

func (p CallerPage) pages(of func(crm.Answer) string) (pages []CRMPage) {
	for _, a := range p.answers {
		if address := of(a); address != "" {
			pages = append(pages, CRMPage{a.Connection, address})
		}
	}
	return pages
}

// pageToOpen returns the page to open according to the site's settings.
func (p CallerPage) pageToOpen(popup *config.Popup) string {
	first := func(pages []CRMPage) string {
		if len(pages) == 0 {
			return ""
		}
		return pages[0].URL
	}
	var choice string
	switch p.Status {
	case crm.Found:
		return p.Customers[0].URL
	case crm.Many:
		if popup.Many == "first" {
			return p.Customers[0].URL
		}
		choice = popup.Many
	case crm.None:
		if creates := p.CreatePages(); popup.None == "create" && len(creates) > 0 {
			return first(creates)
		}
		choice = popup.None
	case crm.Unknown:
		choice = popup.Unavailable
	default:
		return ""
	}
	if choice == "nothing" {
		return ""
	}
	return first(p.SearchPages())
}
