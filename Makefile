# Everything a newcomer needs: `make demo` to see it, `make test` to trust it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests start hundreds of servers; each would compile the whole product anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test sim mutants crash chaos static proof newcomer check lint lock states clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

$(VENV)/run.ready: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: PYTHON=/path/to/python3 make"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/dev.ready: requirements/dev.txt $(VENV)/run.ready
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/run.ready ## roll an example environment under load, kill the server in the middle (KEEP=1 leaves it running)
	@$(BIN)/python examples/demo.py

test: $(VENV)/dev.ready ## run all tests, twice as many at once as there are cores: most of them wait
	@$(BIN)/python -m pytest -n $$((2 * $$(nproc))) --dist loadfile

SEEDS ?= 1000
sim: $(VENV)/dev.ready ## play SEEDS=1000 simulated histories on all cores (FROM= the first); SEED=17 replays one with its trace
	@$(BIN)/python -m tests.simulation.seeded $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(or $(FROM),0))

lint: $(VENV)/dev.ready ## style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

mutants: $(VENV)/dev.ready ## put deliberate defects into the product; the simulation must find each
	@$(BIN)/python -m pytest -m mutant

crash: $(VENV)/dev.ready ## kill a real server before, during and after every step, on both stores and engines
	@$(BIN)/python -m pytest -m matrix -n $$((2 * $$(nproc)))

chaos: $(VENV)/dev.ready ## ten minutes of real servers on PostgreSQL, killed, frozen and restarted under load
	@$(BIN)/python benchmarks/chaos.py

MINUTES ?= 60
static: $(VENV)/dev.ready ## MINUTES=60 without any server, under load; then they come back and roll everything
	@$(BIN)/python benchmarks/static_stability.py --minutes $(MINUTES)

proof: crash mutants chaos static newcomer ## what takes too long for CI (two hours, as root)
	@tests/newcomer/clean_root.sh test

newcomer: ## as root: type what the README says in a clean Debian root, as root and as a user
	@tests/newcomer/clean_root.sh

check: lint test sim ## what CI runs

states: $(VENV)/dev.ready ## write docs/reference/states.md anew
	@$(BIN)/python -m tools.states

lock: $(VENV)/dev.ready ## resolve the dependencies anew, for every supported Python
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra databases -o requirements/run.txt pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -c requirements/run.txt -o requirements/dev.txt requirements/dev.in

clean: ## remove what make made
	@rm -rf $(VENV) build dist
