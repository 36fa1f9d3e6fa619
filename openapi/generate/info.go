package main

import (
	"fmt"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

const (
	contactName = "calltracker maintainers"
	licenseName = "Apache-2.0"
	licenseURL  = "https://www.apache.org/licenses/LICENSE-2.0"
)

// tags returns the groups of operations, in the order in which the API browser
// lists them. An annotation @Tags names one of them.
func tags() openapi3.Tags {
	return openapi3.Tags{
		{Name: "Ziwo", Description: "Requests that Ziwo sends: start calls, end calls, and webhooks."},
		{Name: "calls", Description: "Stored calls, recordings, decisions, rejected requests, and reconciliation with Ziwo."},
		{Name: "live", Description: "Current calls and agents, and click-to-call."},
		{Name: "configuration", Description: "The configuration document, its versions, and simulation."},
		{Name: "connections", Description: "CRM accounts and their state."},
		{Name: "sites", Description: "Signed tokens for the scripts of a site."},
		{Name: "secrets", Description: "Stored secrets that the configuration refers to. Their values cannot be read."},
		{Name: "browsers", Description: "Scripts, configurations, and pages for web browsers, and the CRM lookup of the pop-up."},
		{Name: "operation", Description: "Health, metrics, jobs, and this description."},
	}
}

// checkTags returns an error unless all tags of an operation are declared, and
// there is at least one.
func checkTags(names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("no @Tags: use one of %s", tagNames())
	}
	for _, name := range names {
		if tags().Get(name) == nil {
			return fmt.Errorf("unknown tag %q: use one of %s, or add it to openapi/generate/info.go", name, tagNames())
		}
	}
	return nil
}

func tagNames() []string {
	var names []string
	for _, tag := range tags() {
		names = append(names, tag.Name)
	}
	return names
}

// usedTags returns the tags that at least one operation has.
func usedTags(paths *openapi3.Paths) openapi3.Tags {
	used := map[string]bool{}
	for _, item := range paths.Map() {
		for _, operation := range item.Operations() {
			for _, name := range operation.Tags {
				used[name] = true
			}
		}
	}
	return slices.DeleteFunc(tags(), func(tag *openapi3.Tag) bool { return !used[tag.Name] })
}
