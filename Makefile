# make setup | compare | reproduce | test | test-clusters | soak | lint | bench | figures   (each sets itself up when needed; needs Python 3.11 or newer and make)
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup compare reproduce test test-clusters soak lint bench figures clean

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

# Huge pages spare the simulator a quarter of its time on wide data; SciPy gets them too.
bench: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
bench: $(READY)
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/prediction.py

# The documentation's pictures that come from the simulator.
figures: $(READY)
	$(BIN)/python docs/figures.py

clean:
	rm -rf .venv outputs multirun build dist
