# Two commands on a machine with Python 3.11+ and nothing else: `make demo`, `make test`. CONTRIBUTING.md has the others.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WORKERS ?= auto
# each worker takes a run of neighbouring tests, so that what a module or a room shares is made once, and steals at its end
PARALLEL := --numprocesses $(WORKERS) --dist worksteal
# tests start many processes that import the same modules: each is compiled once, whatever the surroundings say
test fast torture: export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test fast lint types check torture docs reference clean

demo: $(VENV)/.demo
	$(BIN)/cinefuse demo --out demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PARALLEL)

# under a minute on two cores: what takes half a second or less each; what it lists at its end wants the mark `slow`
fast: $(VENV)/.test
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not torture and not real_data" --durations 20 --durations-min 1

lint: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.check
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

# everything but the tests: style, types, and what the wheel contains
check: lint types
	$(BIN)/python -m pytest -q tests/repository/test_wheel.py --override-ini addopts="--import-mode=importlib"

# the reliability tests at their full counts (docs/reliability.md): an hour or so
torture: $(VENV)/.test
	$(BIN)/python -m pytest -m torture

# the site, from docs/ and the docstrings, without network
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --quiet --strict --site-dir build/site

# the parts of docs/ that are made from the code: the commands, the map of the modules, the settings
reference: $(VENV)/.demo
	$(BIN)/typer cinefuse.cli utils docs --name cinefuse --output docs/cli.md
	$(BIN)/python -m tools.architecture
	$(BIN)/python -m tools.settings_page

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

$(VENV)/.docs: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) --editable '.[docs]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
