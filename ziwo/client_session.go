package ziwo

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// session holds the access token. Ziwo does not publish the lifetime of a token,
// so the client uses one until Ziwo rejects it. Concurrent requests then share a
// single login.
type session struct {
	credentials Credentials
	loginLock   chan struct{} // held during a login; unlike a mutex, waiting for it ends with the context

	mu                sync.Mutex
	token             string
	loginErr          error     // error of the last login that Ziwo rejected
	loginBlockedUntil time.Time // end of the pause after loginErr
}

// loginPause is the time between a rejected login and the next attempt. It keeps
// wrong credentials from locking the account.
const loginPause = time.Minute

func newSession(credentials Credentials) session {
	return session{credentials: credentials, token: credentials.AccessToken, loginLock: make(chan struct{}, 1)}
}

// secrets returns more and the secrets of the session. Errors must not contain any
// of them.
func (s *session) secrets(more ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, secret := range append(more, s.token, s.credentials.Password, s.credentials.AccessToken) {
		const shortest = 4 // masking a shorter one would garble words and protect nothing
		if len(secret) >= shortest {
			out = append(out, secret)
		}
	}
	return out
}

// known returns the current token unless it is stale. It returns "" if a login is
// needed, and an error if the last login was rejected less than loginPause ago.
func (s *session) known(stale string, now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && s.token != stale {
		return s.token, nil
	}
	if s.loginErr != nil && now.Before(s.loginBlockedUntil) {
		return "", s.loginErr
	}
	return "", nil
}

// token returns a token other than stale. It logs in if there is none.
func (c *Client) token(ctx context.Context, stale string) (string, error) {
	s := &c.session
	if token, err := s.known(stale, c.now()); token != "" || err != nil {
		return token, err
	}
	select {
	case s.loginLock <- struct{}{}:
		defer func() { <-s.loginLock }()
	case <-ctx.Done():
		return "", c.transportError("log in", ctx.Err())
	}
	if token, err := s.known(stale, c.now()); token != "" || err != nil { // another request has logged in
		return token, err
	}
	token, err := c.login(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.loginErr = token, nil
	var failure *APIError
	if errors.As(err, &failure) && (failure.Kind == Unauthorized || failure.Kind == Rejected) {
		s.loginErr, s.loginBlockedUntil = err, c.now().Add(loginPause)
	}
	return token, err
}

// login requests a token.
func (c *Client) login(ctx context.Context) (string, error) {
	const op = "log in"
	credentials := c.session.credentials
	switch {
	case credentials.Username != "" && credentials.Password != "":
	case credentials.AccessToken != "":
		return "", &APIError{Op: op, Kind: Unauthorized, Status: http.StatusUnauthorized, Message: "Ziwo rejected the access_token of the contact center"}
	default:
		return "", &APIError{Op: op, Kind: Unauthorized, Message: "the contact center needs a username and a password, or an access_token"}
	}
	res, err := c.sendOnce(ctx, request{
		op: op, method: http.MethodPost, path: "/auth/login", auth: withoutAuth,
		form: url.Values{"username": {credentials.Username}, "password": {credentials.Password}, "remember": {"true"}, "deviceType": {"Web"}},
	}, "")
	if err != nil {
		return "", err
	}
	// The position of the token differs between versions of the API.
	token := res.content.lookup("access_token", "accessToken", "token", "user.access_token", "data.access_token", "data.token")
	if token == "" {
		return "", &APIError{Op: op, Kind: Unreadable, Message: "the response has no access_token"}
	}
	return token, nil
}
