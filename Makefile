# Everything a developer or CI does, each in one command. The first one on a fresh machine sets up what it needs.
.PHONY: help setup demo demo-iscsi test test-all test-fast test-setup fuzz fresh check e2e e2e-all e2e-long crash chaos bench sim mutants drivers clean
.DEFAULT_GOAL := help
PYTEST := .venv/bin/python -m pytest
PARALLEL := -n 3 --dist loadfile # for two cores: many tests wait for processes of their own; a file stays on one worker
SETS := -n 2 --dist loadfile --no-loadscope-reorder # two sets of guests: each takes the next file, in the order of tests/e2e/conftest.py
SIDE_BY_SIDE := -n 2 --dist load # each test has processes and folders of its own

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## make .venv ready (as root also install missing host packages)
	@tools/setup

demo: setup ## start etcd, a controller and nodes, and attach a volume for real (KEEP=1: stay up)
	@.venv/bin/python -m tools.demo $(if $(KEEP),--keep)

demo-iscsi: setup ## a volume attached over real iSCSI and multipath, in guests with kernels of their own (needs root)
	@tests/e2e/prepare.sh
	@.venv/bin/python tests/e2e/demo.py

test: setup ## all tests but the end-to-end ones, and but those marked long
	$(PYTEST) $(PARALLEL) --ignore=tests/e2e --ignore=tests/crash -m 'not long' $(ARGS)

test-all: setup ## the same with those marked long: before an issue ends
	$(PYTEST) $(PARALLEL) --ignore=tests/e2e --ignore=tests/crash $(ARGS)

test-fast: setup ## tests of less than a minute altogether
	$(PYTEST) $(PARALLEL) --ignore=tests/e2e --ignore=tests/crash -m 'not slow and not long' $(ARGS)

test-setup: setup ## the same, and those that call the programs that set-up brings
	$(PYTEST) $(PARALLEL) --ignore=tests/e2e --ignore=tests/crash -m '(not slow or setup) and not long' $(ARGS)

fresh: ## make demo and make test in a bare Debian 12, from a fresh clone of HEAD (needs root; TEST=test-setup: quicker)
	@setpriv --pdeathsig TERM tools/fresh demo $(or $(TEST),test)

fuzz: setup ## hostile values: each property test with 30 times as many examples as in make test (TIMES=100)
	BRICKWORK_FUZZ=$(or $(TIMES),30) $(PYTEST) $(PARALLEL) -m hypothesis tests/unit $(ARGS)

check: setup ## style, types, architecture, documentation
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/mypy --strict
	.venv/bin/lint-imports
	.venv/bin/python tools/check_docs.py

e2e: setup ## end-to-end tests on real kernels in guests, and crashes at every step (needs root)
	tests/e2e/prepare.sh
	BRICKWORK_E2E_REQUIRED=1 $(PYTEST) $(SETS) tests/e2e -m 'not long' $(ARGS)
	$(PYTEST) $(SIDE_BY_SIDE) tests/crash $(ARGS)

e2e-all: setup ## the same with those marked long: before an issue ends (needs root)
	tests/e2e/prepare.sh
	BRICKWORK_E2E_REQUIRED=1 $(PYTEST) $(SETS) tests/e2e $(ARGS)
	$(PYTEST) $(SIDE_BY_SIDE) tests/crash $(ARGS)

e2e-long: setup ## 50 moves of a written volume with random kills (needs root; SEED=7 MOVES=50)
	tests/e2e/prepare.sh
	BRICKWORK_E2E_REQUIRED=1 BRICKWORK_E2E_MOVES=$(or $(MOVES),50) BRICKWORK_E2E_SEED=$(or $(SEED),$(shell date +%N)) \
		$(PYTEST) -s tests/e2e/test_moves.py $(ARGS)

crash: setup ## only that part of e2e: SIGKILL at every step of the daemons (needs root)
	$(PYTEST) $(SIDE_BY_SIDE) tests/crash $(ARGS)

chaos: setup ## real processes, a cluster of etcd, faults, and the recorded history checked (needs root; SEED=7 MINUTES=3)
	@.venv/bin/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

bench: setup ## how fast, and what it costs
	@for file in tests/bench/[a-z]*.py; do .venv/bin/python -m tests.bench.$$(basename $$file .py) || exit 1; done

sim: setup ## the simulator: SEED=7 for one run, SEEDS=1000 for many
	@.venv/bin/python -m tests.sim $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

mutants: setup ## take out one guard after the other: some test must miss it (MUTANT=part of a name: only those)
	@.venv/bin/python -m tools.mutants $(if $(MUTANT),"$(MUTANT)")

drivers: setup ## every Cinder driver, what it speaks, and what is missing for it here
	@.venv/bin/python tools/drivers.py

clean: ## remove what the other commands made
	rm -rf --one-file-system .venv .state build *.egg-info .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
