# Everything sets itself up: a virtual environment in .venv, made anew when pyproject.toml changes.
PYTHON ?= python3
SEEDS ?= 10000
FRAMES ?= 1000000
SPECS ?= 100000
# Of tests beside each other: more than there are processors, since most of them wait.
JOBS ?= 4
CONTROLLER ?= 1000
KEEPER ?= 200
UPGRADE ?= 100
BOTH ?= 100
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# A virtual environment names its own folder inside: a checkout that was moved or copied needs a new one.
ifneq ($(shell cat .venv/made 2>/dev/null),$(CURDIR))
MOVED := moved
endif
ifneq ($(shell cat .venv-peers/made 2>/dev/null),$(CURDIR))
PEERS_MOVED := moved
endif
# Managed processes inherit the environment; a make that one of them runs is not a part of this one.
unexport MAKEFLAGS MFLAGS

.DELETE_ON_ERROR:
.PHONY: help run test retest check format sim campaign fuzz bench bench-quick clean moved

help:
	@echo "make run     start specs/ in the foreground; Ctrl-C stops everything in order"
	@echo "make test    run all tests"
	@echo "make retest  run once more, one by one, the tests that failed last"
	@echo "make check   style, types, floors, and whether the wheel builds"
	@echo "make format  put the code into the style that check wants"
	@echo "make sim     SEEDS=10000 simulated histories with faults"
	@echo "make campaign  CONTROLLER=1000 KEEPER=200 UPGRADE=100 BOTH=100 kills of the real manager under load"
	@echo "make fuzz    FRAMES=1000000 frames and SPECS=100000 spec files that make no sense"
	@echo "make bench   speed beside the peers, in one run of some minutes; bench-quick: once and small"
	@echo "make clean   remove what was built"

run: .venv/run
	@exec $(BIN)/reconcile up specs/

test: .venv/dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

retest: .venv/dev
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	@mkdir -p build
	$(BIN)/python -m build --wheel --no-isolation --outdir build . >build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }

format: .venv/dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

sim: .venv/dev
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(JOBS)

campaign: .venv/dev
	$(BIN)/python -m tests.campaign --controller $(CONTROLLER) --keeper $(KEEPER) --upgrade $(UPGRADE) --both $(BOTH)

fuzz: .venv/dev
	$(BIN)/python -m tests.fuzz --frames $(FRAMES) --specs $(SPECS)

bench: .venv/run .venv-peers/made
	$(BIN)/python -m bench

bench-quick: .venv/run .venv-peers/made
	$(BIN)/python -m bench --quick

clean:
	rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made: $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "reconcile needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V 2>&1); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "cannot make a virtual environment: this Python lacks venv or ensurepip; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "setting up .venv (once)"
	@$(PYTHON) -m venv --clear .venv
	@pwd -P >$@

.venv/run: .venv/made pyproject.toml
	@$(PIP) install -e .
	@touch $@

.venv/dev: .venv/made pyproject.toml
	@$(PIP) install -e '.[dev]'
	@touch $@ .venv/run

# What the benchmark measures beside us, never needed by us. One that cannot be had is left out, and asked for again.
.venv-peers/made: $(PEERS_MOVED) bench/peers.txt | .venv/made
	@echo "setting up .venv-peers (once)"
	@$(PYTHON) -m venv --clear .venv-peers
	@all=yes; while read -r peer; do \
	  .venv-peers/bin/python -m pip -qq --disable-pip-version-check --retries 1 --timeout 15 install "$$peer" || \
	    { echo "cannot install $$peer: the benchmark goes on without it"; all=no; }; \
	done <bench/peers.txt; \
	if [ $$all = yes ]; then pwd -P >$@; fi
