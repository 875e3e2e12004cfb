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

.PHONY: lint
lint:  # what `check` and `test` share
	ruff check .
	ruff format --check .
	lint-imports --no-cache
	mypy

.PHONY: check
check: setup lint  ## Lint, types, layers, prose and unit tests; run before every commit (under a minute)
	pytest -q -n logical tests/unit

.PHONY: test
test:  ## Everything, side by side, about 15 minutes on two cores: check, Octavia's API tests, the provider on Octavia itself, all other tests (as root)
	@tools/setup test
	@exec tools/isolated tools/test

.PHONY: test-chart
test-chart: setup image  ## The Helm chart: the real helm, lint, rights, install to uninstall, its pods from the image (as root)
	@python tools/helm
	@VRATA_TEST_IMAGE=$$(ls dist/vrata-*-oci.tar) exec tools/isolated $(BIN)/python -m pytest -q tests/chart tests/e2e/test_containers.py

.PHONY: test-machines
test-machines: deb  ## Debian machines that boot: packages, the guide for three machines, faults, restore; 20 minutes (as root)
	@tools/setup machines
	@tools/machine-root bookworm trixie
	@exec tools/test-machines

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

.PHONY: docs
docs: setup  ## The documentation as a site in build/site (needs npm); a broken link or anchor fails
	@tools/docs

.PHONY: image
image: setup  ## The container image in dist/, with its SBOM; the same commit gives the same digest (as root, a minute)
	@tools/image

.PHONY: deb
deb: setup  ## The Debian packages in dist/: vrata, vrata-cloud, vrata-host (a minute)
	@tools/deb

.PHONY: release
release: setup  ## Everything that is published, in dist/: image, chart, packages, wheel, SBOM, checksums (as root, some minutes)
	@tools/release

MINUTES ?= 30

.PHONY: soak
soak: setup  ## Random faults, changes and rolling updates under load for MINUTES; the report is build/soak.json
	python -m bench.soak --minutes $(MINUTES)

.PHONY: lock
lock:  ## Resolve dependencies again into requirements.lock (hashes, no index address)
	$(BIN)/pip install -q pip-tools
	$(BIN)/pip-compile -q --extra dev --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options -o requirements.lock pyproject.toml
	$(BIN)/pip-compile -q -c requirements.lock --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options -o requirements-runtime.lock \
	  pyproject.toml
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o tools/conformance-octavia.lock \
	  tools/conformance-octavia.in
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o tools/interop-octavia.lock \
	  tools/interop-octavia.in
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o tools/interop-openstacksdk.lock \
	  tools/interop-openstacksdk.in
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o tools/docs.lock tools/docs.in

.PHONY: conformance-octavia
conformance-octavia: setup  ## Octavia's own API tests (632) against the cloud, in four modes of roles
	python tools/conformance-octavia

.PHONY: interop-octavia
interop-octavia: setup  ## The provider's tests against OpenStack's own Octavia, installed from PyPI
	python tools/interop-octavia

.PHONY: interop-gophercloud
interop-gophercloud: setup  ## gophercloud's acceptance tests against the cloud (needs Go and its module proxy)
	python tools/interop-gophercloud

.PHONY: interop-openstacksdk
interop-openstacksdk: setup  ## openstacksdk's functional tests against the cloud, installed from PyPI
	python tools/interop-openstacksdk

.PHONY: interop-kubernetes
interop-kubernetes:  ## Kubernetes-facing suites and kube-proxy's comparison on a genuine Kubernetes (needs Go and its module proxy)
	@tools/setup kubernetes
	python tools/kubernetes_cluster.py
	tools/isolated python tools/interop-kubernetes

.PHONY: clean
clean:  ## Remove the environment and build results (running sandboxes stay: `vrata down`)
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
