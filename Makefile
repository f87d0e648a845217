# Every target has a line of help behind "##". Logic is Go (internal/setup) or a script in tools, not here.
.DEFAULT_GOAL := help
.PHONY: help run test race fuzz bench lint format generate generate-check e2e chaos simulate mutants verify setup-%

GO ?= go
# Built without asking git for a version: git refuses in a clone that belongs to another user.
build = $(GO) build -buildvcs=false
# How long each fuzz target runs.
FUZZTIME ?= 20s

# Linters and generators take minutes to build: they are built once per user and version, outside the tree.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/liaison/tools
key = $(shell cat tools/$(1)/go.mod tools/$(1)/go.sum | cksum | tr ' ' -)-$(shell $(GO) env GOVERSION)
GOLANGCI_LINT = $(CACHE)/golangci-lint-$(call key,golangci-lint)
SQLC = $(CACHE)/sqlc-$(call key,sqlc)
build-tool = CGO_ENABLED=0 $(GO) build -C tools/$(1) -buildvcs=false -o '$(2).new' $(3) && mv '$(2).new' '$(2)'

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-run ## the demo on 127.0.0.1:8080; ARGS="--addr …" are its flags; Ctrl-C stops it
	@$(build) -o bin/liaison ./cmd/liaison
	@exec bin/liaison demo $(ARGS)

test: setup-test ## every test that needs no special machine; PKG=./sync/... for some; ARGS="-run Name"
	$(GO) test $(ARGS) $(or $(PKG),./...)

race: setup-race ## the same under the race detector
	CGO_ENABLED=1 $(GO) test -race -p 2 -timeout 25m $(ARGS) $(or $(PKG),./...)

fuzz: setup-test ## each fuzz target in turn, for FUZZTIME (20s) each
	@GO='$(GO)' tools/fuzz '$(FUZZTIME)'

bench: setup-run ## Liaison beside bare alternatives: a table with ratios
	$(GO) run -C bench . $(ARGS)

lint: ## golangci-lint with .golangci.yaml, and shellcheck where it is installed
	@test -x '$(GOLANGCI_LINT)' || $(MAKE) --no-print-directory tool-golangci-lint
	'$(GOLANGCI_LINT)' run $(ARGS) $(or $(PKG),./...)
	@if command -v shellcheck >/dev/null; then shellcheck --severity=warning $$(grep -rlE '^#!/bin/(ba)?sh' .ci e2e tools); fi

format: ## gofumpt and the order of imports, in place
	@test -x '$(GOLANGCI_LINT)' || $(MAKE) --no-print-directory tool-golangci-lint
	'$(GOLANGCI_LINT)' fmt $(PKG)

generate: ## all generated code: SQL by sqlc, GraphQL by gqlgen
	@test -x '$(SQLC)' || $(MAKE) --no-print-directory tool-sqlc
	'$(SQLC)' generate
	$(GO) -C graph tool gqlgen generate

generate-check: ## fails when generated code is not what make generate makes
	@MAKE='$(MAKE)' tools/generate-check

e2e: setup-e2e ## the built binary against real peers (Request Tracker 5: Debian 12, as root or by sudo)
	$(GO) test -tags e2e -count=1 -p 1 -timeout 30m $(ARGS) $(or $(PKG),./e2e/... ./connectors/...)

chaos: setup-e2e ## hubs, Postgres and vendors under every fault at once; CHAOS=full for the run of RELIABILITY.md, ARGS for the rest
	$(GO) test -tags chaos -count=1 -timeout 120m -v ./e2e/chaos $(if $(filter full,$(CHAOS)),$(chaos-full)) $(ARGS)
chaos-full = -chaos.changes 10000 -chaos.tickets 1000 -chaos.kills 20 -chaos.pgkills 4 -chaos.servicenows 4 -chaos.rt 20 -chaos.partition 10m -chaos.partchanges 2000 -chaos.dropped 1000

# How many seeds the simulation tries.
RUNS ?= 10000
simulate: setup-test ## the sync's decisions in RUNS (10000) simulated worlds; ARGS="-seed N -v" shows one
	$(GO) test -count=1 -timeout 60m ./sync/simulation -run TestSimulation -runs $(RUNS) $(ARGS)

mutants: setup-test ## the test of the tests: planted bugs that the simulation must catch
	LIAISON_MUTANTS=1 $(GO) test -count=1 -timeout 60m -run TestMutants $(ARGS) ./sync/simulation

verify: ## all that CI does: test, lint, generated code, race, simulate, mutants, e2e, chaos
	.ci/run

setup-%:
	@$(GO) run ./internal/setup $*

.PHONY: tool-golangci-lint tool-sqlc
tool-golangci-lint:
	@echo 'building golangci-lint: about three minutes, once'
	@mkdir -p '$(CACHE)'
	@$(call build-tool,golangci-lint,$(GOLANGCI_LINT),github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

tool-sqlc:
	@echo 'building sqlc: about three minutes, once'
	@mkdir -p '$(CACHE)'
	@$(call build-tool,sqlc,$(SQLC),github.com/sqlc-dev/sqlc/cmd/sqlc)
