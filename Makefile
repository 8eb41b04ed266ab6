# Two commands matter: `make demo` shows the whole idea at work, `make test` runs the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# PyTorch's CPU index keeps gigabytes of CUDA away; it adds to PyPI and is harmless where it cannot be reached.
TORCH := torch==2.13.0

.PHONY: install demo test lint types unit soak bench-gateway lock debian clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("sifwatch needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile $(TORCH)
	$(BIN)/python -m pip install --quiet --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(STAMP)

demo: install
	$(BIN)/python -m examples.demo --out demo-report

test: lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest -n 2 --dist worksteal -m 'not alone'
	$(BIN)/pytest -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests)

# The gateway under load (30,000 requests, half an hour), the probes for months (simulated), killed, with replicas
# and with 1,000 targets; and what the gateway adds to the bare proxy. Wants an idle machine.
soak: install
	$(BIN)/python -m benchmarks.gateway.soak --json runs/gateway-soak.json
	$(BIN)/python -m benchmarks.probes.null_soak --json runs/probes-null-soak.json
	$(BIN)/python -m benchmarks.probes.kill --json runs/probes-kill.json
	$(BIN)/python -m benchmarks.probes.replicas --rounds 500 --kills 10 --json runs/probes-replicas.json
	$(BIN)/python -m benchmarks.probes.scale --json runs/probes-scale.json
	$(BIN)/python -m benchmarks.probes.scale --parts load --back 24 --postgres --json runs/probes-scale-postgres.json
	SIF_SOAK=1 $(BIN)/pytest tests/probes/test_litellm_callback.py

bench-gateway: install
	$(BIN)/python -m benchmarks.gateway.overhead --json runs/gateway-overhead.json

# What the end-to-end tests use of Debian; without a part of it its tests say so and are skipped.
debian:
	apt-get update -qq && apt-get install -y -qq --no-install-recommends \
		prometheus prometheus-alertmanager postgresql chromium dataset-fashion-mnist

# Re-pin after a change of dependencies: a fresh environment, then what it holds.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet $(TORCH) && .venv-lock/bin/python -m pip install --quiet ".[dev]"
	.venv-lock/bin/python -m pip freeze --exclude sifwatch | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf demo-report build dist *.egg-info
