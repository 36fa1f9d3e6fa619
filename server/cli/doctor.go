package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/handlers/register"
	"calltracker/handlers/ziwoclients"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/ziwo"
)

type doctorCommand struct {
	ziwoFlags `embed:""`
}

// report prints one line per check, and counts warnings and failures.
type report struct {
	out io.Writer
	style
	failures, warnings int
}

func (r *report) print(color, word, format string, args ...any) {
	fmt.Fprintf(r.out, "%s%-5s%s %s\n", color, word, r.off, fmt.Sprintf(format, args...))
}

func (r *report) ok(format string, args ...any) { r.print(r.good, "ok", format, args...) }

func (r *report) warning(format string, args ...any) {
	r.warnings++
	r.print(r.warn, "warn", format, args...)
}

func (r *report) fail(format string, args ...any) {
	r.failures++
	r.print(r.bad, "FAIL", format, args...)
}

// Run makes every check, even after a failure. It returns ErrReported if one failed.
func (cmd *doctorCommand) Run(ctx context.Context, t *Terminal) error {
	ctx, cancel := context.WithTimeout(ctx, ziwoTimeout)
	defer cancel()
	set, err := cmd.load(t)
	if err != nil {
		return err
	}
	r := &report{out: t.Out, style: styleFor(t.Out)}
	for _, reference := range slices.Sorted(maps.Keys(cmd.unresolved)) {
		r.warning("%s has no value on this machine: %s", reference, cmd.unresolved[reference])
	}
	if cmd.checkPublicURL(ctx, r) {
		cmd.checkKeys(ctx, r, set)
	} else {
		r.warning("trackers: keys not checked: first start the server, or correct CALLTRACKER_PUBLIC_URL")
	}
	known := cmd.doc.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		cmd.checkContactCenter(ctx, r, set, name, known[name])
	}
	fmt.Fprintf(t.Out, "%s, %s\n", count(r.failures, "failure"), count(r.warnings, "warning"))
	if r.failures > 0 {
		return ErrReported
	}
	return nil
}

// Thresholds of the checks.
const (
	probeTimeout       = 10 * time.Second
	clockWarning       = 5 * time.Second // difference between the clocks
	clockFailure       = time.Minute
	certificateWarning = 14 * 24 * time.Hour // remaining validity
)

// probeResult is the response to a probe.
type probeResult struct {
	status      int
	certificate *x509.Certificate // nil without TLS
}

// probe sends a request without a body.
func probe(ctx context.Context, method, target, key string) (probeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		return probeResult{}, err
	}
	if key != "" {
		req.Header.Set("X-Api-Key", key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) { // the report has the URL already
			err = withURL.Err
		}
		return probeResult{}, err
	}
	defer res.Body.Close()
	out := probeResult{status: res.StatusCode}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		out.certificate = res.TLS.PeerCertificates[0]
	}
	return out, nil
}

// checkPublicURL requests the public URL from this machine, and reports whether the
// server answered. Only Ziwo's own test shows whether Ziwo can reach it.
func (cmd *doctorCommand) checkPublicURL(ctx context.Context, r *report) bool {
	got, err := probe(ctx, http.MethodGet, cmd.PublicURL+"/healthz", "")
	var wrong *tls.CertificateVerificationError
	switch {
	case errors.As(err, &wrong):
		r.fail("%s: invalid certificate: %v", cmd.PublicURL, wrong.Err)
		return false
	case err != nil:
		r.fail("%s cannot be reached from this machine: %v", cmd.PublicURL, err)
		return false
	case got.status != http.StatusOK:
		r.fail("%s/healthz responds with %d: is this calltracker?", cmd.PublicURL, got.status)
		return false
	}
	r.ok("%s can be reached from this machine", cmd.PublicURL)
	if got.certificate == nil {
		r.warning("%s does not use https: keys and phone numbers are sent as plain text", cmd.PublicURL)
	} else if left := time.Until(got.certificate.NotAfter); left < certificateWarning {
		r.warning("TLS: the certificate expires in %d days", int(left.Hours()/24))
	} else {
		r.ok("TLS: the certificate is valid for %d days", int(left.Hours()/24))
	}
	if u, err := url.Parse(cmd.PublicURL); err == nil && isLoopback(u.Hostname()) {
		r.warning("%s is this machine, so Ziwo cannot reach it", cmd.PublicURL)
	}
	return true
}

// checkKeys sends requests without a body to the running server. If it rejects one
// for the missing body, the key is valid.
func (cmd *doctorCommand) checkKeys(ctx context.Context, r *report, set *rules.Set) {
	for _, id := range set.Trackers() {
		doc := cmd.doc.Trackers[id]
		for _, side := range []struct {
			name, path string
			list       config.KeyList
		}{{"start", "/startCall", doc.Keys.Start}, {"end", "/endCall", doc.Keys.End}} {
			at := "trackers." + id + ".keys." + side.name
			key := ""
			switch {
			case side.list.Open:
				r.warning("%s: open, so anyone may send %s calls", at, side.name)
			case len(side.list.Keys) == 0:
				r.fail("%s: no key, so every %s call is rejected", at, side.name)
				continue
			default:
				if key = side.list.Keys[0].Reveal(); key == "" {
					r.warning("%s: not checked, because it has no value on this machine", at)
					continue
				}
			}
			got, err := probe(ctx, http.MethodPost, cmd.PublicURL+"/callTrackers/"+url.PathEscape(id)+side.path, key)
			switch {
			case err != nil:
				r.fail("%s: %v", at, err)
			case got.status == http.StatusBadRequest, got.status == http.StatusForbidden && doc.Blocked:
				r.ok("%s: the server accepts it", at)
			case got.status == http.StatusUnauthorized:
				r.fail("%s: the server rejects it; has this configuration been applied? (calltracker apply)", at)
			case got.status == http.StatusNotFound:
				r.fail("trackers.%s: not on the server; has this configuration been applied? (calltracker apply)", id)
			default:
				r.fail("%s: the server responds with %d", at, got.status)
			}
		}
	}
}

