package httpapi

import (
	"calltracker/problem"
	"calltracker/rules"
)

// Problem is an error of the admin API (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457).
type Problem struct {
	Type   string       `json:"type" example:"about:blank"`
	Title  string       `json:"title" example:"Unprocessable Entity"`
	Status int          `json:"status" example:"422"`
	Code   string       `json:"code,omitempty" example:"recording_not_yet"` // constant that distinguishes problems with the same status
	Detail string       `json:"detail,omitempty"`
	Errors problem.List `json:"errors,omitempty"`
}

// Envelope is the answer that Ziwo expects to every request
// (https://www.ziwo.io/api-integration-developers/).
type Envelope struct {
	Result  bool         `json:"result" example:"true"`
	Content struct{}     `json:"content"`
	Info    EnvelopeInfo `json:"info"`
}

// EnvelopeInfo lists warnings about an accepted request.
type EnvelopeInfo struct {
	Warnings []string `json:"warnings,omitempty"`
}

// StartEnvelope is the answer to a start call.
type StartEnvelope struct {
	Result  bool         `json:"result" example:"true"`
	Content StartContent `json:"content"`
	Info    EnvelopeInfo `json:"info"`
}

// StartContent holds the routing rules for a call.
type StartContent struct {
	DIDCalled string       `json:"didCalled" example:"061234567"`
	Rules     []rules.Rule `json:"rules"`
	Voicemail bool         `json:"voicemail,omitempty"` // the field name is configurable
}

// ErrorEnvelope is the answer to a rejected request from Ziwo.
type ErrorEnvelope struct {
	Result  bool          `json:"result" example:"false"`
	Content struct{}      `json:"content"`
	Info    struct{}      `json:"info"`
	Error   EnvelopeError `json:"error"`
}

// EnvelopeError holds the error message.
type EnvelopeError struct {
	Message string `json:"message"`
}
