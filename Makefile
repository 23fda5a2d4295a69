# Every target sets up all that it needs: a virtual environment in .venv, then the project in it.
PYTHON ?= python3
BIN := .venv/bin

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.PHONY: demo test test-all kills fuzz slurm lint docs coverage clean
demo: .venv/installed
	rm -rf demo
	$(BIN)/nnunet_cardiac demo -o demo

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# with the tests that take longest: real processes of nnU-Net's, measured costs, compiled networks
test-all: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slurm"

# every command that writes, killed anywhere and run again; KILLS=N, SEED=N
kills: .venv/installed
	$(BIN)/python tests/kills.py --kills $(or $(KILLS),50) --seed $(or $(SEED),0)

# a benchmark on a real Slurm, which this starts; needs Slurm's programs and munge (Debian: slurmctld slurmd munge)
slurm: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev,slurm]"
	$(BIN)/python -m pytest -m slurm -rs

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

# 2,000 damaged files for every command, which takes hours; fewer: make fuzz FILES=100; no longer: SECONDS_EACH=150
FILES ?= 2000
SECONDS_EACH ?= 1000000
fuzz: .venv/installed
	FUZZ_FILES=$(FILES) FUZZ_SECONDS=$(SECONDS_EACH) $(BIN)/python -m pytest -s --tb=line tests/test_damaged_files.py

clean:
	rm -rf .venv demo build htmlcov *.egg-info
