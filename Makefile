# Every target works as the first command after a clone: `setup` installs what is missing and skips what is there.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-20s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup:  ## Install missing system packages and the locked Python environment
	@tools/setup

.PHONY: check
check: setup  ## Lint, types, layers and unit tests; run before every commit (under a minute)
	ruff check .
	ruff format --check .
	lint-imports --no-cache
	mypy
	pytest -q tests/unit

.PHONY: test
test: setup check  ## Everything: check, Octavia's API tests, the provider on Octavia itself, then all other tests
	python tools/conformance-octavia keystone_default_roles
	python tools/interop-octavia
	tools/newer-haproxy
	pytest tests/golden tests/api tests/provider tests/system tests/e2e

.PHONY: demo
demo: setup  ## The whole story live in the terminal: cloud, cluster, balancers, failover
	vrata demo

.PHONY: bench
bench:  ## Measure every figure beside its peer; results in build/bench/ (one set: make bench-failover TRIALS=10, …)
	@tools/setup bench
	python -m bench

bench-%:
	@tools/setup bench
	python -m bench $*

MINUTES ?= 30

.PHONY: soak
soak: setup  ## Random faults, changes and rolling updates under load for MINUTES; the report is build/soak.json
	python -m bench.soak --minutes $(MINUTES)

.PHONY: lock
lock:  ## Resolve dependencies anew into requirements.lock (hashes, no index address)
	$(BIN)/pip install -q pip-tools
	$(BIN)/pip-compile -q --extra dev --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options -o requirements.lock pyproject.toml

	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o tools/conformance-octavia.lock \
	  tools/conformance-octavia.in
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o tools/interop-octavia.lock \
	  tools/interop-octavia.in

.PHONY: conformance-octavia
conformance-octavia: setup  ## Octavia's own API tests (632) against the cloud, in four modes of roles
	python tools/conformance-octavia

.PHONY: interop-octavia
interop-octavia: setup  ## The provider's tests against OpenStack's own Octavia, installed from PyPI
	python tools/interop-octavia

.PHONY: clean
clean:  ## Remove the environment and build results (running sandboxes stay: `vrata down`)
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
