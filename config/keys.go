package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"slices"
)

// KeyRing is the compiled form of a KeyList, against which the key of a request
// is checked. The zero value admits no key. It is immutable and safe for
// concurrent use.
type KeyRing struct {
	open   bool
	hashes [][sha256.Size]byte
}

// Ring compiles the list.
func (l KeyList) Ring() KeyRing {
	if l.Open {
		return KeyRing{open: true}
	}
	return newKeyRing(l.Keys)
}

func newKeyRing(keys []Secret) KeyRing {
	var ring KeyRing
	for _, key := range keys {
		if value := key.Reveal(); value != "" { // an empty key would admit requests without one
			ring.hashes = append(ring.hashes, sha256.Sum256([]byte(value)))
		}
	}
	return ring
}

// Admits reports whether key is one of the ring's. It takes the same time for
// every invalid key of a length.
func (r KeyRing) Admits(key string) bool {
	if r.open {
		return true
	}
	hash := sha256.Sum256([]byte(key))
	admitted := 0
	for i := range r.hashes {
		admitted |= subtle.ConstantTimeCompare(hash[:], r.hashes[i][:])
	}
	return admitted == 1
}

// WebhookKeys finds the contact center that the key of a call-history webhook
// belongs to. It is immutable and safe for concurrent use.
type WebhookKeys struct{ centers []webhookKeys }

type webhookKeys struct {
	contactCenter string
	ring          KeyRing
}

// WebhookKeys compiles the webhook keys of all contact centers.
func (d *Document) WebhookKeys() WebhookKeys {
	var out WebhookKeys
	for _, name := range slices.Sorted(maps.Keys(d.ContactCenters)) {
		out.centers = append(out.centers, webhookKeys{name, newKeyRing(d.ContactCenters[name].WebhookKeys)})
	}
	return out
}

// ContactCenter returns the contact center of a key. It compares the key with
// those of all contact centers, so that its time does not depend on which one
// matches.
func (w WebhookKeys) ContactCenter(key string) (name string, ok bool) {
	for _, center := range w.centers {
		if center.ring.Admits(key) && !ok {
			name, ok = center.contactCenter, true
		}
	}
	return name, ok
}
