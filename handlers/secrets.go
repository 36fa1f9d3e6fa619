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

// seal binds the value to its name, so that sealed values cannot be exchanged.
func (v *Vault) seal(name, value string) []byte {
	return v.aead.Seal(nil, nil, []byte(value), []byte(name))
}

func (v *Vault) open(name string, sealed []byte) (string, error) {
	value, err := v.aead.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return "", fmt.Errorf("secret %q was sealed with another secret key; store it again", name)
	}
	return string(value), nil
}

// secretStore is the part of a store that Secrets uses.
type secretStore interface {
	PutSecret(ctx context.Context, s storage.Secret) error
	DeleteSecret(ctx context.Context, name string) error
	Secrets(ctx context.Context) ([]storage.Secret, error)
}

// Secrets stores the values that ${secret:NAME} references. It exposes only names
// and dates.
type Secrets struct {
	SecretsOptions
}

// SecretsOptions are what Secrets is made from. All fields are required.
type SecretsOptions struct {
	Store  secretStore
	Vault  *Vault
	Config *ConfigController
	Now    func() time.Time
}

// NewSecrets returns Secrets.
func NewSecrets(o SecretsOptions) *Secrets { return &Secrets{SecretsOptions: o} }

// SecretView is a secret without its value.
type SecretView struct {
	Name      string    `json:"name" example:"kustomer"`
	CreatedAt time.Time `json:"createdAt" format:"date-time"`
	UpdatedAt time.Time `json:"updatedAt" format:"date-time"`
	InUse     bool      `json:"inUse"` // whether the active configuration references the secret
}

// SecretList lists the secrets by name.
type SecretList struct {
	Secrets []SecretView `json:"secrets"`
}

// SecretInput is the body of PUT /api/v1/secrets/{name}.
type SecretInput struct {
	Value string `json:"value" validate:"required,max=65536" example:"a-secret"`
}

var secretNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// List returns the secrets, sorted by name.
//
//	@Summary	List the secrets
//	@Description	Returns the name and dates of each secret. Values are never returned.
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

// Get returns a secret. It returns storage.ErrNotFound if the secret does not exist.
//
//	@Summary	Get a secret
//	@Description	Returns the dates of a secret and whether the active configuration uses it. The value is never returned.
//	@ID		getSecret
//	@Tags		secrets
//	@Produce	json
//	@Param		name	path		string	true	"Secret name"
//	@Success	200		{object}	SecretView
//	@Failure	401		{object}	Problem
//	@Failure	404		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [get]
func (h *Secrets) Get(ctx context.Context, name string) (SecretView, error) {
	stored, err := h.Store.Secrets(ctx)
	if err != nil {
		return SecretView{}, fmt.Errorf("load secret %s: %w", problem.Clip(name), err)
	}
	i := slices.IndexFunc(stored, func(s storage.Secret) bool { return s.Name == name })
	if i < 0 {
		return SecretView{}, fmt.Errorf("secret %q: %w", problem.Clip(name), storage.ErrNotFound)
	}
	return h.view(stored[i]), nil
}

func (h *Secrets) view(s storage.Secret) SecretView {
	return SecretView{Name: s.Name, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, InUse: h.Config.references(s.Name)}
}

// Put seals and stores a secret, and reloads the configuration so that references
// to the secret use the new value.
//
//	@Summary	Store a secret
//	@Description	Stores the value encrypted and reloads the active configuration. An existing secret is replaced.
//	@ID		putSecret
//	@Tags		secrets
//	@Accept		json
//	@Produce	json
//	@Param		name	path		string		true	"Secret name"
//	@Param		body	body		SecretInput	true	"Secret value"
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
		return SecretView{}, problem.Errorf("name", "must have 1 to 64 letters, digits, dots, dashes, or underscores, and start with a letter or digit")
	}
	if err := Validate(in); err != nil {
		return SecretView{}, err
	}
	now := h.Now().UTC()
	sealed := storage.Secret{Name: name, Sealed: h.Vault.seal(name, in.Value), CreatedAt: now, UpdatedAt: now}
	if err := h.Store.PutSecret(ctx, sealed); err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	if err := h.Config.Load(ctx); err != nil && !errors.Is(err, ErrNoConfig) {
		return SecretView{}, fmt.Errorf("reload the configuration with secret %s: %w", name, err)
	}
	return h.Get(ctx, name)
}

// Delete removes a secret. It returns storage.ErrConflict if the active
// configuration references the secret.
//
//	@Summary	Delete a secret
//	@Description	Deletes a secret. A secret that the active configuration references cannot be deleted.
//	@ID		deleteSecret
//	@Tags		secrets
//	@Param		name	path	string	true	"Secret name"
//	@Success	204
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	409	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [delete]
func (h *Secrets) Delete(ctx context.Context, name string) error {
	if h.Config.references(name) {
		return fmt.Errorf("delete secret %q: the active configuration references it: %w", problem.Clip(name), storage.ErrConflict)
	}
	if err := h.Store.DeleteSecret(ctx, name); err != nil {
		return fmt.Errorf("delete secret %q: %w", problem.Clip(name), err)
	}
	return nil
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
