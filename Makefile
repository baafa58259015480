# Needs python3.11 with pip, make and git; everything else comes into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin

.PHONY: demo test slow check lint format integration soak fuzz bench bench-peers bench-shapes bench-growth clean
.DEFAULT_GOAL := test

# Debian's python3 comes without ensurepip; then the system's pip fills the environment.
.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv || $(PYTHON) -m venv --without-pip --clear .venv
	test -x $(BIN)/pip || $(PYTHON) -m pip --python $(BIN)/python install -q pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

demo: .venv/.ready
	$(BIN)/python -m smtpgate demo

# With PYTHONDONTWRITEBYTECODE the tests take seconds longer, each time.
test: .venv/.ready
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q -n auto

# Tests that take long or check again what others do, and all properties with more examples.
slow: .venv/.ready
	SMTPGATE_HYPOTHESIS=thorough $(BIN)/python -m pytest -q -n auto -m '(slow or property) and not integration and not fuzz and not bench' tests

lint: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test

format: .venv/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Most of them wait for daemons, so there are more of them than cores; the longest files begin
# (tests/conftest.py).
# SMTPGATE_REQUIRE_DAEMONS=1 turns "not installed" from a skip into a failure. Some of them take
# over a minute, and to print the stacks of a process that goes on can crash it.
integration: .venv/.ready
	$(BIN)/python -m pytest -q -o faulthandler_timeout=600 -n 3 --dist loadfile --no-loadscope-reorder -m integration tests/integration tests/contract tests/directory tests/system

# Mail through a gate for an hour, with faults on both sides; SMTPGATE_SOAK_S is another time.
soak: .venv/.ready
	$(BIN)/python -m tests.soak

fuzz: .venv/.ready
	SMTPGATE_HYPOTHESIS=fuzz $(BIN)/python -m pytest -q -m 'fuzz or not (integration or bench)' tests/property tests/fuzz

bench: .venv/.ready
	$(BIN)/python -m pytest -q -s -m bench tests/bench

# The gate beside other mail servers, under the same load. ARGS="--record" keeps the table.
bench-peers: .venv/.ready
	$(BIN)/python -m tests.bench.peers peers $(ARGS)

bench-shapes: .venv/.ready
	$(BIN)/python -m tests.bench.peers shapes $(ARGS)

bench-growth: .venv/.ready
	$(BIN)/python -m tests.bench.peers growth $(ARGS)

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