// checkContactCenter checks credentials, clock, trackers, and numbers of a contact
// center.
func (cmd *doctorCommand) checkContactCenter(ctx context.Context, r *report, set *rules.Set, name string, doc config.ContactCenter) {
	at := "contact_centers." + name
	client, err := ziwo.NewClient(ziwoclients.ClientOptions(name, doc))
	if err != nil {
		r.fail("%s: %v", at, err)
		return
	}
	defer client.Close()
	sent := time.Now()
	profile, err := client.Profile(ctx)
	if err != nil {
		r.fail("%s: %v", at, err)
		return
	}
	r.ok("%s: logged in to %s as %s", at, client.Host(), printable(profile.Username))
	if !profile.At.IsZero() {
		// Ziwo's Date header has whole seconds, and the request took some time.
		switch difference := profile.At.Sub(sent).Abs(); {
		case difference > clockFailure:
			r.fail("%s: the clocks of this machine and Ziwo differ by %s", at, difference.Round(time.Second))
		case difference > clockWarning:
			r.warning("%s: the clocks of this machine and Ziwo differ by %s", at, difference.Round(time.Second))
		default:
			r.ok("%s: the clocks of this machine and Ziwo agree", at)
		}
	}
	if doc.APIKey.Reveal() == "" {
		r.warning("%s: no api_key, so click-to-call is not available", at)
	} else if _, _, err := client.AgentCall(ctx, "0000"); err != nil && ziwo.KindOf(err) != ziwo.NotFound && ziwo.KindOf(err) != ziwo.Rejected {
		r.fail("%s: CTI: %v", at, err)
	} else {
		r.ok("%s: CTI accepts the api_key", at)
	}
	cmd.checkTrackers(ctx, r, set, name, client)
	cmd.checkNumbers(ctx, r, set, name, client)
}

// checkTrackers compares Ziwo's call trackers with the configuration.
func (cmd *doctorCommand) checkTrackers(ctx context.Context, r *report, set *rules.Set, name string, client *ziwo.Client) {
	have, err := client.Trackers(ctx)
	if err != nil {
		r.fail("contact_centers.%s: %v", name, err)
		return
	}
	plan, err := cmd.registration().Plan(cmd.doc, set, name, have)
	if err != nil {
		r.warning("contact_centers.%s: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, p := range plan {
		switch {
		case p.Action == register.PlanCreate:
			r.fail("trackers.%s: not in Ziwo (calltracker ziwo register)", p.Tracker)
		case p.Action == register.PlanUpdate:
			var fields []string
			for _, change := range p.Changes {
				fields = append(fields, change.Field)
			}
			r.fail("trackers.%s: differs in Ziwo: %s (calltracker ziwo register)", p.Tracker, strings.Join(fields, ", "))
		case p.Action == register.PlanUnchanged:
			r.ok("trackers.%s: Ziwo matches the configuration", p.Tracker)
		case p.Stale:
			r.warning("Ziwo's call tracker %s calls this server, but the configuration does not have it", printable(p.Have.Name))
		}
	}
}

// checkNumbers compares the call trackers of Ziwo's numbers with the numbers of the
// trackers in the configuration.
func (cmd *doctorCommand) checkNumbers(ctx context.Context, r *report, set *rules.Set, name string, client *ziwo.Client) {
	numbers, err := client.Numbers(ctx)
	if err != nil {
		r.warning("contact_centers.%s: numbers not checked: %v", name, err)
		return
	}
	trackerOf := map[string]string{} // trackers by number in E.164
	region := set.Region(name)
	for _, n := range numbers {
		if !n.RoutesToTracker() {
			continue
		}
		router, ok := set.Router(n.LinkData)
		if !ok {
			r.warning("number %s is routed to Ziwo's call tracker %s, which the configuration does not have", printable(n.DIDCalled), printable(n.LinkData))
			continue
		}
		if router.Region() != "" {
			region = router.Region()
		}
		trackerOf[phone.Parse(n.DIDCalled, region).Key()] = n.LinkData
		if _, listed := router.FindDID(n.DIDCalled); !listed {
			r.warning("number %s is routed to trackers.%s, which does not list it", printable(n.DIDCalled), printable(n.LinkData))
		}
	}
	for _, id := range set.Trackers() {
		router, _ := set.Router(id)
		if router.ContactCenter() != name {
			continue
		}
		missing := 0
		for _, did := range cmd.doc.Trackers[id].Numbers {
			if trackerOf[phone.Parse(did.DID, router.Region()).Key()] != id {
				missing++
				r.warning("trackers.%s lists %s, which Ziwo does not route to it", id, printable(did.DID))
			}
		}
		if missing == 0 {
			r.ok("trackers.%s: Ziwo routes all its numbers to it", id)
		}
	}
}
