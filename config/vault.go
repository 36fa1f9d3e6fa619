package config

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"calltracker/problem"
	"calltracker/storage"
)

// Vault seals secrets with one key (AES-256-GCM). It is safe for concurrent use.
type Vault struct{ aead cipher.AEAD }

// NewVault returns a vault that uses a 32-byte key.
func NewVault(key []byte) (*Vault, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("invalid secret key of %d bytes: use 32 bytes", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Vault{aead: aead}, nil
}

// Seal encrypts the value of a secret. It binds the value to the name, so that the sealed
// values of two secrets cannot be exchanged.
func (v *Vault) Seal(name, value string) []byte {
	return v.aead.Seal(nil, nil, []byte(value), []byte(name)) //nolint:gosec // the AEAD chooses a random nonce, so the nonce must be empty
}

func (v *Vault) open(name string, sealed []byte) (string, error) {
	value, err := v.aead.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return "", fmt.Errorf("secret %q was sealed with another secret key; store it again", name)
	}
	return string(value), nil
}

// Secret opens a secret that the last good document references. It returns
// storage.ErrNotFound if the document does not reference it.
func (l LastGood) Secret(v *Vault, name string) (string, error) {
	sealed, ok := l.sealedSecrets()[name]
	if !ok {
		return "", fmt.Errorf("secret %q: %w", problem.Clip(name), storage.ErrNotFound)
	}
	return v.open(name, sealed)
}
