# Everything from a fresh clone with Python 3.10 to 3.12: `make train`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
# The second time, an unchanged stamp makes the set-up instant. It is written last,
# so that an interrupted set-up is taken up again.
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

# Training, with ray tracing and evaluation around it, ends within 30 minutes.
MAX_MINUTES ?= 22
RUN_DIR ?= runs/paris_scn1
RESUME = $(if $(wildcard $(RUN_DIR)/config.json),--resume)
# Processes that share the quick tests.
TEST_PROCESSES ?= 2
# More arguments of what is run, e.g. `make train RUN_DIR=runs/other ARGS="--seed 1"`.
ARGS ?=

# The first Python that fits and can make environments; PYTHON=... overrides it.
FITS := import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3.12 python3.11 python3.10 python3; do \
	if $$python -c "$(FITS)" >/dev/null 2>&1; then echo $$python; break; fi; done)

.PHONY: help venv train test test-slow lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
		| awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

venv: $(STAMP) ## set up .venv/ with the package and its tools

$(STAMP): setup.py pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.10, 3.11 or 3.12 with ensurepip found: install one" \
			"(Debian: python3-venv), or pass PYTHON=/path/to/python." >&2; \
		exit 2; \
	fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dev]'
	touch $@

# Run again, it goes on where it stopped, or shows the result of the finished run.
train: $(STAMP) ## train VIn-Loc on ray-traced Paris (RUN_DIR, MAX_MINUTES, ARGS)
	$(BIN)/python -m sionna_loc.train --scenario paris_scn1 --run-dir $(RUN_DIR) \
		--max-minutes $(MAX_MINUTES) $(ARGS) \
		$(if $(findstring --overwrite,$(ARGS)),,$(RESUME))

test: $(STAMP) ## run the quick tests
	$(BIN)/python -m pytest -q --durations 10 -n $(TEST_PROCESSES) --dist worksteal \
		$(ARGS)

test-slow: $(STAMP) ## run the long tests
	$(BIN)/python -m pytest -q --durations 10 -m "slow and not gpu" \
		--timeout 7200 $(ARGS)

lint: $(STAMP) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## put style and formatting right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv/, caches and build outputs; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
