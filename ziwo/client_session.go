package ziwo

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// session holds the access token. Ziwo does not say how long one lives: it is
// used until it is refused, and then there is one new login for all who wait.
type session struct {
	given     Credentials
	loggingIn chan struct{} // held while logging in: a lock that a context can leave

	mu      sync.Mutex
	token   string
	refusal error     // why the last login failed for good
	until   time.Time // and how long it is not tried again
}

// loginPause keeps wrong credentials from locking the account: Ziwo is not
// asked again before it has passed.
const loginPause = time.Minute

func newSession(given Credentials) session {
	return session{given: given, token: given.AccessToken, loggingIn: make(chan struct{}, 1)}
}

// secrets are all that must not be repeated.
func (s *session) secrets(more ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, secret := range append(more, s.token, s.given.Password, s.given.AccessToken) {
		const shortest = 4 // what is shorter would tear words apart and protects nothing
		if len(secret) >= shortest {
			out = append(out, secret)
		}
	}
	return out
}

// known is the token, or why there is none for now.
func (s *session) known(stale string, now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && s.token != stale {
		return s.token, nil
	}
	if s.refusal != nil && now.Before(s.until) {
		return "", s.refusal
	}
	return "", nil
}

// token is a token that is not stale; it logs in when there is none.
func (c *Client) token(ctx context.Context, stale string) (string, error) {
	s := &c.session
	if token, err := s.known(stale, c.now()); token != "" || err != nil {
		return token, err
	}
	select {
	case s.loggingIn <- struct{}{}:
		defer func() { <-s.loggingIn }()
	case <-ctx.Done():
		return "", c.failed("log in", ctx.Err())
	}
	if token, err := s.known(stale, c.now()); token != "" || err != nil { // somebody else did
		return token, err
	}
	token, err := c.login(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.refusal = token, nil
	var failure *APIError
	if errors.As(err, &failure) && (failure.Kind == Unauthorized || failure.Kind == Rejected) {
		s.refusal, s.until = err, c.now().Add(loginPause)
	}
	return token, err
}

// login asks for a token.
func (c *Client) login(ctx context.Context) (string, error) {
	const op = "log in"
	given := c.session.given
	switch {
	case given.Username != "" && given.Password != "":
	case given.AccessToken != "":
		return "", &APIError{Op: op, Kind: Unauthorized, Status: http.StatusUnauthorized, Message: "Ziwo does not take the access_token of the contact center"}
	default:
		return "", &APIError{Op: op, Kind: Unauthorized, Message: "the contact center has neither a username and a password nor an access_token"}
	}
	a, err := c.once(ctx, request{
		op: op, method: http.MethodPost, path: "/auth/login", auth: byNothing,
		form: url.Values{"username": {given.Username}, "password": {given.Password}, "remember": {"true"}, "deviceType": {"Web"}},
	}, "")
	if err != nil {
		return "", err
	}
	// Where the token stands differs between versions.
	token := a.content.field("access_token", "accessToken", "token", "user.access_token", "data.access_token", "data.token")
	if token == "" {
		return "", &APIError{Op: op, Kind: Unreadable, Message: "the answer has no access_token"}
	}
	return token, nil
}
