# Every target makes its own virtual environment: a plain clone and Python 3.11 are enough.
# The first interpreter that really runs and is new enough: some version managers put names on the path that only fail.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SEEDS ?= 500

.PHONY: demo test check format bench clean

demo: $(READY)  ## three daemons, a partition, and agreement
	$(BIN)/shoal demo

test: $(READY)  ## some minutes of simulated hardship, then all tests
	$(BIN)/python -m simulations run --seeds 1..$(SEEDS)
	$(BIN)/python -m pytest

check: $(READY)  ## lint, types, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## rewrite the sources in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## our figures, the raw bounds and their ratios
	$(BIN)/python -m benchmarks append
	$(BIN)/python -m benchmarks fold
	$(BIN)/python -m benchmarks replicate

$(READY): pyproject.toml
	@test -n "$(PYTHON)" \
	  || { echo "Shoal needs Python 3.11 or newer (make PYTHON=/path/to/python3.11)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "No virtual environment: on Debian and Ubuntu, apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
