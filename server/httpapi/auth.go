package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/access"
)

// requireAdmin serves only requests with the admin token, which it compares in
// constant time.
func (s *API) requireAdmin(next echo.HandlerFunc) echo.HandlerFunc {
	want := sha256.Sum256([]byte(s.AdminToken))
	return func(c echo.Context) error {
		scheme, token, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1 {
			return next(c)
		}
		err := s.Keys.WrongKey(token, "admin "+clientAddress(c))
		if errors.Is(err, access.ErrUnauthorized) {
			return errNoAdminToken
		}
		return err
	}
}

// trackerKey returns the key in a request from Ziwo: the X-API-Key header, or the
// password of HTTP Basic.
func trackerKey(req *http.Request) string {
	if key := req.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	_, password, _ := req.BasicAuth()
	return password
}

// clientAddress returns the address for which invalid keys are counted: an IPv4
// address, or the /64 network of an IPv6 address, because one client may use
// every address of its network.
func clientAddress(c echo.Context) string {
	text := c.RealIP()
	if !strings.Contains(text, ":") {
		return text
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return text
	}
	return network.String()
}
