# The front door: `make` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help install demo lab test engine js lint bench profiles clean

BIN := .venv/bin
# Further arguments for pytest, the benchmarks or JupyterLab: make test ARGS="tests/unit -x"
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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
test: install ## set up everything, the engine included, and run every test
	-@scripts/engine.sh
	-@scripts/test-packages.sh
	-@scripts/js.sh
	@$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

engine: ## make a Docker engine answer and give it the base image
	@scripts/engine.sh

js: ## build the panel's front end from js/ into the package
	@scripts/js.sh
	@cd js && npm run --silent check && npm run --silent build

lint: install ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: install ## measure beside Ray, Dask, loky, ipyparallel (a look: ARGS=--quick)
	@$(BIN)/python -m benchmarks $(ARGS)

profiles: install ## measure what the largest gains bring, and where the time goes then
	@$(BIN)/python -m benchmarks.profiles

clean: ## remove .venv, caches and build outputs
	@rm -rf .venv build dist js/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis test-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
