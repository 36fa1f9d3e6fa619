// Package builtin lists the CRM drivers in this binary. It is separate from package
// crm because the drivers import that package.
package builtin

import (
	"calltracker/crm"
	"calltracker/crm/kustomer"
	"calltracker/crm/zendesk"
)

// Drivers returns all drivers, sorted by name. To add a driver, create its package
// and add a line here.
func Drivers() []crm.Driver {
	return []crm.Driver{
		kustomer.Driver(),
		zendesk.Driver(),
	}
}
