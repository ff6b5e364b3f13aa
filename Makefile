# Each target installs what it needs: a virtual environment in .venv, binaries in a cache outside the
# checkout. Needs Python 3.11 or later. Uses the installed Go if it is recent enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BUILD := $(BIN)/python -m dev.controlplane build
SERVERS := etcd kube-apiserver
TESTS ?= tests
KUBERNETES ?= $(sort $(patsubst dev/controlplane/tools/kube-apiserver-%,%,$(wildcard dev/controlplane/tools/kube-apiserver-*)))
CORE := $(addprefix tests/integration/,test_crd.py test_states.py test_apiserver.py test_keeper.py admission/test_new_objects.py admission/test_changes.py) \
	$(addprefix tests/chart/,test_apiserver.py test_processes.py)
DRILLS ?= tests/drills tests/chart/test_processes.py
IMAGE_PYTHON ?= 3.13
WHEELHOUSE ?= wheelhouse
# Until there is a tag to compare with.
FROM ?= 7c71941
ARCH ?= amd64 arm64
BASE ?=
REGISTRY ?=
DIST ?= dist
export DRILL_SCALE ?= 1
export SOAK_MINUTES ?= 120
export MUTANTS ?=
export SEED ?= 1

.PHONY: help demo test test-unit compat drills soak upgrade-check break-alerts mutate release release-test lint format generate bench lock wheelhouse clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: run make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## Show the life of a channel on a real Kubernetes API (KEEP=1 keeps it running)
	@$(BIN)/python -m dev.demo

test: $(READY) ## Run all tests; integration tests use a real Kubernetes API
	@$(BUILD) $(SERVERS) helm helm-values-schema-json kube-score promtool amtool verdicts
	@$(BIN)/pytest -n 3 --dist loadfile --ignore=tests/drills --ignore=tests/release $(TESTS)

test-unit: $(READY) ## Run the tests that need no control plane
	@$(BIN)/pytest tests/unit tests/simulator

compat: $(READY) ## Run the core of the tests with other versions of Kubernetes (builds each first, for minutes)
	@$(BUILD) etcd helm $(addprefix kube-apiserver-,$(KUBERNETES))
	@failed=0; for version in $(KUBERNETES); do \
	  echo "Kubernetes $$version"; \
	  assets=$$(mktemp -d) && ln -s "$$($(BUILD) etcd)" $$assets/etcd \
	    && ln -s "$$($(BUILD) kube-apiserver-$$version)" $$assets/kube-apiserver \
	    && KUBEBUILDER_ASSETS=$$assets $(BIN)/pytest $(CORE) || failed=1; \
	  rm -r $$assets; \
	done; exit $$failed

drills: $(READY) ## Inject faults and check every status (DRILL_SCALE=0.1 shortens the outages)
	@$(BUILD) $(SERVERS) helm
	@WRITE_RIGHTS=$(if $(filter file,$(origin DRILLS)),$(filter 1,$(DRILL_SCALE))) $(BIN)/pytest -s $(DRILLS)

soak: $(READY) ## Run two hours of load and faults (SOAK_MINUTES=3 for a short run)
	@$(BUILD) $(SERVERS) helm
	@$(BIN)/pytest -s -o tmp_path_retention_policy=failed -o tmp_path_retention_count=1 tests/drills/soak.py

upgrade-check: $(READY) ## Run an earlier version and this one side by side (FROM=ref; once per release)
	@$(BUILD) $(SERVERS) helm
	@$(BIN)/python -m tests.upgrade $(FROM)

break-alerts: $(READY) ## Mutate each alert and check that its tests fail (slow)
	@$(BUILD) promtool
	@$(BIN)/pytest -n 2 tests/monitoring/broken_rules.py

mutate: $(READY) ## Change the code in thousands of small ways; the unit tests must notice (MUTANTS=500 for a sample)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/mutate.txt
	@$(BIN)/python -m dev.mutate

release: $(READY) ## Write the files of a release into dist/ (needs buildah; ARCH=amd64 restricts the image)
	@$(BIN)/python -m dev.release build --arch="$(ARCH)" --base="$(BASE)" --registry="$(REGISTRY)" --into="$(DIST)"

release-test: $(READY) ## Build a release, install from its files, and run its image (needs root)
	@$(BUILD) $(SERVERS) helm
	@$(BIN)/pytest tests/release

lint: $(READY) ## ruff, mypy (strict), import-linter, codespell, hadolint, actionlint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@git ls-files -z | xargs -0 $(BIN)/codespell --check-hidden
	@$(BIN)/hadolint Dockerfile
	@actionlint=$$($(BUILD) actionlint) && $$actionlint -shellcheck= -pyflakes= .github/workflows/*.yml examples/github/*.yaml

format: $(READY) ## Format the code and apply ruff's fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

generate: $(READY) ## Regenerate CRDs, rules, dashboards, the chart's schema, documents and install.yaml
	@$(BIN)/python -m dev.controlplane build helm helm-values-schema-json
	@$(BIN)/python -m dev.generate

bench: $(READY) ## Measure the operator beside two peers; write docs/benchmarks.md (BENCH=quick tries it out)
	@$(BUILD) $(SERVERS)
	@$(BIN)/python -m dev.bench

lock: ## Update the pinned dependencies and their hashes (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements/runtime.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --group build -c requirements/dev.txt -o requirements/build.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --group mutate -c requirements/dev.txt -o requirements/mutate.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --group sbom -c requirements/dev.txt -o requirements/sbom.txt

wheelhouse: $(READY) ## Download amd64 and arm64 wheels for offline image builds (IMAGE_PYTHON is the base's Python)
	@for machine in x86_64 aarch64; do \
	  $(BIN)/python -m pip download --quiet --disable-pip-version-check --dest $(WHEELHOUSE) --only-binary=:all: \
	    --python-version $(IMAGE_PYTHON) --platform manylinux_2_34_$$machine --platform manylinux_2_28_$$machine \
	    --platform manylinux_2_17_$$machine \
	    --require-hashes -r requirements/runtime.txt -r requirements/build.txt || exit 1; \
	done

clean: ## Remove everything that the targets created in the checkout
	rm -rf $(VENV) build dist wheelhouse operator/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
