# The two commands: `make demo` and `make test`. Both set up .venv first; the second time that is quick.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo browser test quick fuzz attack lint types docs bench bench-browser wheel wheels wasm pyodide without-native arm64 arm64-short clean

help:  ## what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:  ## .venv with everything in it, llama.wasm built
	@$(PYTHON) tools/setup_venv.py

demo: setup  ## see it: a conversation continued, saved, restored, and the fallback on wasm
	@$(BIN)/llama-bridge demo

browser: setup  ## a chat in a web page: serves examples/browser and prints the address
	@$(BIN)/python -m tools.browser examples/browser

test: setup  ## the whole suite, on every backend
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: setup  ## the suite without what takes more than seconds
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

fuzz: setup  ## a hundred thousand hostile session files; takes a quarter of an hour
	@$(BIN)/python -m tests.fuzz

attack: setup  ## interrupts at every step, wrong arguments, streams left half read, strange folders; 8 minutes
	@$(BIN)/python -m tests.attack

lint: setup  ## ruff: rules and format; import-linter: what may import what
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo --no-cache

types: setup  ## mypy and pyright, both strict
	@$(BIN)/mypy && $(BIN)/pyright

docs: setup  ## the documentation as a site in build/docs, with pictures that tests take
	@LLAMA_BRIDGE_SCREENSHOTS=build/pictures $(BIN)/python -m pytest -q -m pictures tests/browser tests/cli tests/examples
	@$(BIN)/python -m sphinx -q -E -W --keep-going docs build/docs
	@echo build/docs/index.html

bench: setup  ## measure this machine; see benchmarks/
	@$(BIN)/python -m benchmarks

bench-browser: setup  ## llama.wasm in Chromium, against wllama there and against wasmtime here
	@$(BIN)/python -m benchmarks.browser

wasm: setup  ## build llama.wasm (setup does it too)
	@$(BIN)/python wasm/build.py

wheel: setup  ## dist/llama_bridge-*.whl
	@$(BIN)/python -m build --wheel

pyodide: setup  ## the wheel by pyodide-build, and the suite in a virtual environment of Pyodide on Node
	@$(BIN)/python -m tools.pyodide

without-native: setup  ## the quick suite where llama-cpp-python is not installed
	@$(BIN)/python -m tools.without_native.suite

wheels: setup  ## the wheel installed and its demo run, under each Python of this machine
	@$(BIN)/python -m tools.without_native.wheels

arm64: setup  ## llama.wasm on ARM64, by emulation: the same bits, the demo, the tests of the kernels
	@$(BIN)/python -m tools.arm64

arm64-short: setup  ## the same in three minutes: the demo model and each kernel, no tests
	@$(BIN)/python -m tools.arm64 --short

clean:  ## remove what was made here; the per-user caches stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f backends/llama_bridge_wasm/llama.wasm backends/llama_bridge_wasm/llama.wasm.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
