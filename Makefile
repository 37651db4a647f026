# The two commands: `make demo` shows Postroom at work, `make test` proves it. Both do their own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
FAULTY = $(if $(FAULT),,tests/faults) $(shell grep -rlE 'mark\.fault\(number=$(or $(FAULT),[0-9]+)\)' tests --include='test_*.py')
ARGS := $(if $(ONCE),--once) $(if $(INPUTS),--inputs $(INPUTS)) $(if $(STATE),--state $(STATE))

# subprocesses of the tests start five times as fast with compiled modules
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test faults chaos s3 e2e pages check deb systemd-test lock flower man clean

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

faults: setup ## Each fault of docs/guarantees.md, on real processes; FAULT=7 makes one of them
	@.ci/packages
	$(if $(FAULT),,$(BIN)/python -m daemon.embedded.weights)
	POSTROOM_TEST_FULL=1 $(BIN)/python -m pytest -m "fault$(if $(FAULT),(number=$(FAULT)))" $(FAULTY) $(PYTEST)

chaos: setup ## Traffic while everything fails at random, then the reckoning; MINUTES=30 SEED= RATE= KEEP=1
	@.ci/packages
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(RATE),--rate $(RATE)) $(if $(KEEP),--keep)

e2e: setup ## make demo ONCE=1 on other inputs
	@.ci/packages
	POSTROOM_TEST_FULL=1 $(BIN)/python -m pytest tests/e2e $(PYTEST)

s3: setup ## The blob store on a real S3 server (versitygw, built once with Go)
	@.ci/s3
	$(BIN)/python -m pytest tests/integration/test_stores.py $(PYTEST)

deb: setup ## dist/postroom_VERSION_ARCH.deb, with its virtual environment under /opt/postroom
	@VENV=$(VENV) .ci/deb

systemd-test: setup ## A real systemd in a container: install, restart, kill, freeze, reload, upgrade, uninstall
	@VENV=$(VENV) $(BIN)/python -m tests.systemd

pages: setup ## The pages in a browser, the long way: every look, a hundred hostile mails, fifty decisions by keyboard
	@.ci/packages
	POSTROOM_TEST_FULL=1 $(BIN)/python -m pytest tests/pages $(PYTEST)

lock: setup ## Write requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url --quiet --upgrade -o requirements.lock

flower: setup ## Flower on the configured broker, at http://127.0.0.1:5555
	@$(BIN)/python -m daemon.cli flower

man: setup ## Man page and completions for bash, zsh and fish, in build/
	@$(BIN)/python -m daemon.manual build

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
