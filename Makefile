# Every verb of this repository. `make serve` and `make test` are all that a newcomer needs.
.DEFAULT_GOAL := help
PYTHON_PATHS := src tests benchmarks tools
bin := .venv/bin
# No index name in a lock file: whatever index the user has configured is asked for these very files.
pip-compile = CUSTOM_COMPILE_COMMAND='make lock' $(bin)/pip-compile --quiet --upgrade --generate-hashes \
	--allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Put the server and what it needs into .venv (no root; instant when nothing changed)
	@tools/setup.sh serve

.PHONY: develop
develop: ## The same, and what checks and tests need
	@tools/setup.sh develop

.PHONY: servers
servers: ## Debian's servers that tests meet (root installs them; otherwise says what is missing)
	@tools/servers.sh test

.PHONY: serve
serve: setup ## Serve on 127.0.0.1:8080 (HTTP) and 127.0.0.1:2222 (SSH), data in ./data
	@$(bin)/mainstay serve

.PHONY: cluster
cluster: setup ## Three nodes, PostgreSQL that fails over, S3, Redis, HAProxy, here, to break them
	@tools/servers.sh cluster
	@$(bin)/mainstay cluster demo

.PHONY: test
test: develop servers ## All tests, with real git and real servers
	$(bin)/pytest -n 3 --dist loadgroup --no-loadscope-reorder --durations=15

.PHONY: check
check: develop ## Format, lint, types, the walls between the rooms
	$(bin)/ruff format --check $(PYTHON_PATHS)
	$(bin)/ruff check $(PYTHON_PATHS)
	$(bin)/mypy
	$(bin)/lint-imports --no-cache

.PHONY: journeys
journeys: develop ## Only the journeys: people with real git and ssh against a real node
	$(bin)/pytest tests/journeys tests/clients

.PHONY: crash
crash: develop servers ## Only the crash suite: kill a node at every failpoint and system call
	MAINSTAY_CRASH=all $(bin)/pytest -n 2 --dist loadgroup tests/cluster

.PHONY: long
long: develop servers ## Only what takes too long for `make test`, the crash suite included
	MAINSTAY_LONG=1 MAINSTAY_CRASH=all $(bin)/pytest -n 2 --dist loadgroup tests/cluster

.PHONY: chaos
chaos: develop servers ## Break a cluster for a while and judge it (MINUTES=30 SEED=7; root makes networks)
	PYTHONPATH=src:tests:. $(bin)/python -m support.chaos.run --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) $(if $(PAGE),--page)

.PHONY: fuzz
fuzz: develop ## Feed the parsers of foreign bytes, each for a minute (SECONDS=60)
	MAINSTAY_FUZZ_SECONDS=$(or $(SECONDS),60) $(bin)/pytest tests/fuzz

.PHONY: bench
bench: develop ## Speed against nginx + git http-backend and OpenSSH (REPOSITORY=path or bundle)
	@tools/servers.sh bench
	$(bin)/python -m benchmarks $(if $(REPOSITORY),--repository $(REPOSITORY))

.PHONY: docs
docs: develop ## Write docs/reference anew from the code
	$(bin)/python tools/reference.py

.PHONY: lock
lock: develop ## Choose versions anew and write requirements/*.txt
	$(pip-compile) -o requirements/serve.txt pyproject.toml requirements/serve.in
	$(pip-compile) -o requirements/develop.txt requirements/develop.in

.PHONY: clean
clean: ## Remove what was built (not your data)
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/.work
