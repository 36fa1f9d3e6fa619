package secrets

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/storage"
)

// secretStore is the part of a store that Secrets uses.
type secretStore interface {
	PutSecret(ctx context.Context, s storage.Secret) error
	DeleteSecret(ctx context.Context, name string) error
	Secrets(ctx context.Context) ([]storage.Secret, error)
}

// Secrets stores the values that ${secret:NAME} references. It exposes only names
// and dates.
type Secrets struct {
	Options
}

// SecretsOptions are what Secrets is made from. All fields are required.
type Options struct {
	Store  secretStore
	Vault  *config.Vault
	Config *config.Controller
	Now    func() time.Time
}

// NewSecrets returns Secrets.
func New(o Options) *Secrets { return &Secrets{Options: o} }

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
	return SecretView{Name: s.Name, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, InUse: h.Config.References(s.Name)}
}

// Put seals and stores a secret, and reloads the configuration so that references
// to the secret use the new value.
func (h *Secrets) Put(ctx context.Context, name string, in SecretInput) (SecretView, error) {
	if !secretNamePattern.MatchString(name) {
		return SecretView{}, problem.Errorf("name", "must have 1 to 64 letters, digits, dots, dashes, or underscores, and start with a letter or digit")
	}
	if err := problem.Validate(in); err != nil {
		return SecretView{}, err
	}
	now := h.Now().UTC()
	sealed := storage.Secret{Name: name, Sealed: h.Vault.Seal(name, in.Value), CreatedAt: now, UpdatedAt: now}
	if err := h.Store.PutSecret(ctx, sealed); err != nil {
		return SecretView{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	if err := h.Config.Load(ctx); err != nil && !errors.Is(err, config.ErrNoConfig) {
		return SecretView{}, fmt.Errorf("reload the configuration with secret %s: %w", name, err)
	}
	return h.Get(ctx, name)
}

// Delete removes a secret. It returns storage.ErrConflict if the active
// configuration references the secret.
func (h *Secrets) Delete(ctx context.Context, name string) error {
	if h.Config.References(name) {
		return fmt.Errorf("delete secret %q: the active configuration references it: %w", problem.Clip(name), storage.ErrConflict)
	}
	if err := h.Store.DeleteSecret(ctx, name); err != nil {
		return fmt.Errorf("delete secret %q: %w", problem.Clip(name), err)
	}
	return nil
}
