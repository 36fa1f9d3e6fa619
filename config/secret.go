package config

import "log/slog"

// Secret is a value that must not appear in answers and logs: it prints as
// "***". The zero value is empty.
type Secret struct {
	value   string
	literal bool
}

// NewSecret returns a secret with the value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the value; it is empty if its reference could not be resolved.
func (s Secret) Reveal() string { return s.value }

// Literal reports whether the document contains the value itself instead of a
// reference.
func (s Secret) Literal() bool { return s.literal }

// String hides the value.
func (s Secret) String() string { return "***" }

// LogValue hides the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

// Setting is one setting of a connection: text, a number, true, or false. It is
// treated as a secret, since it may be one.
type Setting struct{ Secret }
