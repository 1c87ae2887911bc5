# make setup   virtual environment in .venv with the tested versions (instant when nothing changed)
# make demo    train on damaged glyphs and write runs/demo/report.html
# make test    lint, types, tests with coverage, and the built wheel
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Another build of torch: make setup TORCH="torch==2.12.0"; the choice is kept in .venv
TORCH ?= $(or $(shell cat .venv/.torch 2>/dev/null),torch==2.13.0)
PYTHON ?=
JOBS ?= 2
export TORCH PYTHON

PY := .venv/bin/python
COVERAGE := 90
# The others want data or hours: their docstrings say how they are run.
BENCH ?= benchmarks/blur.py benchmarks/jpeg.py
# One stamp for each build of torch; setting up another build makes the older stamps worthless.
STAMP := .venv/.ready-$(shell printf '%s' '$(TORCH)' | tr -c 'A-Za-z0-9.' '-')

.PHONY: help setup demo test lint types wheel-test bench format clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo "also: make lint, types, format, wheel-test, bench, clean"

setup: $(STAMP)

$(STAMP): requirements/runtime.txt requirements/dev.txt pyproject.toml tools/setup.sh
	@rm -f .venv/.ready-*
	@bash tools/setup.sh
	@touch $@

demo: setup
	$(PY) -m blemish demo --out runs/demo

lint: setup
	@echo "[test] ruff"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: setup
	@echo "[test] mypy --strict"
	@$(PY) -m mypy

wheel-test: setup
	@echo "[test] the built wheel"
	@PY=$(PY) bash tools/wheel_test.sh

test: lint types wheel-test
	@echo "[test] pytest on $(JOBS) processes of one thread each"
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal \
	  --cov --cov-fail-under=$(COVERAGE) --durations=15

bench: setup
	@for file in $(BENCH); do echo "[bench] $$file"; $(PY) "$$file"; done

format: setup
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# Leaves .venv and runs/ alone.
clean:
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
