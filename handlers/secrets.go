package handlers

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"calltracker/storage"
)

// Vault seals secrets under one key (AES-256-GCM). It is safe for concurrent use.
type Vault struct{ aead cipher.AEAD }

// NewVault makes a vault of a key of 32 bytes.
func NewVault(key []byte) (*Vault, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("the secret key has %d bytes; it must have 32", len(key))
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

// seal binds the value to its name, so that sealed values cannot be swapped.
func (v *Vault) seal(name, value string) []byte {
	return v.aead.Seal(nil, nil, []byte(value), []byte(name))
}

func (v *Vault) open(name string, sealed []byte) (string, error) {
	value, err := v.aead.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return "", fmt.Errorf("secret %q was sealed under another secret key; store it again", name)
	}
	return string(value), nil
}

// secretStore is what Secrets needs of a store.
type secretStore interface {
	PutSecret(ctx context.Context, s storage.Secret) error
	DeleteSecret(ctx context.Context, name string) error
	Secrets(ctx context.Context) ([]storage.Secret, error)
}

// Secrets keeps the values that ${secret:NAME} stands for. Only names and dates
// ever leave it.
type Secrets struct {
	Store  secretStore
	Vault  *Vault
	Config *ConfigController
	Now    func() time.Time
}

// SecretView is a secret as it is shown: without its value.
type SecretView struct {
	Name      string    `json:"name" example:"kustomer"`
	CreatedAt time.Time `json:"createdAt" format:"date-time"`
	UpdatedAt time.Time `json:"updatedAt" format:"date-time"`
	InUse     bool      `json:"inUse"` // the configuration refers to it
}

// SecretList is all secrets, by name.
type SecretList struct {
	Secrets []SecretView `json:"secrets"`
}

// SecretInput is the body of PUT /api/v1/secrets/{name}.
type SecretInput struct {
	Value string `json:"value" validate:"required,max=65536" example:"a-secret"`
}

var secretNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// List returns all secrets, sorted by name.
//
//	@Summary	List the secrets, without their values
//	@ID		listSecrets
//	@Tags		secrets
//	@Produce	json
//	@Success	200	{object}	SecretList
//	@Failure	401	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets [get]
func (h *Secrets) List(ctx context.Context) (SecretList, error) {
	stored, err := h.Store.Secrets(ctx)
	if err != nil {
		return SecretList{}, fmt.Errorf("list secrets: %w", err)
	}
	out := SecretList{Secrets: make([]SecretView, len(stored))}
	for i, s := range stored {
		out.Secrets[i] = h.view(s)
	}
	return out, nil
}

// Get returns one secret; storage.ErrNotFound when there is none.
//
//	@Summary	Show when a secret was stored, without its value
//	@ID		getSecret
//	@Tags		secrets
//	@Produce	json
//	@Param		name	path		string	true	"Name"
//	@Success	200		{object}	SecretView
//	@Failure	401		{object}	Problem
//	@Failure	404		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [get]
func (h *Secrets) Get(ctx context.Context, name string) (SecretView, error) {
	stored, err := h.Store.Secrets(ctx)
	if err != nil {
		return SecretView{}, fmt.Errorf("load secret %s: %w", shorten(name), err)
	}
	i := slices.IndexFunc(stored, func(s storage.Secret) bool { return s.Name == name })
	if i < 0 {
		return SecretView{}, fmt.Errorf("secret %q: %w", shorten(name), storage.ErrNotFound)
	}
	return h.view(stored[i]), nil
}

func (h *Secrets) view(s storage.Secret) SecretView {
	return SecretView{Name: s.Name, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, InUse: h.Config.references(s.Name)}
}

// Put stores a secret, sealed, and puts it in force where the configuration
// refers to it.
//
//	@Summary	Store a secret, encrypted
//	@ID		putSecret
//	@Tags		secrets
//	@Accept		json
//	@Produce	json
//	@Param		name	path		string		true	"Name"
//	@Param		body	body		SecretInput	true	"Value"
//	@Success	200		{object}	SecretView
//	@Failure	400		{object}	Problem
//	@Failure	401		{object}	Problem
//	@Failure	413		{object}	Problem
//	@Failure	415		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [put]
func (h *Secrets) Put(ctx context.Context, name string, in SecretInput) (SecretView, error) {
	if !secretNamePattern.MatchString(name) {
		return SecretView{}, invalid("name", "use up to 64 letters, digits, dots, dashes or underscores")
	}
	if err := validateInput(in); err != nil {
		return SecretView{}, err
	}
	now := h.Now().UTC()
	sealed := storage.Secret{Name: name, Sealed: h.Vault.seal(name, in.Value), CreatedAt: now, UpdatedAt: now}
	if err := h.Store.PutSecret(ctx, sealed); err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	if err := h.Config.Load(ctx); err != nil && !errors.Is(err, ErrNoConfig) {
		return SecretView{}, fmt.Errorf("put secret %s in force: %w", name, err)
	}
	return h.Get(ctx, name)
}

// Delete removes a secret; storage.ErrConflict when the configuration refers to it.
//
//	@Summary	Remove a secret
//	@ID		deleteSecret
//	@Tags		secrets
//	@Param		name	path	string	true	"Name"
//	@Success	204
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	409	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [delete]
func (h *Secrets) Delete(ctx context.Context, name string) error {
	if h.Config.references(name) {
		return fmt.Errorf("secret %q: the configuration refers to it: %w", shorten(name), storage.ErrConflict)
	}
	if err := h.Store.DeleteSecret(ctx, name); err != nil {
		return fmt.Errorf("delete secret %q: %w", shorten(name), err)
	}
	return nil
}

// Secret opens a secret that the last good document refers to; storage.ErrNotFound
// when it refers to none of that name.
func (l LastGood) Secret(v *Vault, name string) (string, error) {
	sealed, ok := l.sealedSecrets()[name]
	if !ok {
		return "", fmt.Errorf("secret %q: %w", shorten(name), storage.ErrNotFound)
	}
	return v.open(name, sealed)
}
