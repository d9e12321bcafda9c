# Everything here can be run again at any time, and in two clones side by side.
# PYTHON=python3.12 chooses the interpreter for the virtual environment; it must be 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo up chaos bench test test-newest check lint types imports format requirements generate clean prerequisites test-prerequisites docs

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: .venv/.runtime ## set up, start the system on free ports, place orders, check every one, stop
	$(BIN)/order-rail tour --start

up: .venv/.runtime ## set up, start the system on its own ports and stay; Ctrl-C stops it
	$(BIN)/order-rail up

chaos: .venv/.runtime ## set up, and inject faults into a system under load for ten minutes; SEED=7 repeats a run, NODES=3 is a cluster
	$(BIN)/order-rail chaos --minutes 10 $(if $(SEED),--seed $(SEED)) $(if $(NODES),--nodes $(NODES))

bench: .venv/.peers ## set up, and measure side by side with what people would otherwise write; DATABASE=postgresql or both
	$(BIN)/python -m benchmarks $(if $(DATABASE),--database $(DATABASE))

# Three at a time: most of them wait for a broker more than they work. The order is kept: those that take long come first.
test: .venv/.development ## set up, and run all tests
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-newest: .venv/.development ## a core of the tests on the RabbitMQ of docker-compose.yml, in a container
	$(BIN)/python -m tests.newest_broker

check: lint types imports test ## all that CI runs

lint: .venv/.development ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.development ## mypy
	$(BIN)/mypy

imports: .venv/.development ## import-linter: who may import whom
	$(BIN)/lint-imports

format: .venv/.development ## put the code into ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The newest versions: make requirements UPGRADE=--upgrade
COMPILE_ONLY = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --quiet --custom-compile-command "make requirements" $(UPGRADE)
COMPILE = $(COMPILE_ONLY) pyproject.toml
requirements: ## pin the dependencies of pyproject.toml anew
	$(COMPILE) --group build --output-file requirements.txt
	$(COMPILE) --group dev --extra stripe --extra lab --constraints requirements.txt --output-file requirements-dev.txt
	$(COMPILE) --group peers --constraints requirements.txt --output-file requirements-peers.txt
	$(COMPILE_ONLY) --group stripe --constraints requirements.txt --output-file requirements-stripe.txt
	$(COMPILE_ONLY) --group localstripe --output-file requirements-localstripe.txt
	$(COMPILE_ONLY) --group docs --constraints requirements-dev.txt --output-file requirements-docs.txt

generate: .venv/.development ## write docs/events.md, the tables of docs/settings.md, the figures and .env.example anew
	$(BIN)/python -m docs.generate

docs: .venv/.docs ## set up, and build the documentation into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/docs/index.html; with search: $(BIN)/python -m http.server --directory build/docs 8100"

clean: ## remove everything that was made here: environment, data, caches
	rm -rf .venv .run build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

prerequisites:
	@sh control_room/launcher/install_prerequisites.sh

test-prerequisites:
	@FOR_TESTS=1 sh control_room/launcher/install_prerequisites.sh

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.venv/.requirements: requirements.txt | prerequisites
	@echo "Setting up .venv ..."
	$(PYTHON) -m venv .venv
	$(INSTALL) --require-hashes --requirement requirements.txt
	@touch $@

# Each new service changes pyproject.toml. That installs the project anew, which takes seconds, and nothing else.
.venv/.runtime: .venv/.requirements pyproject.toml
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.development: requirements-dev.txt .venv/.requirements .venv/.docs .venv/localstripe/.installed | .venv/.runtime test-prerequisites
	$(INSTALL) --require-hashes --requirement requirements-dev.txt
	@touch $@

.venv/.docs: requirements-docs.txt .venv/.requirements | .venv/.runtime
	$(INSTALL) --require-hashes --requirement requirements-docs.txt
	@touch $@

.venv/.peers: requirements-peers.txt .venv/.requirements | .venv/.runtime
	$(INSTALL) --require-hashes --requirement requirements-peers.txt
	@touch $@

.venv/localstripe/.installed: requirements-localstripe.txt .venv/.requirements
	$(PYTHON) -m venv .venv/localstripe
	.venv/localstripe/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-localstripe.txt
	@touch $@
