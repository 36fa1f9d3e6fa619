// Package clicktocall starts outbound calls: Ziwo rings an agent and then calls the
// customer.
package clicktocall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/handlers/ziwoclients"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/ziwo"
)

// startTimeout is the timeout for Ziwo's answer that it rings the agent.
const startTimeout = 10 * time.Second

// ccLogin matches the login of an agent at Ziwo. Known logins consist of digits
// with leading zeros.
var ccLogin = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._@-]{0,63}$`)

// Dialer starts calls through the contact centers of the active configuration. It is
// safe for concurrent use.
type Dialer struct {
	config  *config.Controller
	clients *ziwoclients.Clients
	numbers *phone.Cache
	logger  *slog.Logger
}

// New returns a Dialer.
func New(controller *config.Controller, clients *ziwoclients.Clients, numbers *phone.Cache, logger *slog.Logger) *Dialer {
	if controller == nil || clients == nil || numbers == nil || logger == nil {
		panic("clicktocall.New: controller, clients, numbers, and logger are required")
	}
	return &Dialer{config: controller, clients: clients, numbers: numbers, logger: logger}
}

// Input is the body of POST /api/v1/calls.
type Input struct {
	Agent         string `json:"agent" validate:"required,max=64" maxLength:"64" example:"0026"`                 // ccLogin of the agent
	Number        string `json:"number" validate:"required,max=64" maxLength:"64" example:"+971501234567"`       // number to call, in any format
	ContactCenter string `json:"contactCenter,omitempty" validate:"max=100" maxLength:"100" example:"aldebaran"` // optional if only one is configured
} // @name ClickToCallInput

// View is a call that Ziwo has started.
type View struct {
	ContactCenter string `json:"contactCenter" example:"aldebaran"`
	Agent         string `json:"agent" example:"0026"`
	Number        string `json:"number" example:"+971501234567"`
	CallID        string `json:"callID"` // call ID assigned by Ziwo; empty if Ziwo returns none
} // @name ClickToCallView

// ContactCenterError reports a request that a contact center did not carry out, or
// may not have carried out. Its text may be shown to the client.
type ContactCenterError struct {
	ContactCenter string
	Kind          ziwo.ErrorKind
	Uncertain     bool          // whether the request may have been carried out
	RetryAfter    time.Duration // wait requested by Ziwo; 0 if none
	Message       string
}

func (e *ContactCenterError) Error() string {
	return fmt.Sprintf("contact center %s: %s", e.ContactCenter, e.Message)
}

// Call asks Ziwo to ring the agent. When the agent answers, Ziwo calls the number.
// The request is sent once, because a retry could ring the agent twice. Errors:
// *problem.Invalid, config.ErrNoConfig, *ContactCenterError.
func (d *Dialer) Call(ctx context.Context, in Input) (View, error) {
	if err := problem.Validate(in); err != nil {
		return View{}, err
	}
	snapshot := d.config.Current()
	if snapshot == nil {
		return View{}, config.ErrNoConfig
	}
	var report problem.Report
	if !ccLogin.MatchString(in.Agent) {
		report.Errorf("agent", "is not an agent login; use the ccLogin, such as 0026")
	}
	contactCenter, reason := chooseContactCenter(snapshot.Document.ContactCenters, in.ContactCenter)
	if reason != "" {
		report.Errorf("contactCenter", "%s", reason)
	}
	region := snapshot.Set.Region(contactCenter)
	number := d.numbers.Parse(in.Number, region)
	switch {
	case number.E164 != "":
	case region == "" && reason == "":
		report.Errorf("number", "is not a valid phone number; use the international format with + and the country code, because the trackers of %s have no common region", contactCenter)
	default:
		report.Errorf("number", "is not a valid phone number; use a format such as +971501234567")
	}
	if len(report.Problems) > 0 {
		return View{}, &problem.Invalid{Problems: report.Problems}
	}
	client, err := d.clients.Client(contactCenter)
	if err != nil {
		return View{}, fmt.Errorf("click to call: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	callID, err := client.ClickToCall(ctx, in.Agent, "00"+strings.TrimPrefix(number.E164, "+"))
	attrs := []slog.Attr{slog.String("contact_center", contactCenter), slog.String("agent", in.Agent), slog.Any("number", number)}
	if err != nil {
		d.logger.LogAttrs(ctx, slog.LevelWarn, "click to call failed", append(attrs, slog.String("error", redactNumber(err.Error(), number)))...)
		return View{}, dialError(contactCenter, number, err)
	}
	d.logger.LogAttrs(ctx, slog.LevelInfo, "click to call started", append(attrs, slog.String("call_id", callID))...)
	return View{ContactCenter: contactCenter, Agent: in.Agent, Number: number.E164, CallID: callID}, nil
}

// chooseContactCenter returns the contact center to use, or the reason why the given
// name is invalid.
func chooseContactCenter(centers map[string]config.ContactCenter, name string) (contactCenter, reason string) {
	var callable []string
	for _, known := range slices.Sorted(maps.Keys(centers)) {
		if centers[known].APIKey.Reveal() != "" {
			callable = append(callable, known)
		}
	}
	_, known := centers[name]
	switch {
	case name != "" && !known:
		return "", fmt.Sprintf("unknown contact center %q", problem.Clip(name))
	case name != "" && !slices.Contains(callable, name):
		return "", fmt.Sprintf("contact center %q has no api_key, which Ziwo requires for this request", name)
	case name != "":
		return name, ""
	case len(callable) == 1:
		return callable[0], ""
	case len(callable) == 0:
		return "", "no contact center has an api_key, which Ziwo requires for this request"
	default:
		return "", "is required because several are configured: " + strings.Join(callable, ", ")
	}
}

// dialError converts an error of Ziwo's API to an error for the client.
func dialError(contactCenter string, number phone.Number, err error) error {
	var failure *ziwo.APIError
	if !errors.As(err, &failure) {
		return err
	}
	if failure.Kind == ziwo.NotFound {
		return problem.Errorf("agent", "is unknown to Ziwo; use the ccLogin, such as 0026")
	}
	out := &ContactCenterError{ContactCenter: contactCenter, Kind: failure.Kind, RetryAfter: failure.RetryAfter}
	const mayRing = "; the phone may still ring, so check /api/v1/live before retrying"
	switch failure.Kind {
	case ziwo.Rejected:
		out.Message = "Ziwo refused the call"
	case ziwo.Unauthorized:
		out.Message = "Ziwo rejects the api_key, or the key may not start calls"
	case ziwo.RateLimited:
		out.Message = "Ziwo's rate limit is exceeded; try again later"
	case ziwo.Unreadable:
		out.Uncertain, out.Message = true, "Ziwo sent an unreadable answer"+mayRing
	default:
		out.Uncertain = failure.Status == 0 && !dialFailed(failure)
		switch {
		case out.Uncertain:
			out.Message = "Ziwo did not answer" + mayRing
		case failure.Status == 0:
			out.Message = "Ziwo is unreachable; try again later"
		default:
			out.Message = "Ziwo returned a server error; try again later"
		}
	}
	if ziwoMessage := redactNumber(failure.Message, number); ziwoMessage != "" {
		out.Message += fmt.Sprintf(" (Ziwo's message: %s)", ziwoMessage)
	}
	return out
}

// dialFailed reports whether a request was never sent because the connection could
// not be opened.
func dialFailed(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == "dial"
}

// redactNumber redacts a number in external text that may be logged.
func redactNumber(text string, n phone.Number) string {
	forms := []string{n.E164, "00" + strings.TrimPrefix(n.E164, "+"), strings.TrimPrefix(n.E164, "+"), n.Raw, n.National()}
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // longest first, because it contains the others
	for _, form := range forms {
		if form != "" {
			text = strings.ReplaceAll(text, form, n.String())
		}
	}
	return text
}
