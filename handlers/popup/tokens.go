package popup

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"

	"calltracker/problem"
)

// Token lifetimes.
const (
	defaultTokenLife = time.Hour
	minTokenLife     = time.Minute
	maxTokenLife     = 12 * time.Hour
)

// SiteToken is a signed token for a site.
type SiteToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Tokens issues and validates the tokens of sites. It is safe for concurrent use.
type Tokens struct {
	key []byte
	now func() time.Time

	macs sync.Pool // hash.Hash values initialized with key
}

// NewTokens returns Tokens. All replicas must use the same key.
func NewTokens(key []byte, now func() time.Time) *Tokens {
	if len(key) == 0 || now == nil {
		panic("popup.NewTokens: key and now are required")
	}
	return &Tokens{key: key, now: now}
}

// Issue returns a token for a site that is valid for the given life; 0 means one hour.
// Errors: *problem.Invalid.
func (t *Tokens) Issue(site string, life time.Duration) (SiteToken, error) {
	life = cmp.Or(life, defaultTokenLife)
	if life < minTokenLife || life > maxTokenLife {
		return SiteToken{}, problem.Errorf("ttl", "must be from %d to %d seconds", int(minTokenLife.Seconds()), int(maxTokenLife.Seconds()))
	}
	expires := t.now().Add(life).UTC().Truncate(time.Second)
	return SiteToken{Token: t.sign(site, expires), ExpiresAt: expires}, nil
}

// tokenEncoding is strict, so that each signature has exactly one encoding.
var tokenEncoding = base64.RawURLEncoding.Strict()

// sign returns a token: its expiry, and a signature over the expiry and the site.
func (t *Tokens) sign(site string, expires time.Time) string {
	until := strconv.FormatInt(expires.Unix(), 36)
	signature := t.signature(site, until)
	return until + "." + tokenEncoding.EncodeToString(signature[:])
}

func (t *Tokens) signature(site, until string) (sum [sha256.Size]byte) {
	mac, pooled := t.macs.Get().(hash.Hash)
	if !pooled {
		mac = hmac.New(sha256.New, t.key)
	}
	defer t.macs.Put(mac)
	mac.Reset()
	text := make([]byte, 0, 128) // usually large enough to stay on the stack
	text = append(text, "site token 1\n"...)
	text = append(append(text, until...), '\n')
	_, _ = mac.Write(append(text, site...)) // never returns an error
	mac.Sum(sum[:0])
	return sum
}

// valid reports whether token was issued for the site and has not expired.
func (t *Tokens) valid(site, token string) bool {
	until, text, _ := strings.Cut(token, ".")
	seconds, err := strconv.ParseInt(until, 36, 64)
	if err != nil || len(text) != tokenEncoding.EncodedLen(sha256.Size) {
		return false
	}
	var given [sha256.Size]byte
	if _, err := tokenEncoding.Decode(given[:], []byte(text)); err != nil {
		return false
	}
	signature := t.signature(site, until)
	return hmac.Equal(signature[:], given[:]) && t.now().Before(time.Unix(seconds, 0))
}
