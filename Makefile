# make setup | compare | reproduce | test | test-slow | coverage | test-clusters | soak | lint | constraints | docs | bench
#      figures | codes-table | stragglers-table
# Every target installs what it needs into .venv first; only make and Python 3.11 or newer must be there.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup compare reproduce test test-slow coverage test-clusters soak lint constraints docs bench figures codes-table stragglers-table clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

# Uncoded, exact coding, ErasureHead and ignore-stragglers on real MPI ranks, then a table and a figure.
compare: $(READY)
	rm -rf outputs/compare
	$(BIN)/python -m erasurehead_jax.train -m experiment=compare hydra.sweep.dir=outputs/compare
	$(BIN)/python -m erasurehead_jax.report outputs/compare

# The paper, figure by figure, on 30 workers: a matter of hours. QUICK=1: a check on 12, with fewer rounds and one seed.
# What is done is not run again. ARGS=tracking=none, or any other setting of the runs.
reproduce: $(READY)
	$(BIN)/python -m erasurehead_jax.reproduce outputs/reproduce$(if $(QUICK),-quick --quick) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# What starts many processes or compiles much: killed ranks, multiruns, notebooks, examples. About as long as `make test`.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

# The test suite under coverage, MPI ranks and other subprocesses included; prints the total.
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not soak and not clusters' $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Several hosts (network namespaces), SLURM on this machine, AWS ParallelCluster's schema. As root, with Debian's slurm-wlm,
# munge, libpmix-dev and iproute2; what cannot be had is skipped. About 6 minutes.
test-clusters: $(READY)
	$(BIN)/python -m pytest -m clusters -ra $(ARGS)

# Ranks killed, frozen and resumed at many random instants; ten thousand rounds. About 15 minutes.
soak: $(READY)
	$(BIN)/python -m pytest -m soak -s $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# Check that the versions pinned in constraints.txt are available and compatible. Installs nothing.
constraints: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed -c constraints.txt '.[dev]'

# Build the documentation site in site/. Any warning is an error. (The variable hides a notice about MkDocs 2.)
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

# Huge pages spare the simulator a quarter of its time on wide data; SciPy gets them too.
bench: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
bench: $(READY)
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/prediction.py
	$(BIN)/python benchmarks/codes.py
	$(BIN)/python benchmarks/startup.py

# The documentation's pictures that come from the simulator.
figures: $(READY)
	$(BIN)/python docs/figures.py

# The tables of docs/codes.md.
codes-table: $(READY)
	$(BIN)/python docs/codes_table.py

# The table of docs/stragglers.md, of the recordings in $ERASUREHEAD_DATA/traces. About 3 minutes.
stragglers-table: $(READY)
	$(BIN)/python docs/stragglers_table.py

clean:
	rm -rf .venv outputs multirun build dist site .coverage .coverage.*
