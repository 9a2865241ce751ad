# Two commands do everything on a fresh machine: `make demo` and `make test`. They need Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint bench validation torture fuzz clean

demo: $(STAMP)
	$(BIN)/asyncsim run scenarios/mnist5k_staleness.yaml

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/report.py

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz.py

validation: $(STAMP)
	$(BIN)/python benchmarks/validate.py

MINUTES ?= 10
torture: $(STAMP)
	$(BIN)/python benchmarks/torture --minutes $(MINUTES)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("asyncsim needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache build *.egg-info
