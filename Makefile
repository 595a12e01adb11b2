# One command each: `make demo` shows the vault at work, `make test` checks everything.
# Both set up what they need: system packages, the environment in .venv, the Rust crate.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
TEST_STAMP := $(VENV)/.ready-dev
SOURCES := pyproject.toml requirements.lock engines/Cargo.toml engines/Cargo.lock $(wildcard engines/src/*.rs)

.PHONY: demo up can-up roll down stop status test fuzz lint format lock soak system clean bug-bank bench-backup docs
.DEFAULT_GOAL := demo

demo: $(STAMP)
	@$(BIN)/quorumvault demo $(ARGS)

# Five data centers in containers (deploy/README.md). `stop` keeps everything, `down` destroys it.
# MONITORING=no does without Prometheus and Alertmanager, GRAFANA=yes adds Grafana.
MONITORING ?= yes
UP = WAN="$(WAN)" MONITORING="$(MONITORING)" GRAFANA="$(GRAFANA)" deploy/up.sh
up: can-up $(STAMP)
	@PYTHON="$(CURDIR)/$(BIN)/python" $(UP)

# Before minutes are spent on setting up: is Docker there, are the ports free?
can-up:
	@PYTHON="$(PYTHON)" $(UP) --check

roll: $(STAMP)
	@PYTHON="$(CURDIR)/$(BIN)/python" IMAGE="$(IMAGE)" SEATS="$(SEATS)" deploy/roll.sh

stop:
	@deploy/stop.sh

down:
	@CONFIRM="$(CONFIRM)" deploy/down.sh

status:
	@deploy/status.sh

test: $(TEST_STAMP) lint
	PATH="$(CURDIR)/$(BIN):$$PATH" cargo test --release --locked --quiet --no-default-features --manifest-path engines/Cargo.toml
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

# Every decoder that meets foreign bytes, EXAMPLES fresh inputs to each test instead of a few fixed.
EXAMPLES ?= 3000
fuzz: $(TEST_STAMP)
	QUORUMVAULT_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/fuzz --timeout 3600 $(ARGS)

# Known bugs, one at a time, and which check sees each: ARGS="--jobs 2 --write", or some names.
bug-bank: $(TEST_STAMP)
	$(BIN)/python -m chaos.bugbank $(ARGS)

# Backups of a made-up phone beside age and restic, on the same disk in the same run (MiB, rounds).
SIZE ?= 1024
ROUNDS ?= 3
bench-backup: $(STAMP)
	@$(BIN)/python -m chaos.backup_bench --size $(SIZE) --rounds $(ROUNDS) $(ARGS)

# The pages that are made from the code; tests/docs says when they are out of date.
docs: $(STAMP)
	$(BIN)/python -m node.api_page > docs/api.md
	$(BIN)/python -m quorumvault.cli.reference > docs/cli.md

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(TEST_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Random simulation for so much CPU time, from a random seed that is printed; fails on a broken rule.
CPU_MINUTES ?= 10
soak: $(STAMP)
	@$(BIN)/quorumvault chaos sim --cpu-minutes $(CPU_MINUTES) $(ARGS)

system:
	@deploy/system-packages.sh

$(STAMP): $(SOURCES)
	@deploy/system-packages.sh
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up the environment in $(VENV); the first time this takes some minutes."
	@echo "  installing Python packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "  compiling the Rust engines (about two minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(TEST_STAMP): $(STAMP) requirements-dev.lock
	@deploy/system-packages.sh --test
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Needs uv (pip install uv). Both files pin every package with its hashes.
lock:
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) target dist
