// Package secrets stores the encrypted values that ${secret:NAME} references in the
// configuration. It never returns a value, only names and dates.
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

// database is the part of a database that Store uses.
type database interface {
	PutSecret(ctx context.Context, s storage.Secret) error
	DeleteSecret(ctx context.Context, name string) error
	Secrets(ctx context.Context) ([]storage.Secret, error)
}

// Store stores secrets. It is safe for concurrent use.
type Store struct {
	database database
	vault    *config.Vault
	config   *config.Controller
	now      func() time.Time
}

// New returns a Store that encrypts secrets with vault.
func New(db database, vault *config.Vault, controller *config.Controller, now func() time.Time) *Store {
	if db == nil || vault == nil || controller == nil || now == nil {
		panic("secrets.New: db, vault, controller, and now are required")
	}
	return &Store{database: db, vault: vault, config: controller, now: now}
}

// View is a secret without its value.
type View struct {
	Name      string    `json:"name" example:"kustomer"`
	CreatedAt time.Time `json:"createdAt" format:"date-time"`
	UpdatedAt time.Time `json:"updatedAt" format:"date-time"`
	InUse     bool      `json:"inUse"` // whether the active configuration references the secret
} // @name SecretView

// List lists the secrets by name.
type List struct {
	Secrets []View `json:"secrets"`
} // @name SecretList

// Input is the body of PUT /api/v1/secrets/{name}.
type Input struct {
	Value string `json:"value" validate:"required,max=65536" example:"a-secret"`
} // @name SecretInput

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// List returns the secrets, sorted by name.
func (s *Store) List(ctx context.Context) (List, error) {
	stored, err := s.database.Secrets(ctx)
	if err != nil {
		return List{}, fmt.Errorf("list secrets: %w", err)
	}
	out := List{Secrets: make([]View, len(stored))}
	for i, secret := range stored {
		out.Secrets[i] = s.view(secret)
	}
	return out, nil
}

// Get returns a secret. It returns storage.ErrNotFound if the secret does not exist.
func (s *Store) Get(ctx context.Context, name string) (View, error) {
	stored, err := s.database.Secrets(ctx)
	if err != nil {
		return View{}, fmt.Errorf("load secret %s: %w", problem.Clip(name), err)
	}
	i := slices.IndexFunc(stored, func(secret storage.Secret) bool { return secret.Name == name })
	if i < 0 {
		return View{}, fmt.Errorf("secret %q: %w", problem.Clip(name), storage.ErrNotFound)
	}
	return s.view(stored[i]), nil
}

func (s *Store) view(secret storage.Secret) View {
	return View{Name: secret.Name, CreatedAt: secret.CreatedAt, UpdatedAt: secret.UpdatedAt, InUse: s.config.References(secret.Name)}
}

// Put seals and stores a secret, and reloads the configuration so that references
// to the secret use the new value.
func (s *Store) Put(ctx context.Context, name string, in Input) (View, error) {
	if !namePattern.MatchString(name) {
		return View{}, problem.Errorf("name", "must have 1 to 64 letters, digits, dots, dashes, or underscores, and start with a letter or digit")
	}
	if err := problem.Validate(in); err != nil {
		return View{}, err
	}
	now := s.now().UTC()
	sealed := storage.Secret{Name: name, Sealed: s.vault.Seal(name, in.Value), CreatedAt: now, UpdatedAt: now}
	if err := s.database.PutSecret(ctx, sealed); err != nil {
		return View{}, fmt.Errorf("store secret %s: %w", name, err)
	}
	if err := s.config.Load(ctx); err != nil && !errors.Is(err, config.ErrNoConfig) {
		return View{}, fmt.Errorf("reload the configuration with secret %s: %w", name, err)
	}
	return s.Get(ctx, name)
}

// Delete removes a secret. It returns storage.ErrConflict if the active
// configuration references the secret.
func (s *Store) Delete(ctx context.Context, name string) error {
	if s.config.References(name) {
		return fmt.Errorf("delete secret %q: the active configuration references it: %w", problem.Clip(name), storage.ErrConflict)
	}
	if err := s.database.DeleteSecret(ctx, name); err != nil {
		return fmt.Errorf("delete secret %q: %w", problem.Clip(name), err)
	}
	return nil
}
