# `make help` lists the targets.

VENV ?= .venv
PYTHON ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?= --dataset digits
PIPFLAGS ?= --quiet --disable-pip-version-check

# The oldest claimed versions have wheels for Python 3.10 to 3.12 only. Candidates are run, not just
# found: version managers leave commands on the path that only print an error.
VENV_OLDEST ?= .venv-oldest
PYTHON_OLDEST ?= $(or $(firstword $(foreach candidate,python3.10 python3.11 python3.12,$(shell \
	$(candidate) -c 'import ensurepip' 2>/dev/null && echo $(candidate)))),$(PYTHON))

# Errors of TensorFlow's C++ side stay visible, its start-up notices do not.
export TF_CPP_MIN_LOG_LEVEL ?= 2

# Two dozen processes import TensorFlow while the tests run; without bytecode on disk, each would
# compile its modules anew for seven seconds.
unexport PYTHONDONTWRITEBYTECODE

# With -n: files stay together, since each is tidied up after, until a worker has nothing to do.
XDIST := --dist worksteal

# An example reads the logs that this package brings, which need nothing of what it depends on (torch).
LOGS := 'obp==0.4.1'

BIN := $(VENV)/bin
BIN_OLDEST := $(VENV_OLDEST)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-vary-seed test-oldest coverage check format \
	import-time docs docs-serve build clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST) | awk -F: '{printf "  %-16s%s\n", $$1, $$2}'
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) PYTEST_ARGS=... DEMO_ARGS='$(DEMO_ARGS)'"

# What the tests need includes what the examples need.
install: $(VENV)/.installed-test $(VENV_OLDEST)/.installed-oldest

demo: $(or $(wildcard $(VENV)/.installed-test),$(VENV)/.installed-examples)  ## train a small model with binary latents
	$(BIN)/python examples/binary_vae.py $(DEMO_ARGS)

test: $(VENV)/.installed-test  ## run the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow" $(XDIST) $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test  ## run the slow tests
	$(BIN)/python -m pytest -m slow $(XDIST) $(PYTEST_ARGS)

test-vary-seed: $(VENV)/.installed-test  ## run the tests with seeds that differ from run to run
	$(BIN)/python -m pytest -m "not slow" --vary-seed $(XDIST) $(PYTEST_ARGS)

test-oldest: $(VENV_OLDEST)/.installed-oldest  ## run the smoke test on the oldest claimed versions
	$(BIN_OLDEST)/python -m pytest tests/test_smoke.py $(PYTEST_ARGS)

# Lines that slow tests alone reach count as not covered, and are printed among them.
coverage: $(VENV)/.installed-test  ## run the tests as test does, and print the lines that none runs
	$(BIN)/python -m pytest -m "not slow" $(XDIST) --cov $(PYTEST_ARGS)

import-time: $(VENV)/.installed-test  ## print what importing the package takes; fail at .5 s
	$(BIN)/python benchmarks/import_time.py

check: $(VENV)/.installed-test  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy tf_relax

format: $(VENV)/.installed-test  ## format, and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the pages into build/site
	$(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.installed-docs  ## serve the pages, and build them anew when a file changes
	$(BIN)/mkdocs serve

# What PyPI shows and takes: built from nothing, the wheel out of the sdist, and small.
build: $(VENV)/.installed-release  ## build sdist and wheel into dist; fail at a wheel of 400 kB
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	@cd dist && for file in *; do echo "$$file: $$(( ($$(wc -c < $$file) + 999) / 1000 )) kB"; done
	@test $$(cat dist/*.whl | wc -c) -lt 400000 || { echo "The wheel has 400 kB or more: it holds \
	what it need not (unzip -l dist/*.whl)." >&2; exit 1; }

clean:  ## remove environments, caches and build products
	rm -rf $(VENV) $(VENV_OLDEST) build dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache \
		.ruff_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp in the environment says that its packages are installed, until their list changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIPFLAGS) --editable '.[$*]'
	$(if $(filter test,$*),$(BIN)/python -m pip install $(PIPFLAGS) --no-deps $(LOGS))
	@touch $@

$(BIN_OLDEST)/python:
	$(PYTHON_OLDEST) -m venv $(VENV_OLDEST)

# The package is installed with its dependencies, so that pip refuses pins below what it claims.
$(VENV_OLDEST)/.installed-oldest: pyproject.toml requirements-oldest.txt | $(BIN_OLDEST)/python
	$(BIN_OLDEST)/python -m pip install $(PIPFLAGS) --editable . pytest \
		--requirement requirements-oldest.txt
	@touch $@
