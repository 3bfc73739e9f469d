# The front door: `make` lists the targets.
.DEFAULT_GOAL := help
# Some machines set it. Then each kernel, server and command that a test starts compiles all that it
# imports: half of a kernel's start.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help install demo lab test test-gpu test-pythons corpus unfixed differences modal-table soak fuzz engine js lint docs dist bench \
	profiles clean

BIN := .venv/bin
# Further arguments for pytest, the benchmarks or JupyterLab: make test ARGS="tests/unit -x"
ARGS ?=
# .ci/run takes half as many again, because tests wait for a third of their time; beside other work that makes
# JupyterLab and Chromium slow.
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## make .venv with everything needed to use, develop and test
	@scripts/install.sh lab,web,dev

# Without an engine, or without its base image, the process engine shows the same.
demo: ## set up, run the quickstart headless, print what each cell printed
	@scripts/install.sh demo
	@if [ "$$LIFECYCLE_MAGIC_ENGINE" != process ] && ! scripts/engine.sh; then \
		echo "demo: no engine can be had here; going on with the process engine"; \
		export LIFECYCLE_MAGIC_ENGINE=process; \
	fi; \
	$(BIN)/lifecycle-magic demo

lab: ## open the notebooks in JupyterLab
	@scripts/install.sh lab
	@$(BIN)/jupyter lab --notebook-dir=notebooks $$([ "$$(id -u)" = 0 ] && echo --allow-root) $(ARGS)

# What could not be set up makes its tests skip here, and fail where CI=true.
test: ## set up everything, the engine included, and run every test
	@scripts/set-up-tests.sh
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(ARGS)

# Uses all of the GPUs of this machine for some seconds each.
test-gpu: install ## run the tests that need a GPU
	@$(BIN)/uv pip install -q --python $(BIN)/python -e '.[gpu]'
	@TEST_GPU=1 $(BIN)/pytest tests/gpu $(ARGS)

# Interpreters: PYTHONS="python3.12 /opt/python3.13/bin/python3", or all that pyenv and the path have.
test-pythons: install ## run unit, corpus and process engine tests on the other Pythons
	@$(BIN)/python scripts/pythons.py $(ARGS)

# Without ARGS every program runs; ARGS=names takes those with "names" in their id.
corpus: install ## run notebook programs plain and in containers, and compare (ARGS=names)
	@CORPUS=all $(BIN)/pytest tests/corpus -n $(WORKERS) -q $(if $(ARGS),-k "$(ARGS)")

# A mechanism's fix is taken away in a copy of the package, one after the other: about half an hour.
unfixed: install ## show that programs of the corpus notice when a fix is taken away (ARGS=names)
	@CORPUS_UNFIXED=1 $(BIN)/pytest tests/corpus/test_unfixed.py -n $(WORKERS) -q $(if $(ARGS),-k "$(ARGS)")

soak: install ## run the tests that repeat with their full counts: programs, edits, kills, interrupts, restarts
	@CORPUS=all CORPUS_EDITS=1000 CORPUS_UNFIXED=1 $(BIN)/pytest tests/corpus -n $(WORKERS) -q $(ARGS)
	@LIFECYCLE_MAGIC_KILLS=1000 LIFECYCLE_MAGIC_INTERRUPTS=500 LIFECYCLE_MAGIC_CYCLES=100 \
		LIFECYCLE_MAGIC_NAMED_KILLS=60 LIFECYCLE_MAGIC_FAR_KILLS=200 \
		LIFECYCLE_MAGIC_NESTED_CALLS=10000 LIFECYCLE_MAGIC_NESTED_KILLS=60 \
		$(BIN)/pytest tests/faults/test_random_moments.py tests/faults/test_far_moments.py \
		tests/faults/test_named_moments.py tests/faults/test_nested_moments.py tests/engine/test_resources.py -q $(ARGS)
	@LIFECYCLE_MAGIC_ROOTLESS=all LIFECYCLE_MAGIC_CUTS=20 \
		$(BIN)/pytest tests/engine/test_rootless.py tests/engine/test_far_engines.py -q $(ARGS)
	@LIFECYCLE_MAGIC_POOL_EXAMPLES=500 $(BIN)/pytest tests/unit/test_pool_properties.py -q $(ARGS)
	@LIFECYCLE_MAGIC_GUIDES=full $(BIN)/pytest tests/kernel/test_guide_notebooks.py -q $(ARGS)
	@LIFECYCLE_MAGIC_SWARM_LOSSES=1 LIFECYCLE_MAGIC_SWARM_EACH=10 $(BIN)/pytest tests/engine/test_swarm.py -q $(ARGS)

# Inputs that a decoder has not seen yet are kept in .hypothesis/corpus. Install atheris into .venv
# to have them chosen by the lines that they reach.
MINUTES ?= 30
fuzz: install ## fuzz every decoder of the wire, of files and of HTTP (MINUTES=30)
	@PYTHONPATH=tests $(BIN)/python -m attack.fuzzing --minutes $(MINUTES) $(ARGS)

differences: ## write docs/differences.md from the corpus
	@PYTHONPATH=tests $(BIN)/python tests/corpus/test_data.py

modal-table: ## write the tables of docs/guides/modal.md from the list of Modal's API
	@PYTHONPATH=tests $(BIN)/python tests/unit/test_modal_api.py

engine: ## make a Docker engine answer and give it the base image
	@scripts/engine.sh

js: ## build the panel's front end from js/ into the package
	@scripts/js.sh
	@cd js && npm run --silent check && npm run --silent build

lint: install ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --platform darwin --no-warn-unreachable --cache-dir .mypy_cache/darwin

# Pages are in docs/_build/html. DOCS_EXECUTE=off leaves the notebooks as they are.
docs: install ## build the documentation, run its notebooks, check its links
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html $(ARGS)

dist: install ## build the sdist and the wheel, and try the wheel in an environment of its own
	@$(BIN)/python scripts/dist.py

bench: install ## measure beside Ray, Dask, loky, ipyparallel (a look: ARGS=--quick; a part: ARGS=payloads)
	-@scripts/test-packages.sh
	@$(BIN)/python -m benchmarks $(ARGS)

profiles: install ## measure what the largest gains bring, and where the time goes then
	@$(BIN)/python -m benchmarks.profiles

clean: ## remove .venv, caches and build outputs
	@rm -rf .venv .pythons build dist docs/_build docs/notebooks js/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis test-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
