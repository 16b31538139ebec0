# The two main commands: `make demo` and `make test`. Both set up .venv first, which is quick from the second time on.
PYTHON ?= python3
BIN := .venv/bin
# Tests start hundreds of programs: compiling all modules in each costs a sixth of the time of `make test`.
unexport PYTHONDONTWRITEBYTECODE
WORKERS := -n 3 --dist loadfile --no-loadscope-reorder

# Each has a target of its own, and is a step of CI.
TRIALS := tests/fuzz tests/attack tests/backends/test_many_schemas.py tests/remote/test_interrupts.py \
    tests/files/test_kill.py tests/native/test_long_texts.py tests/wasm/test_any_thread.py \
    $(addprefix tests/local/test_,interrupts.py company_interrupts.py interrupts_at_rest.py soak.py \
        speculation_by_chance.py stateful.py) \
    $(addprefix tests/structured/test_,grammars_by_chance.py official_suite.py schemas_by_chance.py)
# Many architectures, vocabularies and templates; the suite has the usual ones.
KINDS := tests/chat/test_families.py tests/testing/test_parallel_kinds.py tests/tools/test_random_model.py \
    $(addprefix tests/local/test_,memory_kinds.py verify.py) \
    $(addprefix tests/native/test_,embeddings.py memory_need.py real_vocabularies.py)
ELSEWHERE := $(TRIALS) $(KINDS) tests/browser tests/docs tests/packaging tests/tools/test_benchmarks.py tests/remote/test_command_line.py

.PHONY: desktop benches on-servers guides kinds trials load openai-npm screenshots help setup demo browser test pages quick fuzz fuzz-models attack lint types docs bench bench-browser wheel wheels wasm pyodide without-native fleet arm64 arm64-short clean

help:  ## list these targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:  ## make .venv with everything in it, and build llama.wasm, chat.wasm and the chat application
	@$(PYTHON) tools/setup_venv.py

demo: setup  ## show a conversation continued, saved and restored, and the fallback on wasm
	@$(BIN)/llama-bridge demo

browser: setup  ## chat in a web page: serve examples/browser and print the address
	@$(BIN)/python -m tools.browser examples/browser

test: setup  ## run the suite, on every backend; "kinds", "trials", "guides", "pages", "benches" and "wheels" run the rest
	@$(BIN)/python -m pytest $(WORKERS) $(ELSEWHERE:%=--ignore=%)

kinds: setup  ## run tests over many architectures, vocabularies and chat templates
	@$(BIN)/python -m pytest $(WORKERS) $(KINDS)

trials: setup  ## try many cases by chance, hostile files, and an interrupt at every fifth line
	@$(BIN)/python -m pytest $(WORKERS) $(TRIALS)

guides: setup  ## run every code block of the documentation, and build its site
	@$(BIN)/python -m pytest $(WORKERS) tests/docs

pages: setup  ## run the tests of web pages, in Chromium and Firefox
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/browser

on-servers: setup  ## run the suite with --llama-backend remote, on llama-bridge serve and on llama-server
	@$(BIN)/python -m tests.remote.on_servers -q -n 2

quick: setup  ## run the suite without slow tests
	@$(BIN)/python -m pytest $(WORKERS) -m "not slow"

fuzz: setup  ## try 100,000 hostile session files; takes a quarter of an hour
	@$(BIN)/python -m tests.fuzz

fuzz-models: setup  ## try 50,000 hostile models on native, and as many on wasm with no check before; half an hour
	@$(BIN)/python -m tests.fuzz --models

attack: setup  ## try interrupts at every step, wrong arguments, half-read streams, strange folders; 8 minutes
	@$(BIN)/python -m tests.attack

lint: setup  ## run ruff (rules and format) and import-linter (what may import what)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo --no-cache

types: setup  ## run mypy and pyright, both strict
	@$(BIN)/mypy && $(BIN)/pyright

screenshots: setup  ## take the pictures of the documentation, into build/pictures
	@LLAMA_BRIDGE_SCREENSHOTS=build/pictures $(BIN)/python -m pytest -q -m pictures tests/browser
	@LLAMA_BRIDGE_SCREENSHOTS=build/pictures $(BIN)/python -m pytest -q -m pictures tests/cli tests/examples
	@LLAMA_BRIDGE_SCREENSHOTS=build/pictures $(BIN)/python -m tools.desktop -q -m pictures

docs: screenshots  ## build the documentation site in build/docs, with pictures taken by tests
	@$(BIN)/python -m sphinx -q -E -W --keep-going docs build/docs
	@echo build/docs/index.html

bench: setup  ## measure on this machine; see benchmarks/
	@$(BIN)/python -m benchmarks

benches: setup  ## run each benchmark once, with a tiny model: only that they run
	@$(BIN)/python -m pytest tests/tools/test_benchmarks.py

bench-browser: setup  ## measure llama.wasm in Chromium, against wllama there and wasmtime here
	@$(BIN)/python -m benchmarks.browser

wasm: setup  ## build llama.wasm and chat.wasm (setup does this too)
	@$(BIN)/python wasm/build.py

wheel: setup  ## build dist/llama_bridge-*.whl
	@$(BIN)/python -m build --wheel

pyodide: setup  ## run the suite in Pyodide, in Chromium, in Firefox, and on Node with the wheel of pyodide-build
	@$(BIN)/python -m tools.pyodide

load: setup  ## load a server with 16 clients for three minutes, good ones and bad ones, and kill it twice
	@$(BIN)/python -m tools.load

openai-npm: setup  ## ask the server at every address with the official JavaScript client, on Node
	@$(BIN)/python -m tools.openai_client

without-native: setup  ## run the quick suite without llama-cpp-python
	@$(BIN)/python -m tools.without_native.suite

desktop: setup  ## test the window of Qt in examples/; keeps PySide6 in the per-user cache
	@$(BIN)/python -m tools.desktop

fleet: setup  ## run a fleet of replicas on Ray Serve, and kill some; keeps Ray in the per-user cache
	@$(BIN)/python -m tools.fleet

wheels: setup  ## look at the wheel, install it and run its demo, under each Python on this machine
	@$(BIN)/python -m pytest tests/packaging
	@$(BIN)/python -m tools.without_native.wheels

arm64: setup  ## run llama.wasm on emulated ARM64, with and without sdot: the same bits, the demo, the kernel tests
	@$(BIN)/python -m tools.arm64
	@$(BIN)/python -m tools.arm64 --cpu cortex-a53

arm64-short: setup  ## the same in three minutes: the demo model and each kernel, no tests
	@$(BIN)/python -m tools.arm64 --short

clean:  ## remove everything made here; the per-user caches stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf backends/llama_bridge_wasm/llama.wasm* bridge/llama_bridge/chat/module/chat.wasm* bridge/llama_bridge/serve/page
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
