package main

import (
	"crypto/hmac"
	"crypto/sha256"
)

// cacheKey derives the key that hides phone numbers in the shared cache. It is the
// same on every replica.
func cacheKey(secretKey []byte) []byte { return deriveKey(secretKey, "numbers in the cache") }

// siteTokenKey derives the key that signs site tokens.
func siteTokenKey(secretKey []byte) []byte { return deriveKey(secretKey, "calltracker site tokens") }

// deriveKey returns a key for one purpose. It reveals nothing about the secret key
// or the keys for other purposes.
func deriveKey(secretKey []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, secretKey)
	_, _ = mac.Write([]byte(purpose)) // never fails
	return mac.Sum(nil)
}
