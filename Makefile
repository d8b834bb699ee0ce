# Every target installs what it needs. Only make and python3 (3.11 or newer) must be there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SITE := build/site
NODE_MODULES := tests/interop/node_modules
# Relays before 0.15 and from 0.15 on. The programs of both have the same names, so each has its own directory.
RUST_CLI := build/cargo/bin/moq-token
RUST_CLI_VERSION := 0.5.48
RUST_RELAY := build/cargo/bin/moq-relay
RUST_RELAY_VERSION := 0.14.18
RUST_MOQ := build/cargo-second/bin/moq
RUST_MOQ_VERSION := 0.14.10
RUST_RELAY_SECOND := build/cargo-second/bin/moq-relay
RUST_RELAY_SECOND_VERSION := 0.17.10
BENCH_NODE_MODULES := benchmarks/node/node_modules

# The environment is made again when the interpreter changes.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print(sys.version.split()[0]) if sys.version_info >= (3, 11) else None')
ifeq ($(PYTHON_VERSION),)
$(error $(PYTHON) is not Python 3.11 or newer. Choose another interpreter: make PYTHON=python3.12 ...)
endif
MADE := $(VENV)/.made-by-$(PYTHON_VERSION)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WHEEL_SOURCES := pyproject.toml README.md LICENSE-MIT LICENSE-APACHE $(shell find share src -name __pycache__ -prune -o -print)

# The compiled core, which is the extra `fast`. Without cargo, everything works without it.
# rustup leaves a cargo on the path that only runs once a toolchain is installed.
CARGO := $(shell cargo --version >/dev/null 2>&1 && command -v cargo)
CORE := $(if $(CARGO),$(VENV)/.core)
CORE_WHEELS := build/core/wheels
CORE_SOURCES := $(shell find core -name target -prune -o -type f -print)
CORE_ENVIRONMENT = CARGO_TARGET_DIR=$(CURDIR)/build/core/target PYO3_PYTHON=$(abspath $(BIN)/python)

# Without npm, the tests against @moq/token and @moq/net are skipped.
INTEROP := $(if $(shell command -v npm),$(if $(wildcard tests/interop/package-lock.json),$(NODE_MODULES)/.installed))
BENCH_NODE := $(if $(shell command -v npm),$(BENCH_NODE_MODULES)/.installed)

.DELETE_ON_ERROR:
.PHONY: help install core core-check fuzz-core venv demo test test-all interop simulate coverage check bench bench-quick bench-servers bench-check bench-baseline docs docs-write format lock build smoke dist sbom man image-test release-check release-notes workflows clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s%s\n", $$1, $$2 }'

$(MADE):
	@echo "Making $(VENV) with Python $(PYTHON_VERSION)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: $(MADE) requirements/demo.txt
	@echo "Installing the dependencies of the demo into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements/demo.txt
	@touch $@

$(VENV)/.test: $(MADE) requirements/test.txt pyproject.toml
	@echo "Installing the dependencies of the tests into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements/test.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.maturin: $(MADE) requirements/core.txt
	@$(PIP) install --require-hashes --requirement requirements/core.txt
	@touch $@

$(CORE_WHEELS)/.built: $(CORE_SOURCES) | $(VENV)/.maturin
	@echo "Building the compiled core"
	@rm -rf $(CORE_WHEELS)
	@$(CORE_ENVIRONMENT) $(BIN)/maturin build --quiet --release --locked --manifest-path core/Cargo.toml \
		--interpreter $(BIN)/python --out $(CORE_WHEELS)
	@touch $@

