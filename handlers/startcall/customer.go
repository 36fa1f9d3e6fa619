package startcall

import (
	"context"
	"slices"
	"time"

	"calltracker/crm"
	"calltracker/phone"
	"calltracker/rules"
)

// customerDirectory looks up numbers in the CRMs.
type customerDirectory interface {
	Find(ctx context.Context, q crm.Query) crm.Result
	Names() []string
}

// lookUpCustomer returns the customer facts of a caller that are cached or arrive
// within wait. The lookup continues in the background, so that its result is ready
// for the screen pop of the agent whose phone rings next.
func lookUpCustomer(ctx context.Context, d customerDirectory, caller phone.Number, wait time.Duration) *rules.Customer {
	if len(d.Names()) == 0 {
		return nil
	}
	q := crm.Query{Number: caller, Wait: wait}
	if wait <= 0 {
		q.Wait = -1
	}
	found := d.Find(ctx, q)
	switch found.State {
	case crm.Skipped:
		return &rules.Customer{Unknown: "the caller number cannot be looked up"}
	case crm.Unknown:
		i := slices.IndexFunc(found.Answers, func(a crm.Answer) bool { return a.State == crm.Unknown })
		return &rules.Customer{Unknown: found.Answers[i].Connection + ": " + found.Answers[i].Err.Message}
	}
	out := &rules.Customer{Found: len(found.Customers) > 0}
	for _, c := range found.Customers {
		if out.Connection == "" {
			out.Connection = c.Connection
		}
		for _, tag := range c.Tags {
			if !slices.Contains(out.Tags, tag) {
				out.Tags = append(out.Tags, tag)
			}
		}
	}
	return out
}
