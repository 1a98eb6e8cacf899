# `make export` exports the models of config.yaml; `make test` runs the tests. Each sets up the
# environment in .venv first, once.

PYTHON ?= python3
CORES ?= all
VENV := .venv
READY := $(VENV)/installed

.PHONY: export test lock clean

export: $(READY)
	$(VENV)/bin/snakemake --cores $(CORES)

# A process a core, which computes on one and takes the files in the order of tests/conftest.py.
test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest \
		--numprocesses auto --dist loadfile --no-loadscope-reorder

# --without-pip, and the pip at hand installs into it: Debian's Python has no ensurepip.
$(READY): requirements.lock
	@echo "Setting up $(VENV), once. PyTorch is large: some minutes."
	$(PYTHON) -m venv --clear --without-pip $(VENV)
	$(PYTHON) -m pip --python $(VENV)/bin/python install --quiet --requirement requirements.lock
	touch $@

lock:
	$(PYTHON) -m venv --clear --without-pip .venv-lock
	$(PYTHON) -m pip --python .venv-lock/bin/python install --quiet --requirement requirements.in
	echo '# Every package that gets installed, by `make lock` out of requirements.in. Not for editing.' > requirements.lock
	$(PYTHON) -m pip --python .venv-lock/bin/python freeze | sed 's/+cpu$$//' >> requirements.lock
	rm -r .venv-lock

clean:
	rm -rf results logs .snakemake