$(VENV)/.core: $(VENV)/.test $(CORE_WHEELS)/.built
	@$(PIP) install --no-deps --no-index --force-reinstall $(CORE_WHEELS)/*.whl
	@touch $@

$(VENV)/.dev: $(VENV)/.test requirements/dev.txt
	@echo "Installing the development tools into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@touch $@

$(NODE_MODULES)/.installed: tests/interop/package.json tests/interop/package-lock.json
	@echo "Installing @moq/token and @moq/net for the interoperability tests"
	@npm ci --prefix tests/interop --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# The tests import the built wheel, not src: this directory holds its content and comes first on the path.
$(SITE)/.installed: $(VENV)/.test $(WHEEL_SOURCES)
	@rm -rf $(SITE)
	@$(PIP) install --no-deps --no-build-isolation --target $(SITE) .
	@touch $@

# The benchmark has its own environment for each interpreter, with the wheel installed as users install it.
BENCH_VENV := build/bench-$(PYTHON_VERSION)
BENCH := $(BENCH_VENV)/bin/python
BENCH_SERVERS = $(if $(wildcard $(RUST_MOQ)),RUST_MOQ=$(CURDIR)/$(RUST_MOQ)) $(BENCH) -m benchmarks.servers
BENCH_PIP := $(BENCH) -m pip --disable-pip-version-check --quiet

$(BENCH_VENV)/.peers: requirements/bench.txt
	@echo "Installing the libraries for comparison into $(BENCH_VENV)"
	@$(PYTHON) -m venv --clear $(BENCH_VENV)
	@$(BENCH_PIP) install --require-hashes --requirement requirements/bench.txt
	@touch $@

$(BENCH_VENV)/.installed: $(BENCH_VENV)/.peers $(WHEEL_SOURCES) $(if $(CARGO),$(CORE_WHEELS)/.built)
	@$(BENCH_PIP) install --no-deps --no-build-isolation --force-reinstall .
	@$(if $(CARGO),$(BENCH_PIP) install --no-deps --no-index --force-reinstall $(CORE_WHEELS)/*.whl)
	@touch $@

$(BENCH_NODE_MODULES)/.installed: benchmarks/node/package.json benchmarks/node/package-lock.json
	@echo "Installing the Node.js libraries for comparison"
	@npm ci --prefix benchmarks/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

core: $(VENV)/.core  ## Build the compiled core (the extra `fast`) with cargo, and install it

venv: $(VENV)/.dev  ## Make the virtual environment with all development tools

demo: $(VENV)/.demo  ## Run a backend, an auth server, a relay that asks it, and clients that it admits and refuses
	@PYTHONPATH=$(CURDIR)/src $(BIN)/python examples/demo.py

# The tests for which it matters whether the extra `fast` is installed. With cargo, they run with it and without it.
FAST_MATTERS := $(patsubst %,tests/unit/test_%.py,compiled jws key keyset material pem signatures threads trace vectors verify)

# With the same hashes in each process, the processes of a run find the same tests in the same order, and a red run is red again.
test: export PYTHONHASHSEED := 0
test: $(VENV)/.test $(CORE) $(SITE)/.installed $(INTEROP)  ## Run the quick tests against the built wheel (ARGS= goes to pytest)
	PYTHONPATH=$(CURDIR)/$(SITE) $(BIN)/python -m pytest -n auto $(ARGS)
	PYTHONPATH=$(CURDIR)/$(SITE) $(BIN)/python -m pytest --without-fast $(FAST_MATTERS) $(ARGS) || test $$? -eq 5 # none selected

test-all:  ## Run the quick and the slow tests with every Python from 3.11 on this machine
	scripts/pythons | while read -r version python; do \
		$(MAKE) test PYTHON=$$python VENV=build/venv-$$version \
			ARGS="-m 'not rust' --hypothesis-profile=thorough --timeout=900 $(ARGS)" </dev/null || exit; \
	done

# Ten million tokens take about an hour (ARGS='--count N --seed N').
fuzz-core: $(VENV)/.core  ## Compare the compiled core with the Python code on changed tokens (ARGS=)
	PYTHONPATH=$(CURDIR)/src $(BIN)/python -m tests.differential --count 10000000 $(ARGS)

$(RUST_CLI):
	cargo install moq-token-cli --version $(RUST_CLI_VERSION) --locked --root build/cargo

$(RUST_RELAY):
	cargo install moq-relay --version $(RUST_RELAY_VERSION) --locked --root build/cargo

# Only the features that the tests need: the default ones need video libraries. Not --locked: dependencies are the newest.
$(RUST_MOQ):
	cargo install moq-cli --version $(RUST_MOQ_VERSION) --no-default-features --features noq,websocket --root build/cargo-second

$(RUST_RELAY_SECOND):
	cargo install moq-relay --version $(RUST_RELAY_SECOND_VERSION) --no-default-features --features noq,websocket,uds \
		--root build/cargo-second

RUST := $(RUST_CLI) $(RUST_RELAY) $(RUST_MOQ) $(RUST_RELAY_SECOND)
interop: $(VENV)/.test $(SITE)/.installed $(INTEROP) $(RUST)  ## Run the tests against the Rust programs, which cargo builds
	RUST_MOQ_TOKEN=$(CURDIR)/$(RUST_CLI) RUST_MOQ_RELAY=$(CURDIR)/$(RUST_RELAY) \
		RUST_MOQ=$(CURDIR)/$(RUST_MOQ) RUST_MOQ_RELAY_SECOND=$(CURDIR)/$(RUST_RELAY_SECOND) \
		PYTHONPATH=$(CURDIR)/$(SITE) $(BIN)/python -m pytest -m rust $(ARGS)

SCHEDULES ?= 1000000
simulate: $(VENV)/.test $(SITE)/.installed  ## Run the auth server in a million simulated worlds (SCHEDULES=; about 20 minutes on 2 cores)
	PYTHONPATH=$(CURDIR)/$(SITE):$(CURDIR) $(BIN)/python -m tests.simulation.run $(SCHEDULES)

coverage: $(VENV)/.dev $(INTEROP)  ## Report the lines and branches that no test reaches
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.dev  ## Check lint, format, types, and the layers of the package
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	PATH="$(abspath $(BIN)):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --verifytypes moq_token --ignoreexternal
	$(BIN)/lint-imports --no-logo
	$(if $(CARGO),$(MAKE) core-check)

# The tests of the core are a program that needs Python as a shared library.
LIBPYTHON := $(shell $(PYTHON) -c 'from sysconfig import get_config_var as get; print(get("LIBDIR") if get("Py_ENABLE_SHARED") else "")')
core-check: $(MADE)
	cargo fmt --check --manifest-path core/Cargo.toml
	$(CORE_ENVIRONMENT) cargo clippy --quiet --release --locked --manifest-path core/Cargo.toml --all-targets -- -D warnings
	$(if $(LIBPYTHON),$(CORE_ENVIRONMENT) LD_LIBRARY_PATH=$(LIBPYTHON) \
		cargo test --quiet --release --locked --manifest-path core/Cargo.toml --features pyo3/auto-initialize)

bench: $(BENCH_VENV)/.installed $(BENCH_NODE)  ## Measure the speed of this package and of others, into build/bench.json and .md (ARGS=)
	$(BENCH) -m benchmarks --json build/bench.json --markdown build/bench.md --targets build/bench-targets.md $(ARGS)
	$(MAKE) bench-servers

bench-servers: $(BENCH_VENV)/.installed  ## Measure the auth server under load with wrk, beside `moq auth serve` if it is built, into build/bench-servers.md (SERVERS=)
	$(BENCH_SERVERS) --markdown build/bench-servers.md $(SERVERS)
	$(BENCH_SERVERS) --door --connections 16 --sessions 10000 --algorithms HS256
	$(BENCH) -m benchmarks.servers --share --connections 64 --sessions 0 10000 --algorithms HS256
	$(BENCH) -m benchmarks.bans

bench-quick: $(BENCH_VENV)/.installed $(BENCH_NODE)  ## Measure in less than a minute, less exactly
	$(BENCH) -m benchmarks --quick $(ARGS)

bench-check: $(VENV)/.test $(SITE)/.installed  ## Fail if an operation takes over 10 % more instructions than the baseline
	PYTHONPATH=$(CURDIR)/$(SITE) $(BIN)/python -m benchmarks.instructions

bench-baseline: $(VENV)/.test $(SITE)/.installed  ## Write the current numbers of instructions as the new baseline
	PYTHONPATH=$(CURDIR)/$(SITE) $(BIN)/python -m benchmarks.instructions --renew

$(VENV)/.docs: $(VENV)/.test requirements/docs.txt
	@echo "Installing the documentation tools into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements/docs.txt
	@touch $@

docs: $(VENV)/.docs  ## Build the documentation into build/docs, check its links, and that its search finds what it must
	$(BIN)/python -m scripts.docs build
	$(BIN)/python -m pytest tests/interop/test_docs_search.py

docs-write: $(VENV)/.docs  ## Update the generated parts of docs/: help texts, tables, figure
	$(BIN)/python -m scripts.docs write

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

LOCK_GROUP := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
LOCK := $(LOCK_GROUP) pyproject.toml
lock: $(VENV)/.dev  ## Update the locked versions (UPGRADE=1: to the newest)
	$(LOCK) $(if $(UPGRADE),--upgrade) --group dev --output-file requirements/dev.txt
	$(LOCK) --output-file requirements/base.txt --constraint requirements/dev.txt
	$(LOCK) --extra http --extra metrics --extra objectstore --extra server --extra valkey --output-file requirements/image.txt --constraint requirements/dev.txt
	$(LOCK) --group demo --output-file requirements/demo.txt --constraint requirements/dev.txt
	$(LOCK) --group docs --output-file requirements/docs.txt --constraint requirements/dev.txt
	$(LOCK_GROUP) $(if $(UPGRADE),--upgrade) --group core --output-file requirements/core.txt
	$(LOCK_GROUP) --group core-release --output-file requirements/core-release.txt --constraint requirements/core.txt
	$(LOCK_GROUP) --group build --output-file requirements/build.txt --constraint requirements/dev.txt
	$(LOCK_GROUP) $(if $(UPGRADE),--upgrade) --group release --output-file requirements/release.txt --constraint requirements/dev.txt
	$(LOCK) --group test --output-file requirements/test.txt --constraint requirements/dev.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) --group bench --output-file requirements/bench.txt --constraint requirements/dev.txt

build: $(VENV)/.dev  ## Build wheel and sdist into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

smoke: build  ## Try the wheel in a fresh environment with its base dependencies only
	rm -rf build/smoke
	$(PYTHON) -m venv build/smoke
	build/smoke/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/base.txt
	build/smoke/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-index dist/*.whl
	build/smoke/bin/python -m pip check
	build/smoke/bin/python -I scripts/smoke.py

# The release tools have many dependencies, so they have their own environment.
RELEASE_VENV := build/release-$(PYTHON_VERSION)
RELEASE := $(RELEASE_VENV)/bin

$(RELEASE_VENV)/.installed: requirements/release.txt
	@echo "Installing the release tools into $(RELEASE_VENV)"
	@$(PYTHON) -m venv --clear $(RELEASE_VENV)
	@$(RELEASE)/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/release.txt
	@touch $@

dist: build $(RELEASE_VENV)/.installed  ## Build wheel and sdist, and check their metadata and content
	$(RELEASE)/twine check --strict dist/*
	$(BIN)/python -m pytest tests/contract/test_release.py

sbom: build $(RELEASE_VENV)/.installed  ## Write the bill of materials of the wheel into build/handout/
	rm -rf build/sbom
	$(PYTHON) -m venv --without-pip build/sbom
	$(PIP) --python build/sbom install --require-hashes --requirement requirements/base.txt
	$(PIP) --python build/sbom install --no-deps --no-index dist/*.whl
	mkdir -p build/handout
	$(RELEASE)/python -m scripts.sbom build/sbom build/handout/moq-token.cdx.json

man: $(VENV)/.test  ## Update the manual page and the shell completions in share/
	$(BIN)/python -m scripts.man

image-test: $(VENV)/.test $(if $(CARGO),$(CORE_WHEELS)/.built)  ## Build the container image with buildah (as root) and run it
	PYTHON=$(BIN)/python scripts/image-test

release-check: $(VENV)/.test  ## Check that this version can be released (TAG=: the tag being released)
	$(BIN)/python -m scripts.release_check $(if $(TAG),--tag $(TAG))

release-notes: $(VENV)/.test
	mkdir -p build/handout
	$(BIN)/python -m scripts.release_check --notes >build/handout/notes.md

ACTIONLINT_VERSION := v1.7.12
ACTIONLINT := $(if $(shell command -v go),build/actionlint-$(ACTIONLINT_VERSION)/actionlint)

build/actionlint-$(ACTIONLINT_VERSION)/actionlint:
	@echo "Installing actionlint into $(@D)"
	@GOBIN=$(CURDIR)/$(@D) go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

workflows: $(RELEASE_VENV)/.installed $(ACTIONLINT)  ## Check the workflows, also with actionlint if go is installed
	$(RELEASE)/zizmor --offline --no-progress --quiet .github
	$(ACTIONLINT)

# What downloads much is one step, so that it can be repeated when a download fails.
install: $(VENV)/.dev $(VENV)/.docs $(CORE) $(INTEROP) $(RELEASE_VENV)/.installed $(ACTIONLINT)  ## Install everything that the checks and tests need

clean:  ## Remove everything that these targets have made
	rm -rf .venv .cache build dist $(NODE_MODULES) $(BENCH_NODE_MODULES) .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
