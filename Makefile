# Everything that a person or CI runs. `make up` and `make test` do all set-up themselves.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SETUP  := $(VENV)/.installed
PORT   ?= 8080
DATA   ?= .sluice
EXTRAS := bus gateway embedder retriever generator scheduler embedded dev

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup up down test unit lint types format lock clean

help: ## Show this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

$(SETUP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sluice needs Python 3.11 or later: set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	@$(BIN)/pip install --quiet --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(SETUP) ## Install the locked dependencies into .venv

up: $(SETUP) ## Run the platform on this machine: http://127.0.0.1:8080
	@$(BIN)/sluice up --port $(PORT) --data $(DATA)

down: $(SETUP) ## Stop a running `make up`
	@$(BIN)/sluice down --data $(DATA)

test: $(SETUP) ## Run every test
	@$(BIN)/python -m pytest

unit: $(SETUP) ## Run the tests that need no other process
	@$(BIN)/python -m pytest tests/unit

lint: $(SETUP) ## Check style, and that services never import each other
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(SETUP) ## Check types
	@$(BIN)/mypy

format: $(SETUP) ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: ## Resolve pyproject.toml into requirements.lock
	@$(BIN)/pip-compile --quiet $(addprefix --extra ,$(EXTRAS)) --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --output-file requirements.lock pyproject.toml
	@sed -i 's/+cpu$$//' requirements.lock  # whether torch comes with CUDA is the installing machine's choice

clean: ## Remove what was installed and built, but not the data in .sluice
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
