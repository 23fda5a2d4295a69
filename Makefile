# `make demo` and `make test` set up all that they need: a virtual environment in .venv, then the project in it.
PYTHON ?= python3
BIN := .venv/bin

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.PHONY: demo test lint clean
demo: .venv/installed
	rm -rf demo
	$(BIN)/nnunet_cardiac demo -o demo

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv demo build *.egg-info
