# Everything a contributor runs, on plain GNU make and a POSIX shell.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse --verify --short=12 HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 20s
MINUTES  ?= 10
RATE     ?= 100
FLAGS    ?=
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

.DEFAULT_GOAL := help
.PHONY: help run build test lint generate bench crash-test e2e soak fuzz clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start the server with the example configuration
	go run ./server --apply examples/quickstart.yaml

build: ## build the static binary bin/calltracker
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/calltracker ./server

test: ## install what the tests need, then run all tests with the race detector
	@.ci/setup
	CGO_ENABLED=1 go test -race -timeout 30m ./...

lint: .bin/golangci-lint ## check formatting, go vet, golangci-lint, the browser scripts and the prose
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, run gofmt -w on:" >&2; echo "$$unformatted" >&2; exit 1; fi
	go vet ./...
	.bin/golangci-lint run ./...
	go run ./web/generate -dir web -check
	go run ./tools/prose

generate: ## regenerate openapi/openapi.json and the served scripts of web/
	go generate ./...

bench: ## measure start and end calls against plain handlers, calls at a constant rate, lists, and reconciliation
	go run ./tools/bench $(FLAGS)

crash-test: ## break everything around the server, then look for every acknowledged CDR
	@.ci/setup
	go run ./tools/endurance/run crash $(FLAGS)

e2e: ## simulate a day with every fault on two replicas, and compare what is stored
	@.ci/setup
	go run ./tools/endurance/run day $(FLAGS)

soak: ## serve calls for MINUTES (default 10) at RATE per second (default 100), and measure resources
	go run ./tools/endurance/run soak -minutes $(MINUTES) -rate $(RATE) $(FLAGS)

fuzz: ## run every fuzz target for FUZZTIME (default 20s) each
	@.ci/fuzz $(FUZZTIME)

clean: ## remove the files that make built
	rm -rf bin .bin

# The linter has its own module, which keeps its hundreds of dependencies out of
# go.mod. It is rebuilt only when that module changes.
.bin/golangci-lint: .ci/lint/go.mod
	@mkdir -p $(@D)
	cd .ci/lint && go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
