package handlers

import (
	"context"
	"slices"
	"time"

	"calltracker/crm"
	"calltracker/phone"
	"calltracker/rules"
)

// directory looks numbers up in the CRMs.
type directory interface {
	Find(ctx context.Context, q crm.Query) crm.Result
	Names() []string
}

// customerOf is what routes may know of a caller: what is cached, or comes within
// wait. The look-up goes on behind that, so that the pop-up of the agent who is
// rung next finds it done.
func lookUpCustomer(ctx context.Context, d directory, caller phone.Number, wait time.Duration) *rules.Customer {
	if d == nil || len(d.Names()) == 0 {
		return nil
	}
	q := crm.Query{Number: caller, Wait: wait}
	if wait <= 0 {
		q.Wait = -1
	}
	found := d.Find(ctx, q)
	switch found.State {
	case crm.Skipped:
		return &rules.Customer{Unknown: "the caller has no number to look up"}
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
