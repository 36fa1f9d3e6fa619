// Command calltracker is a self-hosted server for Ziwo call trackers. It decides
// where calls go, stores their records, and looks up callers in CRMs.
//
// main.go handles signals, commands.go has the command line, settings.go the
// settings, and run.go starts and stops the server. The comment below describes the
// API for package openapi.
//
//	@title			calltracker
//	@version		1
//	@description	Routing rules, call records, and decisions of Ziwo call trackers.
//	@BasePath		/
//	@securityDefinitions.apikey	Bearer
//	@in							header
//	@name						Authorization
//	@description				The admin token
//
//	@securityDefinitions.apikey	TrackerKey
//	@in							header
//	@name						X-API-Key
//	@description				The start or end key of the tracker, or the key of the webhook
//
//	@securityDefinitions.basic	TrackerBasic
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// gcPercent is the default of GOGC. Garbage collection delays calls, and the live heap
// is only a few tens of megabytes, so it may grow threefold between collections.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
