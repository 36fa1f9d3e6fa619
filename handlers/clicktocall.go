package handlers

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

	"calltracker/phone"
	"calltracker/rules"
	"calltracker/ziwo"
)

// clickToCallWait is how long Ziwo may take to say that it rings the agent.
const clickToCallWait = 10 * time.Second

// ccLogin is what an agent's login at Ziwo is made of: digits, as far as is
// known, with leading zeros.
var ccLogin = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._@-]{0,63}$`)

// ClickToCall rings an agent and then a customer.
type ClickToCall struct {
	Config  *ConfigController
	Clients *ZiwoClients
	Numbers *Numbers
	Logger  *slog.Logger
}

// ClickToCallInput says who calls whom.
type ClickToCallInput struct {
	Agent         string `json:"agent" validate:"required,max=64" maxLength:"64" example:"0026"`                 // the agent's ccLogin
	Number        string `json:"number" validate:"required,max=64" maxLength:"64" example:"+971501234567"`       // in any spelling
	ContactCenter string `json:"contactCenter,omitempty" validate:"max=100" maxLength:"100" example:"aldebaran"` // may be left out when there is one
}

// ClickToCallView is a call that Ziwo makes now.
type ClickToCallView struct {
	ContactCenter string `json:"contactCenter" example:"aldebaran"`
	Agent         string `json:"agent" example:"0026"`
	Number        string `json:"number" example:"+971501234567"`
	CallID        string `json:"callID"` // Ziwo's; empty when it gives none
}

// CenterFailure is something that a contact center did not do, or may not have
// done. Its text is fit for whoever asked.
type ContactCenterError struct {
	ContactCenter string
	Kind          ziwo.ErrorKind
	Uncertain     bool          // it may be done all the same
	RetryAfter    time.Duration // what Ziwo asks to wait; 0 when it does not
	Message       string
}

func (e *ContactCenterError) Error() string {
	return fmt.Sprintf("contact center %s: %s", e.ContactCenter, e.Message)
}

// Call has Ziwo ring the agent; once that phone is taken, Ziwo calls the number.
// It is asked once, since asking again would ring twice. Errors: *Invalid,
// ErrNoConfig, *CenterFailure.
//
//	@Summary		Click to call: ring an agent, then a customer
//	@Description	202 means that Ziwo rings the agent. 409 is Ziwo's refusal, such as an agent who is not logged in or is in a call. 504 means that it is not known whether the phone rings.
//	@ID			clickToCall
//	@Tags			live
//	@Accept			json
//	@Produce		json
//	@Param			body	body		ClickToCallInput	true	"Who calls whom"
//	@Success		202		{object}	ClickToCallView
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		409		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		502		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Failure		504		{object}	Problem
//	@Header			503		{integer}	Retry-After	"Seconds"
//	@Security	Bearer
//	@Router			/api/v1/calls [post]
func (h *ClickToCall) Call(ctx context.Context, in ClickToCallInput) (ClickToCallView, error) {
	if err := validateInput(in); err != nil {
		return ClickToCallView{}, err
	}
	snapshot := h.Config.Current()
	if snapshot == nil {
		return ClickToCallView{}, ErrNoConfig
	}
	problems := &Invalid{}
	addProblem := func(path, format string, args ...any) {
		problems.Errors = append(problems.Errors, FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if !ccLogin.MatchString(in.Agent) {
		addProblem("agent", "is no login of an agent; write the ccLogin, such as 0026")
	}
	contactCenter, problem := chooseContactCenter(snapshot.Set.Document().ContactCenters, in.ContactCenter)
	if problem != "" {
		addProblem("contactCenter", "%s", problem)
	}
	region := snapshot.Set.Region(contactCenter)
	number := h.Numbers.Parse(in.Number, region)
	switch {
	case number.E164 != "":
	case region == "" && problem == "":
		addProblem("number", "cannot be read as a telephone number; write it with + and the country code, since the trackers of %s name no common region", contactCenter)
	default:
		addProblem("number", "cannot be read as a telephone number; write it like +971501234567")
	}
	if len(problems.Errors) > 0 {
		return ClickToCallView{}, problems
	}
	client, err := h.Clients.Client(contactCenter)
	if err != nil {
		return ClickToCallView{}, fmt.Errorf("click to call: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, clickToCallWait)
	defer cancel()
	callID, err := client.ClickToCall(ctx, in.Agent, "00"+strings.TrimPrefix(number.E164, "+"))
	attrs := []slog.Attr{slog.String("contact_center", contactCenter), slog.String("agent", in.Agent), slog.Any("number", number)}
	if err != nil {
		h.Logger.LogAttrs(ctx, slog.LevelWarn, "click to call failed", append(attrs, slog.String("error", redactNumber(err.Error(), number)))...)
		return ClickToCallView{}, clickToCallError(contactCenter, number, err)
	}
	h.Logger.LogAttrs(ctx, slog.LevelInfo, "click to call", append(attrs, slog.String("call_id", callID))...)
	return ClickToCallView{ContactCenter: contactCenter, Agent: in.Agent, Number: number.E164, CallID: callID}, nil
}

// callingCenter is the contact center that is meant, or what is wrong with the
// name.
func chooseContactCenter(centers map[string]rules.ContactCenter, name string) (contactCenter, problem string) {
	var callable []string
	for _, known := range slices.Sorted(maps.Keys(centers)) {
		if centers[known].APIKey.Reveal() != "" {
			callable = append(callable, known)
		}
	}
	_, known := centers[name]
	switch {
	case name != "" && !known:
		return "", fmt.Sprintf("the configuration has no contact center %q", shorten(name))
	case name != "" && !slices.Contains(callable, name):
		return "", fmt.Sprintf("the contact center %q has no api_key, which Ziwo asks for", name)
	case name != "":
		return name, ""
	case len(callable) == 1:
		return callable[0], ""
	case len(callable) == 0:
		return "", "the configuration has no contact center with an api_key, which Ziwo asks for"
	default:
		return "", "is missing, and there are several: " + strings.Join(callable, ", ")
	}
}

// clickToCallFailure says what Ziwo's failure means to who clicked.
func clickToCallError(contactCenter string, number phone.Number, err error) error {
	var failure *ziwo.APIError
	if !errors.As(err, &failure) {
		return err
	}
	if failure.Kind == ziwo.NotFound {
		return invalid("agent", "Ziwo knows no agent with this login; write the ccLogin, such as 0026")
	}
	out := &ContactCenterError{ContactCenter: contactCenter, Kind: failure.Kind, RetryAfter: failure.RetryAfter}
	const mayRing = "; the phone may ring all the same, so look at /api/v1/live before trying again"
	switch failure.Kind {
	case ziwo.Rejected:
		out.Message = "Ziwo refuses"
	case ziwo.Unauthorized:
		out.Message = "Ziwo does not take its api_key, or does not let it call"
	case ziwo.RateLimited:
		out.Message = "Ziwo was asked too often; try again later"
	case ziwo.Unreadable:
		out.Uncertain, out.Message = true, "what Ziwo answered cannot be understood"+mayRing
	default:
		out.Uncertain = failure.Status == 0 && !dialFailed(failure)
		switch {
		case out.Uncertain:
			out.Message = "Ziwo gave no answer" + mayRing
		case failure.Status == 0:
			out.Message = "Ziwo cannot be reached now; try again later"
		default:
			out.Message = "Ziwo has a failure of its own; try again later"
		}
	}
	if ziwoMessage := redactNumber(failure.Message, number); ziwoMessage != "" {
		out.Message += fmt.Sprintf(" (it says: %s)", ziwoMessage)
	}
	return out
}

// neverSent tells of a request without an answer that there was no connection
// to send it on.
func dialFailed(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == "dial"
}

// hide redacts a number in words that come from elsewhere and may be logged.
func redactNumber(text string, n phone.Number) string {
	forms := []string{n.E164, "00" + strings.TrimPrefix(n.E164, "+"), strings.TrimPrefix(n.E164, "+"), n.Raw, n.National()}
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // the longest first: the others are parts of it
	for _, form := range forms {
		if form != "" {
			text = strings.ReplaceAll(text, form, n.String())
		}
	}
	return text
}
