# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Company networks and proxies sign with certificates of their own: trust those the system trusts.
export UV_SYSTEM_CERTS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all coverage lint lock clean

help:
	@echo "make demo      set up .venv, train the embedded experiment, write a report"
	@echo "make test      set up .venv and run the tests: at least one case of every behaviour"
	@echo "make test-all  up to 3 cases of every test, and samples of faults, fuzz and error rates"
	@echo "make coverage  make test, and which lines of bench and analysis it ran"
	@echo "make lint      ruff and mypy"
	@echo "make lock      write requirements.lock anew from pyproject.toml"
	@echo "make clean     remove .venv and caches; what is recorded in mlruns/ stays"

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else f"bench needs Python 3.11 to 3.13; {sys.executable} is {sys.version.split()[0]}. fix: make demo PYTHON=python3.13")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q bench
	@touch $@

demo: $(STAMP)
	$(BIN)/bench run digits --seeds 20

PYTEST = $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST) -m "not thorough"

test-all: $(STAMP)
	$(PYTEST) -m "not by_hand"

# Lines that only fork servers, trainings and started commands run do not count.
coverage: $(STAMP)
	$(PYTEST) -m "not thorough" --cov --cov-report=term:skip-covered

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(STAMP)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	    --no-header --no-annotate --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
