# SPDX-License-Identifier: Apache-2.0
# The habits of this repository. `make help` lists them; all of them use an environment of their own, .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip -qq --disable-pip-version-check

# Made once; made again when the metadata or the native library change. (Python code needs no reinstall.)
STAMP  := $(VENV)/.stamp
TOOLS  := $(VENV)/.tools
INPUTS := pyproject.toml cerwu_onnx/_version.py CMakeLists.txt $(wildcard decoder_c/*.[ch] decoder_c/host/*.[ch])

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-cpp demo-web wasm npm test lint bench bench-peers bench-compat amalgamate size fuzz torture coverage mutants docs check-release urls clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

venv: $(TOOLS) ## make .venv with the project (editable) and the tools

$(STAMP): $(INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing cerwu-onnx into $(VENV)"
	@$(PIP) install -e .
	@touch $@

$(TOOLS): $(STAMP)
	@echo "installing the developers' tools into $(VENV)"
	@$(PIP) install -e '.[dev]'
	@touch $@

demo: $(STAMP) ## compress a sample model, rebuild it with the C decoder, compare
	@$(MAKE) --no-print-directory -C decoder_c rebuild
	@$(BIN)/python sample_models/demo.py

wasm: $(TOOLS) ## build js/src/cwb-wasm.js, the decoder for browsers, by ziglang
	@$(BIN)/python js/wasm/build.py

npm: wasm ## build js/cerwu-onnx-VERSION.tgz, the package for npm
	@cd js && npm pack --silent

demo-web: $(TOOLS) ## show the demo of js/demo to a headless Chromium; print what stands there (node, npm, chromium)
	@$(BIN)/python -m tests.js.demo

demo-cpp: $(TOOLS) ## classify with a sample model in C++: a session of onnxruntime from its .cwb file (docs/cpp.md)
	@$(BIN)/python -m tests.cpp.demo

# Files of tests side by side, a gigabyte of memory each. One BLAS thread: beside other work two of them wait for each
# other more than they compute.
test: $(TOOLS) ## all tests, those of the C decoder included
	@OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(TOOLS) ## ruff (rules and format) and mypy --strict; clang-tidy and cppcheck on the C sources
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/python -m tests.c.lint

bench: $(STAMP) ## measure sizes and speeds
	@$(BIN)/python -m tests.bench

bench-peers: $(TOOLS) ## whole files beside those of other tools; writes docs/benchmarks/peers.* and the table of README.md (hours at first)
	@$(PIP) install onnxslim
	@$(BIN)/python -m tests.bench peers

bench-compat: $(STAMP) ## take graphs of every kind through the tool; writes docs/compatibility.md (minutes; torch, onnxscript, skl2onnx if installed)
	@$(BIN)/python -m tests.compat

amalgamate: ## write decoder_c/cwb.c and cwb.h, which firmware compiles, from the kernels in decoder_c/src; texts and tables in host/
	@$(PYTHON) decoder_c/amalgamate.py
	@$(PYTHON) decoder_c/host/make_tables.py

size: $(TOOLS) ## what the C decoder costs on emulated microcontrollers, and what changed; writes docs/mcu.md and docs/benchmarks/size.json
	@$(BIN)/python -m tests.bench.size

fuzz: $(TOOLS) ## the C decoder under libFuzzer, which goes on from what reaches new code (ten minutes)
	-@$(PIP) install --only-binary atheris 'atheris>=2.3'
	@$(BIN)/python -m tests.fuzz --guided 600

torture: $(TOOLS) ## damage small files: each bit, each length, a million times at random, a million times field by field
	@$(BIN)/python -m tests.fuzz
	@$(BIN)/python -m tests.fuzz --reader
	@$(BIN)/python -m tests.fuzz --differential
	@$(BIN)/python -m tests.fuzz --graph --mutations 100000
	@$(BIN)/python -m tests.fuzz --expansion

coverage: $(TOOLS) ## lines that tests run in Python; lines and branches that they take in the C decoder (minutes)
	@$(BIN)/coverage run --source=cerwu_onnx,cli -m pytest
	@$(BIN)/coverage report --skip-covered
	@$(BIN)/python -m tests.c.coverage

mutants: $(TOOLS) ## plant some hundred bugs of one line, one at a time: do the tests find them? (half an hour)
	@$(BIN)/python -m tests.mutants

docs: $(TOOLS) ## check the links between the documents, and the options they name
	@$(BIN)/python -m tests.check_docs

check-release: ## build what a release publishes, install it in empty environments, use it (minutes; docs/releasing.md)
	@$(PYTHON) tests/release/check.py

urls: ## say where the project lives: make urls URL=https://github.com/YOU/cerwu-onnx
	@$(PYTHON) -m tests.release.urls "$(URL)"

clean: ## remove .venv, build products and caches
	rm -rf js/node_modules js/src/cwb-wasm.js js/*.tgz
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	$(MAKE) --no-print-directory -C decoder_c clean
