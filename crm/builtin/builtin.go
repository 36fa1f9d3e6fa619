// Package builtin lists the CRMs that this binary speaks.
package builtin

import (
	"calltracker/crm"
	"calltracker/crm/kustomer"
	"calltracker/crm/zendesk"
)

// Drivers are all of them, sorted by name. One more is its own folder and one
// line here.
func Drivers() []crm.Driver {
	return []crm.Driver{
		kustomer.Driver(),
		zendesk.Driver(),
	}
}
