# make demo: influence scores of real images in a few minutes.   make test: lint, types and all tests.
# make paper: every figure and table of the paper on real digits, in one page, in under 20 minutes.
# Needs nothing but Python 3.11 or newer with venv; choose another interpreter by `make clean demo PYTHON=python3.13`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo paper test lint clean

demo: .venv/installed
	$(BIN)/python -m experiments.cifar100_subsets --preset digits

paper: .venv/installed
	$(BIN)/python -m experiments.paper --preset digits

test: .venv/installed-test lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jaxinfl needs Python 3.11 or newer as $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing jaxinfl and what it needs into .venv (once; some minutes, about 1 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing jaxinfl and its test tools into .venv (once; some minutes, about 1 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
