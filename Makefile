# SPDX-License-Identifier: Apache-2.0
# `make` alone is what a change has to pass; `make help` lists the rest. Each target makes what it needs.

PYTHON   ?= python3.11
VENV     := .venv
BIN      := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES  := $(shell find src tests tools -name '*.py' 2>/dev/null)
PYTEST   := $(BIN)/python -m pytest
JOBS     ?= 2

# processes that tests start find their bytecode, wherever this is run
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := all
.PHONY: all help install format lint types layers demo test test-long test-cluster test-kernel bench build image protos \
        protos-check cluster-bins cluster-prerequisites kernel-guest lock clean

all: format lint types layers test build ## format, lint, types, layers, fast tests, build: what a change has to pass

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): requirements/dev.txt pyproject.toml
	@echo "installing the locked packages into $(VENV)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --require-hashes \
	  -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: $(INSTALLED) ## make the virtual environment from the lock

format: $(INSTALLED) ## format the sources
	$(BIN)/ruff format
	$(BIN)/ruff check --fix --exit-zero --quiet

lint: $(INSTALLED) ## ruff, all rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy

layers: $(INSTALLED) ## import-linter: which room may import which
	$(BIN)/lint-imports

demo: $(INSTALLED) ## show the main job on a cluster in one process, in seconds; needs nothing but Python
	@$(BIN)/dynamic-memory demo

protos: $(INSTALLED) ## generate the gRPC code from the .proto files
	$(BIN)/python tools/protos.py

protos-check: $(INSTALLED) ## fail if the generated gRPC code is not up to date
	$(BIN)/python tools/protos.py --check

# by file: what the tests of a file share, such as a story of many deaths, is made once
test: $(INSTALLED) lint types layers protos-check ## checks and the fast tests; needs nothing but Python
	$(PYTEST) -q -n $(JOBS) --dist loadfile -m "not long" tests/unit tests/embedded

test-long: $(INSTALLED) cluster-bins ## what takes minutes: more cases, more runs
	$(PYTEST) -q -n $(JOBS) -m long tests/unit tests/embedded
	$(PYTEST) -q -n $(JOBS) -m "hypothesis and not long" --hypothesis-profile=new tests/unit tests/embedded

cluster-prerequisites:
	@sh tools/cluster/prerequisites.sh

cluster-bins: cluster-prerequisites ## build a real Kubernetes node from pinned Go modules (needs Go; minutes the first time)
	@$(PYTHON) tools/cluster/build.py
	@$(PYTHON) tools/allocator/build.py
	@$(PYTHON) tools/informer/build.py

image: $(INSTALLED) ## make the container image, an OCI archive: dist/dynamic-memory.tar
	@mkdir -p dist
	$(BIN)/python tools/image.py --output dist/dynamic-memory.tar

test-cluster: $(INSTALLED) cluster-bins ## real Kubernetes 1.36 and 1.37, kubelet, containerd (needs root and Go)
	$(PYTEST) -q -m "not long" --durations=15 --durations-min=20 tests/cluster

kernel-guest: cluster-bins ## make the virtual machine of the kernel tests (needs root, Go and Debian's apt)
	@sh tools/kernel/prerequisites.sh
	@$(PYTHON) tools/kernel/build.py

test-kernel: $(INSTALLED) kernel-guest ## a node with a kernel of its own: NUMA, hugepages, cgroup v2 (needs root and Go)
	$(PYTEST) -q -m "not long" --durations=15 --durations-min=20 tests/kernel

bench: $(INSTALLED) ## print ratios and percentiles, all from one run
	$(BIN)/python -m tests.bench

build: $(INSTALLED) ## wheel and sdist in dist/
	@rm -rf dist/*.whl dist/*.tar.gz
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist
	@ls dist/*.whl dist/*.tar.gz

lock: $(INSTALLED) ## choose versions anew and write the hashed requirements
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-strip-extras --no-annotate --no-header \
	  --no-emit-index-url --python-version 3.11 pyproject.toml --output-file requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-strip-extras --no-annotate --no-header \
	  --no-emit-index-url --python-version 3.11 pyproject.toml --group dev --output-file requirements/dev.txt

clean: ## remove what the targets made inside the tree
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
