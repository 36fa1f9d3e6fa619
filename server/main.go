// Command calltracker answers Ziwo's call trackers: where a call goes, and
// whether its record is safe.
//
//	@title			calltracker
//	@version		1
//	@description	Routing rules, call records and decisions of Ziwo call trackers.
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

// collectAt is the garbage collector's GOGC, unless the environment sets it:
// collecting holds up calls, and the live heap of a few tens of megabytes may
// grow threefold before it is worth it.
const collectAt = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
