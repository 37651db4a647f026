# The two commands: `make demo` shows Postroom at work, `make test` proves it. Both do their own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
ARGS := $(if $(ONCE),--once) $(if $(INPUTS),--inputs $(INPUTS)) $(if $(STATE),--state $(STATE))

# subprocesses of the tests start five times as fast with compiled modules
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test faults e2e pages check lock clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

setup: ## Virtual environment with everything, from the lock file
	@VENV=$(VENV) .ci/setup

demo: setup ## Real mails and webhooks answered by a real model; ONCE=1 ends by itself
	@$(BIN)/python -m daemon.demo $(ARGS)

check: setup ## ruff, mypy, import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup check ## Everything, in under a quarter of an hour on two cores
	@.ci/packages
	$(BIN)/python -m daemon.embedded.weights
	$(BIN)/python -m pytest -m "not model" -n 3 --dist loadfile $(PYTEST)
	$(BIN)/python -m pytest -m model $(PYTEST)

faults: setup ## Workers and broker killed in mid-work: nothing is lost, nothing is done twice
	@.ci/packages
	POSTROOM_TEST_FULL=1 $(BIN)/python -m pytest tests/faults $(PYTEST)

e2e: setup ## make demo ONCE=1 on other inputs
	@.ci/packages
	$(BIN)/python -m pytest tests/e2e $(PYTEST)

pages: setup ## The pages in a browser, the long way: every look, a hundred hostile mails, fifty decisions by keyboard
	@.ci/packages
	POSTROOM_TEST_FULL=1 $(BIN)/python -m pytest tests/pages $(PYTEST)

lock: setup ## Write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url --quiet --upgrade -o requirements.lock

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
