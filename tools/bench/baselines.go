package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
)

// Baselines that bench starts as separate processes, like the server that it
// compares with them.
const (
	constantBaseline = "nethttp"
	echoBaseline     = "echo"
)

// serveBaseline runs a baseline until it fails. It is the main function of a
// baseline process.
func serveBaseline(name string) error {
	handler, err := baseline(name)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info(listening, slog.String("address", listener.Addr().String()))
	web := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	return web.Serve(listener)
}

func baseline(name string) (http.Handler, error) {
	switch name {
	case constantBaseline:
		return constantHandler()
	case echoBaseline:
		return echoHandler(), nil
	case pgxBaseline:
		return pgxHandler(context.Background())
	case sqliteBaseline:
		return sqliteHandler(context.Background())
	default:
		return nil, fmt.Errorf("unknown baseline %q", name)
	}
}

// The answer to a start call, as a typical handler declares it.
type (
	startAnswer struct {
		Result  bool         `json:"result"`
		Content startContent `json:"content"`
		Info    struct{}     `json:"info"`
		Error   *startError  `json:"error,omitempty"`
	}
	startContent struct {
		DIDCalled string      `json:"didCalled,omitempty"`
		Rules     []startRule `json:"rules,omitempty"`
		Voicemail bool        `json:"voicemail,omitempty"`
	}
	startRule struct {
		Action   string `json:"action"`
		Number   string `json:"number"`
		CallerID string `json:"callerID"`
		Timeout  int    `json:"timeout"`
	}
	startError struct {
		Message string `json:"message"`
	}
)

func answerFor(didCalled string) startAnswer {
	return startAnswer{Result: true, Content: startContent{
		DIDCalled: didCalled, Voicemail: true,
		Rules: []startRule{
			{Action: "call", Number: "0501234567", CallerID: "044000123", Timeout: 10},
			{Action: "call", Number: "047123456", CallerID: "044000123", Timeout: 20},
		},
	}}
}

// constantHandler returns a handler that writes the same bytes to every client,
// which is the minimum that net/http can do.
func constantHandler() (http.Handler, error) {
	body, err := json.Marshal(answerFor(nationalDID(0, 0)))
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(body) // fails if the client has disconnected
	}), nil
}

// echoHandler returns a minimal start call handler that uses echo: it checks the
// key, reads the form fields, and answers. It decides, counts, and records nothing.
func echoHandler() http.Handler {
	fail := func(c echo.Context, code int, message string) error {
		return c.JSON(code, startAnswer{Error: &startError{Message: message}})
	}
	e := echo.New()
	e.POST("/callTrackers/:tracker/startCall", func(c echo.Context) error {
		if c.Request().Header.Get("X-API-Key") != startKey {
			return fail(c, http.StatusUnauthorized, "wrong key")
		}
		didCalled, caller, callID := c.FormValue("didCalled"), c.FormValue("callerIDNumber"), c.FormValue("callID")
		if c.Param("tracker") == "" || didCalled == "" || caller == "" || callID == "" {
			return fail(c, http.StatusBadRequest, "missing field")
		}
		return c.JSON(http.StatusOK, answerFor(didCalled))
	})
	return e
}
