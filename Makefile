# Every target sets itself up: a fresh machine needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test check lint format bench stress clean

demo: $(VENV)/.installed  ## classify sample_images/ with the default model, or with VIT_MODEL=path
	@$(BIN)/vit classify sample_images --download

test: $(VENV)/.tests  ## run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.tests  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test  ## everything that must be green before a commit

bench: $(VENV)/.bench  ## measure this machine beside other engines and write the table into the documents
	$(BIN)/vit bench $(if $(VIT_MODEL),--model $(VIT_MODEL)) --against transformers,onnxruntime,openvino --format json \
		> $(VENV)/bench.json
	$(BIN)/python benchmarks/write_table.py $(VENV)/bench.json docs/performance.md README.md

format: $(VENV)/.tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stress: $(VENV)/.tests  ## long runs that must lose nothing (VIT_TEST_EDGE, _WEIGHTS, _IMAGES add to them)
	$(BIN)/python benchmarks/stress.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# One pip run for a .venv, so that the CPU build of torch is never replaced by another package's idea of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing vit into $(VENV) ..."
	@$(PIP) -e .
	@$(BIN)/python -m compileall -q vitcli
	@touch $@

# The reference libraries need torchvision, which would replace torch's CPU build and which transformers would then
# try to use: they go, without their dependencies, where only the subprocesses that make fixtures look.
$(VENV)/.tests: $(VENV)/.installed tests/oracles.txt
	@echo "Installing what the tests need ..."
	@$(PIP) -e '.[dev]'
	@rm -rf $(VENV)/oracles
	@$(PIP) --no-deps --target $(VENV)/oracles -r tests/oracles.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@echo "Installing the engines to compare with ..."
	@$(PIP) -e '.[bench]'
	@touch $@
