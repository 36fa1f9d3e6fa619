package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
	"calltracker/handlers/access"
	"calltracker/handlers/clicktocall"
	"calltracker/handlers/embeds"
	"calltracker/handlers/endcall"
	"calltracker/handlers/live"
	"calltracker/handlers/popup"
	"calltracker/handlers/recordings"
	"calltracker/handlers/rejections"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// TestDescribe checks the status, reason, code and delay of every error. They are
// part of the API, so they must not change.
func TestDescribe(t *testing.T) {
	const cause = "dial tcp 10.0.0.7:5432: connection refused" // must not reach clients
	tests := []struct {
		err  error
		want failure // without detail: see the next test
	}{
		// Requests.
		{errTooLarge, failure{status: 413, reason: "too_large"}},
		{errBodyCut, failure{status: 400, reason: "body_cut"}},
		{fmt.Errorf("%w (%w)", errBodyCut, os.ErrDeadlineExceeded), failure{status: 400, reason: "body_cut"}},
		{os.ErrDeadlineExceeded, failure{status: 408, reason: "too_slow"}},
		{errMediaType, failure{status: 415, reason: "media_type"}},
		{errPrecondition, failure{status: 428, reason: "no_precondition"}},
		{&problem.Invalid{Problems: problem.List{{Path: "limit", Message: "must be from 1 to 1000"}}}, failure{
			status: 422, reason: "invalid", fields: problem.List{{Path: "limit", Message: "must be from 1 to 1000"}},
		}},
		{storage.ErrBadCursor, failure{
			status: 422, reason: "invalid", fields: problem.List{{Path: "cursor", Message: storage.ErrBadCursor.Error()}},
		}},
		{echo.ErrNotFound, failure{status: 404, reason: "http"}},
		{echo.ErrMethodNotAllowed, failure{status: 405, reason: "http"}},
		{echo.NewHTTPError(http.StatusBadRequest, "invalid JSON"), failure{status: 400, reason: "http"}},

		// Keys.
		{access.ErrUnauthorized, failure{status: 401, reason: "wrong_key"}},
		{errNoAdminToken, failure{status: 401, reason: "wrong_key", challenge: `Bearer realm="calltracker"`}},
		{errNoSiteKey, failure{status: 401, reason: "wrong_key"}},
		{&access.TooManyWrongKeys{RetryAfter: 41 * time.Second}, failure{status: 429, reason: "too_many_wrong_keys", retryAfter: 41 * time.Second}},
		{&access.TooManyWrongKeys{}, failure{status: 429, reason: "too_many_wrong_keys", retryAfter: time.Second}},
		{access.ErrBlocked, failure{status: 403, reason: "blocked"}},
		{popup.ErrOriginNotAllowed, failure{status: 403, reason: "no_origin"}},

		// Names that do not exist.
		{&access.UnknownTracker{ID: "x"}, failure{status: 404, reason: "unknown_tracker"}},
		{&embeds.NotFound{}, failure{status: 404, reason: "unknown_embed"}},
		{&popup.UnknownSite{Name: "x"}, failure{status: 404, reason: "unknown_site"}},
		{config.ErrNoConfig, failure{status: 404, reason: "not_found"}},
		{storage.ErrNotFound, failure{status: 404, reason: "not_found"}},

		// Reports from Ziwo.
		{ziwo.ErrNoDID, failure{status: 400, reason: "no_did"}},
		{&ziwo.ParseError{Message: "no didCalled", Err: ziwo.ErrNoDID}, failure{status: 400, reason: "no_did"}},
		{&ziwo.ParseError{Message: "unreadable form"}, failure{status: 400, reason: "unreadable"}},
		{endcall.ErrEmptyBody, failure{status: 400, reason: "empty_body"}},
		{fmt.Errorf("%w: %s", endcall.ErrNotStored, cause), failure{status: 503, reason: "not_kept", retryAfter: 5 * time.Second}},

		// The state of the server.
		{config.ErrStale, failure{status: 412, reason: "stale"}},
		{storage.ErrConflict, failure{status: 409, reason: "conflict"}},
		{fmt.Errorf("%w: %s", storage.ErrUnavailable, cause), failure{status: 503, reason: "database_away", retryAfter: 5 * time.Second}},
		{live.ErrTooManyListeners, failure{status: 503, reason: "not_watched", retryAfter: 5 * time.Second}},
		{live.ErrStopped, failure{status: 503, reason: "not_watched", retryAfter: 5 * time.Second}},
		{errors.New(cause), failure{status: 500, reason: "internal"}},

		// Click to call.
		{&clicktocall.ContactCenterError{Uncertain: true, Kind: ziwo.Unavailable}, failure{status: 504, reason: "ziwo_unsure"}},
		{&clicktocall.ContactCenterError{Kind: ziwo.Rejected}, failure{status: 409, reason: "ziwo_refuses"}},
		{&clicktocall.ContactCenterError{Kind: ziwo.NotFound}, failure{status: 404, reason: "not_found"}},
		{&clicktocall.ContactCenterError{Kind: ziwo.Unavailable}, failure{status: 503, reason: "ziwo_away", retryAfter: 5 * time.Second}},
		{&clicktocall.ContactCenterError{Kind: ziwo.RateLimited, RetryAfter: time.Minute}, failure{status: 503, reason: "ziwo_away", retryAfter: time.Minute}},
		{&clicktocall.ContactCenterError{Kind: ziwo.Unauthorized, RetryAfter: time.Minute}, failure{status: 502, reason: "ziwo_fails"}},

		// Recordings.
		{&recordings.Error{Code: recordings.Pending, RetryAfter: time.Minute}, failure{
			status: 404, reason: "recording_not_yet", code: "recording_not_yet", retryAfter: time.Minute,
		}},
		{&recordings.Error{Code: recordings.NoRecording}, failure{status: 404, reason: "no_recording", code: "no_recording"}},
		{&recordings.Error{Code: recordings.RangeNotSatisfiable, Size: 4096}, failure{
			status: 416, reason: "range_not_satisfiable", code: "range_not_satisfiable", size: 4096,
		}},
		{&recordings.Error{Code: recordings.ContactCenterUnavailable, RetryAfter: 7 * time.Second}, failure{
			status: 503, reason: "contact_center_away", code: "contact_center_away", retryAfter: 7 * time.Second,
		}},
		{&recordings.Error{Code: recordings.ContactCenterUnknown}, failure{
			status: 409, reason: "contact_center_unknown", code: "contact_center_unknown",
		}},
		{&recordings.Error{Code: "contact_center_fails", Err: errors.New(cause)}, failure{
			status: 502, reason: "contact_center_fails", code: "contact_center_fails",
		}},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%T %v", test.err, test.err), func(t *testing.T) {
			for _, err := range []error{test.err, fmt.Errorf("load call 7: %w", test.err)} {
				got := describe(err)
				if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(failure{}), cmpopts.IgnoreFields(failure{}, "detail")); diff != "" {
					t.Errorf("describe(%v) (-want +got):\n%s", err, diff)
				}
				if strings.Contains(got.detail, cause) {
					t.Errorf("the detail %q reveals the cause", got.detail)
				}
			}
		})
	}
}

