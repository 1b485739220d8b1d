# Everything runs in .venv, made from the one lock of exact versions. torch is installed first: resolved by another
# package's requirement it would bring several GB of CUDA along.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
PEERS ?= .peers
WORKERS ?= 2

.PHONY: demo test mutate lint bench bench-peers fuzz clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# One thread a process: the threads of OpenMP wait for each other in loops, which two processes on two cores pay for.
test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal --durations=30

# An hour on one core: see docs/mutation.md.
mutate: $(STAMP)
	$(BIN)/python tests/mutate.py run --work .mutate; $(BIN)/python tests/mutate.py report --work .mutate

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry --no-ansi core pt tf flax conformance

bench: $(STAMP)
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/load16.py
	$(BIN)/python benchmarks/convert.py
	$(BIN)/python benchmarks/forward.py

bench-peers: $(STAMP) $(PEERS)/.installed
	$(BIN)/python benchmarks/generate.py --peers $(PEERS)
	$(BIN)/python benchmarks/train.py --peers $(PEERS)

INPUTS ?= 1000000
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz.py --inputs $(INPUTS)

# An environment for transformers 4, which finds in .venv what it does not hold itself; transformers 5 is in .venv.
$(PEERS)/.installed: benchmarks/peers.txt $(STAMP)
	$(PYTHON) -m venv $(PEERS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(PEERS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/frameworks.pth"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed -r benchmarks/peers.txt
	touch $@

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
