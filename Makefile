# make demo    shows a whole delivery against a stand-in TheEye
# make test    style, types, the law of imports, tests
# make quick   the same, but only the unit tests
# make slow    the tests that make test leaves out: further cases, such as other databases, signals and faults,
#              and all examples of the properties that make test tries on a part of them
# make chaos   breaks everything for an hour, and prints what was survived
# make week    runs a week of production in an hour: traffic, faults, edits, an upgrade and backups, and every
#              alert rule; WEEK_ARGS="--seconds 600 --store sqlite" is shorter, on SQLite
# make bench   compares the bridge with bare Flask, Node-RED, Debian's webhook and the bridge of 0.1.0, and writes
#              bench/RESULTS.md; BASE=v0.1.0 is the earlier bridge, BENCH_ARGS=--help shows the options
# make growth  measures what becomes slower as the table, the backlog or the database grows, and writes
#              bench/GROWTH.md; BENCH_ARGS="--fast --only routes" takes a tenth of the sizes and writes no file
# make docs    writes the parts of the docs that the code declares, and config/schema.json
# make lock    compiles requirements.txt and tests/requirements.txt from the ranges in pyproject.toml;
#              LOCK_ARGS=--upgrade moves every pin to the newest release that its range admits
# make audit   asks PyPI for known vulnerabilities of every pin, and fails if it cannot ask
# Each makes its own virtual environment in .venv

PYTHON ?= python3
BIN := .venv/bin
# More than most machines of CI have cores: many tests wait for processes.
TEST_ARGS ?= --numprocesses 3 --dist worksteal
# Compiled modules are stored even if the environment forbids it: each of many processes would compile them again.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.PHONY: demo test quick slow lint chaos week bench growth docs lock audit clean

demo: .venv/.run
	@$(BIN)/python -m bridge demo $(DEMO_ARGS)

test: lint
	$(PYTEST) $(TEST_ARGS)

quick: lint
	$(PYTEST) --numprocesses 2 tests/unit

slow: .venv/.test
	BRIDGE_TEST_EXAMPLES=all $(PYTEST) $(TEST_ARGS) -m "slow or hypothesis"

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

chaos: .venv/.test
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

week: .venv/.test
	@$(BIN)/python -m tests.week $(WEEK_ARGS)

# Without npm the report says that Node-RED was not measured.
bench: .venv/.run
	@-npm install --prefix bench --no-package-lock --no-audit --no-fund --loglevel=error
	@$(BIN)/python -m bench $(if $(BASE),--base $(BASE)) $(BENCH_ARGS)

growth: .venv/.run
	@$(BIN)/python -m bench --growth $(BENCH_ARGS)

docs: .venv/.run
	@$(BIN)/python -m docs.generate

# A pin changes only if its range excludes it, or on request. Both files have one pin for each package in common.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-package pip \
	--custom-compile-command "make lock" $(LOCK_ARGS)

lock: .venv/.test
	$(LOCK) pyproject.toml --output-file requirements.txt
	$(LOCK) --group test --constraints requirements.txt --output-file tests/requirements.txt

audit: .venv/.test
	$(BIN)/pip-audit --strict --disable-pip --requirement requirements.txt --requirement tests/requirements.txt

clean:
	rm -rf .venv

.venv/.run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ echo "Python's venv module is needed: on Debian, apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@# With this, python -m bridge runs in any folder.
	@pwd > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bridge.pth"
	@touch $@

.venv/.test: tests/requirements.txt .venv/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@touch $@
