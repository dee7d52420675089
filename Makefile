# Every target sets up what it needs in $(VENV); a second run installs nothing unless
# pyproject.toml, the constraints or the requirements have changed.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# What `make test-latest` holds back; /dev/null takes the newest release of everything.
LATEST ?= constraints-latest.txt
# Options for every pip install, for example PIP_ARGS="--index-url ...".
PIP_ARGS ?=
# Processes that run the quick tests, and threads of torch in each of them.
WORKERS ?= auto
THREADS ?= 1
# Options for pytest, for example ARGS="-k windows -x".
ARGS ?=
# The folder of data sets that the benchmarks read.
DATA ?=

BIN := $(VENV)/bin
# pip compiles file after file; `$(READY)` compiles on all cores instead.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile $(PIP_ARGS)
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.ready-docs
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready
SOURCES := pyproject.toml $(CONSTRAINTS) requirements/embedded.txt \
	requirements/generator.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint quick test-slow test-lowest test-latest test-nightly
.PHONY: test-processors docs clean
.PHONY: bench bench-accuracy bench-few-shot bench-quality bench-regression \
	bench-scaling bench-search bench-tagging bench-writing

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))

demo: $(READY) ## fine-tune on real text and compare with a TF-IDF baseline
	@mkdir -p build/demo
	$(BIN)/python examples/plot_quickstart.py build/demo

test: lint quick ## lint, type check and the quick tests

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quick: $(READY) ## the quick tests alone
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal $(ARGS)

test-slow: $(READY) ## the tests that take long
	$(BIN)/python -m pytest -m slow --timeout 1800 $(ARGS)

test-lowest: ## the quick tests with the oldest supported dependencies
	$(MAKE) quick VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

test-latest: ## the quick tests with the newest releases of everything
	rm -rf .venv-latest
	$(MAKE) quick VENV=.venv-latest CONSTRAINTS=$(LATEST)

# PIP_ARGS must name an index with nightly builds: --pre --extra-index-url ...
test-nightly: ## the quick tests with scikit-learn's nightly build, with PIP_ARGS
	rm -rf .venv-nightly
	$(MAKE) .venv-nightly/.ready VENV=.venv-nightly CONSTRAINTS=$(LATEST) PIP_ARGS=
	.venv-nightly/bin/python -m pip install --quiet --upgrade $(PIP_ARGS) scikit-learn
	$(MAKE) quick VENV=.venv-nightly CONSTRAINTS=$(LATEST)

# As on processors without AVX-512 and without AVX, and with more threads than one.
test-processors: $(READY) ## the quick tests as on other processors
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(MAKE) quick
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(MAKE) quick
	OMP_WAIT_POLICY=PASSIVE $(MAKE) quick WORKERS=1 THREADS=4

bench: $(PEERS_READY) ## speed beside the peers; five minutes with ARGS=--short
	$(BIN)/python -m benchmarks.speed $(DATA) --peer $(PEERS)/bin/python $(ARGS)

bench-accuracy: $(PEERS_READY) ## accuracy beside the Trainer's, on DATA=path/to/data
	$(BIN)/python -m benchmarks.accuracy $(DATA) --peer $(PEERS)/bin/python $(ARGS)

bench-quality: $(READY) ## accuracy and seconds of the defaults, on DATA too
	$(BIN)/python -m benchmarks.quality $(DATA) $(ARGS)

bench-few-shot: $(PEERS_READY) ## the defaults beside SetFit on 100 texts, on DATA too
	$(BIN)/python -m benchmarks.few_shot $(DATA) --peer $(PEERS)/bin/python $(ARGS)

bench-regression: $(READY) ## R² of TransformerRegressor's defaults, on DATA too
	$(BIN)/python -m benchmarks.regression $(DATA) $(ARGS)

bench-search: $(READY) ## what a grid search costs beyond its fits
	$(BIN)/python -m benchmarks.search $(ARGS)

bench-tagging: $(PEERS_READY) ## TransformerTagger beside the Trainer, on DATA=path/to/data
	$(BIN)/python -m benchmarks.tagging $(DATA) --peer $(PEERS)/bin/python $(ARGS)

bench-writing: $(PEERS_READY) ## TransformerGenerator beside Seq2SeqTrainer and pipeline(), on DATA
	$(BIN)/python -m benchmarks.writing $(DATA) --peer $(PEERS)/bin/python $(ARGS)

bench-scaling: $(READY) ## time and memory of 100 to a million texts
	$(BIN)/python -m benchmarks.scaling $(ARGS)

docs: $(DOCS_READY) ## build the documentation into build/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs

clean: ## remove builds and caches; the environment stays
	rm -rf build dist docs/auto_examples docs/sg_execution_times.rst
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(READY): $(SOURCES) | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes a minute or more."
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[bench,explain,lora,onnx,openvino,plot,test]'
	$(PIP) --no-deps --require-hashes --requirement requirements/embedded.txt
	$(PIP) --no-deps --require-hashes --requirement requirements/generator.txt
	-$(BIN)/python -m compileall -q -j 0 -x '/tests?/|/testing/|/benchmarks/' $(VENV)/lib
	@touch $@

$(DOCS_READY): $(READY)
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[docs]'
	@touch $@

# The peers have requirements of their own, and so an environment of their own.
$(PEERS_READY): requirements/peers.txt $(READY)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) \
		--requirement requirements/peers.txt
	@touch $@
