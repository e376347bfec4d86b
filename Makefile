# What one does here, by hand or in CI. Needs Python 3.11-3.13, make and a package registry, nothing else.
# `make` alone lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
UV_VERSION := 0.13.9
LOOPS := $(addprefix include/nightdesk/science/,compiled.c middle.h networks.h)

# Where `make up` finds the data, its configuration, Airflow's home and the web UI.
DATA ?=
CONFIG ?=
HOME_DIR ?=
PORT ?= 8080

# Every version for every supported Python in one file, and no registry's address in it.
COMPILE := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --custom-compile-command "make pins"
UPGRADE ?= --upgrade

# A file of tests goes to whichever processor is free; the real Airflow, which mostly waits, comes first.
SHARED := --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: bench bench-airflow help setup setup-dev demo up test test-browser test-all pictures all format lint types docstrings env pins clean

help: ## list what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## build the environment: .venv, pinned packages, the command .venv/bin/nightdesk
	@echo "Ready: $(VENV)/bin/nightdesk --help"

setup-dev: $(VENV)/.installed-dev

demo: $(VENV)/.installed ## show a simulated night being reduced (DEMO_EXIT=1 ends with the verdict)
	@$(PY) tools/demo.py

up: $(VENV)/.installed ## run a real observatory: make up DATA=/data/pt5m [CONFIG=observatory.toml] [PORT=8080]
	@test -n "$(DATA)" || { echo "Say where the data are: make up DATA=/data/pt5m"; exit 2; }
	@exec $(PY) tools/observatory.py --data "$(DATA)" --port "$(PORT)" \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(HOME_DIR),--home "$(HOME_DIR)")

test: $(VENV)/.installed-dev ## tests: units, laws, Dags, one real Airflow
	$(PY) -m pytest -m "not slow and not browser" $(SHARED)

test-browser: $(VENV)/.installed-dev ## tests of the web pages, in a real browser (needs Chromium)
	$(PY) -m pytest -m "browser and not slow" tests/browser

test-all: $(VENV)/.installed-dev ## everything, also what takes long and what needs Chromium
	$(PY) -m pytest

pictures: $(VENV)/.installed-dev ## renew docs/pictures with the same browser
	NIGHTDESK_PICTURES=docs/pictures $(PY) -m pytest -m "browser and not slow" tests/browser/test_pages.py

all: format lint types docstrings test ## everything to do before a commit

format: $(VENV)/.installed-dev ## lay the code out
	$(PY) -m ruff format .

lint: $(VENV)/.installed-dev ## look for faults, and imports that go up
	$(PY) -m ruff check .

types: $(VENV)/.installed-dev ## check the types
	$(PY) -m mypy

docstrings: $(VENV)/.installed-dev ## check the docstrings of science/ and steps/
	$(PY) -m numpydoc lint $$(find include/nightdesk/science include/nightdesk/steps -name '*.py')

bench: $(VENV)/.installed-dev ## how fast: the notebook, ccdproc and this, in turn; writes docs/benchmarks.md
	$(PY) tools/bench.py $(BENCH)
	$(PY) -m pytest tests/benchmarks/bench_kernels.py --benchmark-only

bench-airflow: $(VENV)/.installed-dev ## what Airflow costs: groups of 3, 30 and 300 frames; writes docs/benchmarks-airflow.md
	$(PY) tools/bench_airflow.py $(BENCH)

env: ## write .env with fresh secrets, for docker-compose.yaml
	@python3 tools/make_env.py

pins: $(VENV)/.installed-dev ## renew requirements*.txt from pyproject.toml (UPGRADE= keeps what still fits)
	echo 'uv==$(UV_VERSION)' | $(COMPILE) $(UPGRADE) - --output-file tools/requirements-uv.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --extra cosmic-rays --output-file requirements.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --all-extras --constraints requirements.txt \
		--output-file requirements-dev.txt

clean: ## remove the environment, caches and the demonstration's folder
	rm -rf $(VENV) .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@sh tools/make_venv.sh "$(VENV)"

$(VENV)/.installed: requirements.txt tools/requirements-uv.txt pyproject.toml tools/install.py $(LOOPS) | $(VENV)/bin/python
	@$(PY) tools/install.py requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(PY) tools/install.py requirements-dev.txt
	@touch $@
