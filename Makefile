# make demo: influence scores of real images in a few minutes, and a page to explore them in a browser.
# make test: lint, types and the tests of what a change usually breaks; about 9 minutes on two quiet cores.
# make test-all: lint, types, the documentation and every test, those of the wheel with each Python that is installed here.
# make docs: the documentation as a site in build/site, with warnings as errors; half a minute.
# make paper: every figure and table of the paper on real digits, in one page, in under 20 minutes.
# make gpu-program: what XLA compiles for an H100 and an A100, without either; an environment of 6 GB.
# Needs nothing but Python 3.11 or newer with venv; choose another interpreter by `make clean demo PYTHON=python3.13`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo docs paper gpu-program test test-all lint clean

demo: $(VENV)/installed
	$(BIN)/python -m experiments.cifar100_subsets --preset digits

paper: $(VENV)/installed
	$(BIN)/python -m experiments.paper --preset digits

# Everything is read anew: an old page must not survive a change of what it was made from.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet -c docs -d build/doctrees . build/site
	@echo "The site begins at build/site/index.html."

# Programs that are recorded are compiled again by `make gpu-program ARGS=--again` alone.
CUDA := .venv-cuda
gpu-program:
	@$(MAKE) --no-print-directory $(CUDA)/installed-cuda VENV=$(CUDA)
	JAX_PLATFORMS=cpu $(CUDA)/bin/python -m pytest tests/test_gpu_program.py -m "not slow"
	$(CUDA)/bin/python -m benchmarks.gpu_program $(ARGS)

# Whole files go to one process a core, in the order of tests/conftest.py.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-test lint
	$(PYTEST) -m "not slow"

test-all: $(VENV)/installed-all lint docs
	$(PYTEST)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jaxinfl needs Python 3.11 or newer as $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing jaxinfl and what it needs into $(VENV) (once; some minutes, about 1.3 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tfds]'
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing jaxinfl and its test tools into $(VENV) (once; some minutes, about 1.8 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/installed

# Ray takes 240 MB, which only the slow tests of pools need.
$(VENV)/installed-all: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing jaxinfl, its test tools, Sphinx and Ray into $(VENV) (once; some minutes, about 2.1 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs,ray,test]'
	@touch $@ $(VENV)/installed $(VENV)/installed-docs $(VENV)/installed-test

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing jaxinfl and Sphinx into $(VENV) (once; some minutes, about 1.3 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-cuda: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing jaxinfl with XLA's compiler for NVIDIA's cards into $(VENV) (once; some minutes, about 6 GB) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cuda12,test]'
	@touch $@

clean:
	rm -rf .venv .venv-cuda build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
