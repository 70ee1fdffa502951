# Two commands on a machine with Python 3.11+ and nothing else: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check torture docs clean

demo: $(VENV)/.demo
	$(BIN)/cinefuse demo --out demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

# everything but the tests: style, types, and what the wheel contains
check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/repository/test_wheel.py --override-ini addopts="--import-mode=importlib"

# the reliability tests at their full counts (docs/reliability.md): an hour or so
torture: $(VENV)/.test
	$(BIN)/python -m pytest -m torture

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.check: $(VENV)/.test
	$(PIP) --editable '.[check]'
	touch $@

# the reference of all commands, from the commands themselves
docs: $(VENV)/.demo
	$(BIN)/typer cinefuse.cli utils docs --name cinefuse --output docs/cli.md

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