func TestErrorFormats(t *testing.T) {
	api := New(Options{
		Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Rejections: rejections.New(discardRejections{}, discardRejections{}, time.Now, prometheus.NewRegistry()),
	})
	err := fmt.Errorf("save: %w", storage.ErrUnavailable)
	tests := []struct {
		name, path, contentType, body string
	}{
		{
			"envelope of a tracker", "/callTrackers/sales/endCall", "application/json; charset=utf-8",
			`{"result":false,"content":{},"info":{},"error":{"message":"the database is unavailable; try again"}}`,
		},
		{
			"envelope of a webhook", "/webhooks/ziwo/callHistory", "application/json; charset=utf-8",
			`{"result":false,"content":{},"info":{},"error":{"message":"the database is unavailable; try again"}}`,
		},
		{
			"problem", "/api/v1/calls", "application/problem+json",
			`{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the database is unavailable; try again"}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := echo.New()
			recorder := httptest.NewRecorder()
			api.handleError(err, e.NewContext(httptest.NewRequestWithContext(t.Context(), http.MethodPost, test.path, http.NoBody), recorder))
			answer := recorder.Result()
			defer answer.Body.Close()
			body, readErr := io.ReadAll(answer.Body)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "5" || answer.Header.Get("Content-Type") != test.contentType {
				t.Errorf("answer is %d with %v", answer.StatusCode, answer.Header)
			}
			var got, want any
			if json.Unmarshal(body, &got) != nil || json.Unmarshal([]byte(test.body), &want) != nil || !cmp.Equal(got, want) {
				t.Errorf("body is %s, want %s", body, test.body)
			}
		})
	}

	t.Run("script", func(t *testing.T) {
		e := echo.New()
		recorder := httptest.NewRecorder()
		c := e.NewContext(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/jorel/shop.js", http.NoBody), recorder)
		if err := api.scriptError(c, &embeds.NotFound{}); err != nil {
			t.Fatal(err)
		}
		if recorder.Code != http.StatusNotFound || recorder.Header().Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.HasPrefix(recorder.Body.String(), "console.error(") {
			t.Errorf("answer is %d with %v: %s", recorder.Code, recorder.Header(), recorder.Body)
		}
	})
}

// discardRejections is the queue and the store of an empty rejection log.
type discardRejections struct{}

func (discardRejections) Add(storage.Rejection) {}

func (discardRejections) Rejections(context.Context, storage.Page) ([]storage.Rejection, string, error) {
	return nil, "", nil
}
