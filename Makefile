# Two commands are all that a new machine needs: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
JOBS ?= 4
ITEMS ?=
TO ?= downloads
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
ONLY ?=
PORT ?= 8091

.DEFAULT_GOAL := help
.PHONY: help install run standin test test-real scale size check format bench chaos chart soak mutants docs fuzz shots audit scan release-check up down compose-test clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=python3.11 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	@touch $(RUNTIME)

# What tests and checks need beside it comes with the first of them.
$(STAMP): $(RUNTIME)
	$(PIP_INSTALL) -e '.[test]'
	@touch $(STAMP)

install: $(STAMP) ## make the environment in .venv

run: $(RUNTIME) ## download ITEMS=items.json TO=folder; without ITEMS, samples from a local stand-in
ifeq ($(ITEMS),)
	@$(BIN)/python -m tests.demo --to $(TO)
else
	@$(BIN)/geodes-tasks download $(ITEMS) --output-dir $(TO)
endif

standin: $(STAMP) ## start a stand-in for GEODES on PORT, and print what to export; Ctrl-C ends it
	@$(BIN)/python -m tests.standin --port $(PORT) --items 6 --size 4MiB --members IMG_B02.tif IMG_B04.tif IMG_B08.tif --rate 2MiB --exports

test: $(STAMP) ## run the tests, JOBS at once; most of them wait most of the time
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-real: $(STAMP) ## the slow tests, and those with the real programs of a cluster, as root
	$(BIN)/python -m pytest -m slow -n $(JOBS) --dist worksteal
	$(BIN)/python -m pytest -m real tests/real -n 2 --dist worksteal

check: $(STAMP) ## lint, format, types; Lua where luacheck is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.lua

scale: $(STAMP) ## a million downloads and 1,000 workers in one ledger; as root; writes docs/scale.md
	$(BIN)/python -m tests.real.scale
	$(BIN)/python docs/make_benchmarks.py

size: $(STAMP) ## lines of code by room, without blank lines, comments and docstrings
	@$(BIN)/python -m tests.size

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## figures against peers in the same run, as JSON too; ONLY=big_file for one
	$(PIP_INSTALL) -e '.[bench]'
	$(BIN)/python -m pytest -m bench tests/bench$(if $(ONLY),/test_$(ONLY).py)

chaos: $(STAMP) ## a long soak: workers killed, Redis restarted, faults
	$(BIN)/python -m pytest -m chaos tests/fault -s --timeout 3600

soak: $(STAMP) ## SECONDS of faults and outages on two workers: memory, descriptors, threads and keys do not grow
	SOAK_SECONDS=$(SECONDS) $(BIN)/python -m pytest -m chaos tests/fault/test_soak.py -s

mutants: $(STAMP) ## change the code in 300 ways and see whether a test fails; ONLY=lua for one subject
	$(BIN)/python -m tests.mutants --only "$(ONLY)"

chart: $(STAMP) ## render the Helm chart's example of plain manifests
	@$(BIN)/python -m tests.deploy.chart

docs: $(STAMP) ## the documentation as a site in site/; warnings and pages above 300 kB are errors
	$(PIP_INSTALL) -e '.[docs]'
	for page in settings errors options schemas licences; do $(BIN)/python docs/make_$$page.py --check || exit 1; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python -m tests.site site

shots: $(STAMP) ## screenshots of the terminal, Flower, its page of batches and a notebook, into docs/img
	$(BIN)/python docs/make_screens.py

SECONDS ?= 60
fuzz: $(STAMP) ## every property test with hostile bytes: atheris where it is had, SECONDS each
	$(PIP_INSTALL) -e '.[fuzz]' \
		|| echo 'atheris cannot be had here: hypothesis does it, with many examples'
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

audit: $(STAMP) ## known vulnerabilities among the pins, where the index has the data
	$(PIP_INSTALL) -e '.[audit]'
	$(BIN)/python -m tests.audit

IMAGE ?= geodes-tasks
scan: ## scan the image IMAGE with trivy or grype, where one is installed
	@if command -v trivy >/dev/null; then \
		trivy image --exit-code 1 --severity HIGH,CRITICAL $(IMAGE); \
	elif command -v grype >/dev/null; then grype --fail-on high $(IMAGE); \
	else echo 'skipped: neither trivy nor grype is installed here'; fi

release-check: $(STAMP) ## wheel and sdist, installed and used with every Python from 3.11 to 3.13
	$(PIP_INSTALL) -e '.[release]'
	$(BIN)/python -m tests.release $(PYTHONS)

up: ## start the compose stack
	$(COMPOSE) up --build --detach

down: ## stop the compose stack
	$(COMPOSE) down

compose-test: ## bring the compose stack up with a real Docker engine, and prove it
	deploy/compose-test.sh

clean: ## remove what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz site
