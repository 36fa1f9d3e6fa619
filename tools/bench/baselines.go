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

// The baselines run in processes of their own, like the server that they are
// compared with.
const (
	constantBaseline = "nethttp"
	echoBaseline     = "echo"
)

// serveBaseline is the whole of such a process.
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
		return ordinaryHandler(), nil
	case pgxBaseline:
		return pgxHandler(context.Background())
	case sqliteBaseline:
		return sqliteHandler(context.Background())
	default:
		return nil, fmt.Errorf("%q is no baseline", name)
	}
}

// The answer to a start call, as an ordinary handler has it.
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

// constantHandler is the least that net/http can do: the same bytes for everyone.
func constantHandler() (http.Handler, error) {
	body, err := json.Marshal(answerFor(nationalDID(0, 0)))
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(body) // a client that has gone
	}), nil
}

// ordinaryHandler is a start call as one would write it with echo in an
// afternoon: the key, the form's fields, the answer; nothing decided, counted or
// recorded.
func ordinaryHandler() http.Handler {
	refuse := func(c echo.Context, code int, message string) error {
		return c.JSON(code, startAnswer{Error: &startError{Message: message}})
	}
	e := echo.New()
	e.POST("/callTrackers/:tracker/startCall", func(c echo.Context) error {
		if c.Request().Header.Get("X-API-Key") != startKey {
			return refuse(c, http.StatusUnauthorized, "wrong key")
		}
		didCalled, caller, callID := c.FormValue("didCalled"), c.FormValue("callerIDNumber"), c.FormValue("callID")
		if c.Param("tracker") == "" || didCalled == "" || caller == "" || callID == "" {
			return refuse(c, http.StatusBadRequest, "a field is missing")
		}
		return c.JSON(http.StatusOK, answerFor(didCalled))
	})
	return e
}
