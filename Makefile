# Every target sets up all that it needs: a virtual environment in .venv, then the project in it.
PYTHON ?= python3
BIN := .venv/bin

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.PHONY: demo test kills lint docs coverage fuzz clean
demo: .venv/installed
	rm -rf demo
	$(BIN)/nnunet_cardiac demo -o demo

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# every command that writes, killed anywhere and run again; KILLS=N, SEED=N
kills: .venv/installed
	$(BIN)/python tests/kills.py --kills $(or $(KILLS),50) --seed $(or $(SEED),0)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pictures and tables of the documentation; those that need images: make docs ACDC=FOLDER; learning curves of the
# recipes: make docs CURVES=FOLDER, with nnU-Net's folders set
docs: .venv/installed demo/benchmark/report/index.html
	$(BIN)/python docs/make_docs.py --demo demo $(if $(ACDC),--acdc $(ACDC)) $(if $(CURVES),--curves $(CURVES))

demo/benchmark/report/index.html:
	$(MAKE) demo

coverage: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-report=html

# thousands of damaged files for every command; the seconds for each: make fuzz SECONDS_EACH=600
SECONDS_EACH ?= 150
fuzz: .venv/installed
	FUZZ_SECONDS=$(SECONDS_EACH) $(BIN)/python -m pytest -s --tb=line tests/test_damaged_files.py

clean:
	rm -rf .venv demo build htmlcov *.egg-info
