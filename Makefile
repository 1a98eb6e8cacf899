# `make export` exports the models of config.yaml; `make test` runs the tests. Each sets up the
# environment in .venv first, once.

PYTHON ?= python3
CORES ?= all
VENV := .venv
READY := $(VENV)/installed

.PHONY: help setup export demo test test-fast docs lock clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(READY) ## create the environment in .venv

export: $(READY) ## export the models of config.yaml that are not on request
	$(VENV)/bin/snakemake --cores $(CORES)

demo: $(READY) ## serve a page on this machine to try the exported models on
	$(VENV)/bin/python -m workflow_scripts.demo

# A process a core, which computes on one and takes the files in the order of tests/conftest.py.
test: $(READY) ## style, types and all tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest \
		--numprocesses auto --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## style and the tests that take seconds: no native tools, no Snakemake runs
	$(VENV)/bin/ruff check .
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -m "not workflow and not native"

docs: $(READY) ## write the pages that are generated
	$(VENV)/bin/python -m workflow_scripts.document_configuration --output docs/configuration.md

# --without-pip, and the pip at hand installs into it: Debian's Python has no ensurepip.
$(READY): requirements.lock
	@echo "Setting up $(VENV), once. PyTorch is large: some minutes."
	$(PYTHON) -m venv --clear --without-pip $(VENV)
	$(PYTHON) -m pip --python $(VENV)/bin/python install --quiet --requirement requirements.lock
	touch $@

lock: ## resolve requirements.in into requirements.lock
	$(PYTHON) -m venv --clear --without-pip .venv-lock
	$(PYTHON) -m pip --python .venv-lock/bin/python install --quiet --requirement requirements.in
	echo '# Every package that gets installed, by `make lock` out of requirements.in. Not for editing.' > requirements.lock
	$(PYTHON) -m pip --python .venv-lock/bin/python freeze | sed 's/+cpu$$//' >> requirements.lock
	rm -r .venv-lock

clean: ## remove results, logs and Snakemake's records
	rm -rf results logs .snakemake
