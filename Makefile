# `make repro` and `make test` need Python 3.11 to 3.13 and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help repro test exhaustive cluster lint smoke params ui server notebooks bench faults lock clean
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MPLBACKEND := agg
export PYTHONUTF8 := 1
unexport PYTHONDONTWRITEBYTECODE # else each process compiles all that it imports: 3 s
# The certificates of the system, as pip: a network may have its own.
export UV_SYSTEM_CERTS ?= true

# The environment holds absolute paths, and runs the code of the folder that it was made in.
ifneq ($(wildcard $(VENV)/checkout),)
ifneq ($(shell cat $(VENV)/checkout),$(CURDIR))
$(info $(VENV) was made in $(shell cat $(VENV)/checkout); it is made again here)
$(shell rm -rf $(VENV))
endif
endif

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# uv comes from the package index by pip and is locked like everything else.
$(BIN)/uv: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "error: expected Python 3.11 to 3.13; received $$($(PYTHON) --version); set PYTHON=..." >&2; exit 1; }
	@echo "installing into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/^[^ ]/{/^uv==/p;/^    --hash/p}' requirements-dev.lock > $(VENV)/uv.lock
	@PIP_USER=0 $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@touch $@

# uv does not read pip's configuration: an index that is set there counts for both.
UV = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}}" \
	sh -c '[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; exec $(BIN)/uv "$$@"' uv

$(VENV)/runtime: $(BIN)/uv requirements.lock pyproject.toml
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@echo "$(CURDIR)" > $(VENV)/checkout
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements-dev.lock
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

define SUMMARY
python -m twinnet.compare --print && \
echo && echo "figures: reports/runs/ and reports/comparison/figures/; the whole comparison: reports/comparison/comparison.md" && \
echo "the MLflow UI: make ui"
endef

params: $(VENV)/runtime ## compose conf/ into params.yaml (S="override ...")
	@python -m pipelines.params write $(S)

repro: $(VENV)/runtime ## environment, data, every experiment trained, leaderboard, figures, MLflow runs
	@python -m pipelines.params refresh $(S)
	dvc repro
	@$(SUMMARY)

# One worker more than two cores: a quarter of its time a worker waits for servers, pages and killed processes.
test: $(VENV)/dev ## the whole test suite, no network needed
	python -m pytest -n 3 --dist loadgroup

exhaustive: $(VENV)/dev ## the tests of every combination, which `make test` leaves out
	python -m pytest -n 2 -m exhaustive

# An object store and the DVC that reaches it; its libraries are not those of .venv.
OBJECT_STORE := build/cluster/object-store
$(OBJECT_STORE)/made: $(BIN)/uv tests/cluster/object_store.txt
	@$(UV) venv -q --clear --python $(BIN)/python $(OBJECT_STORE)
	@$(UV) pip install -q --python $(OBJECT_STORE)/bin/python -r tests/cluster/object_store.txt
	@touch $@

cluster: $(VENV)/dev $(OBJECT_STORE)/made ## SLURM, several hosts, an object store, 200 jobs or CLUSTER_JOBS (installs Debian's packages; needs root)
	@tests/cluster/install
	python -m pytest -m cluster tests/cluster

lint: $(VENV)/dev ## ruff, mypy and the map of imports
	ruff format --check .
	ruff check .
	mypy
	lint-imports

# A copy of the working tree, so that the small settings leave the runs of the suite alone.
SMOKE ?= build/smoke
smoke: $(VENV)/runtime ## every stage on small settings, in a copy under build/smoke
	@rm -rf $(SMOKE) && mkdir -p $(SMOKE)
	@git ls-files -z --cached --others --exclude-standard | tar -cf - --null -T - | tar -xf - -C $(SMOKE)
	@cd $(SMOKE) && git init -q && python -m pipelines.params write profile=smoke $(S) && dvc repro
	@cd $(SMOKE) && $(SUMMARY)

ui: $(VENV)/runtime ## the MLflow UI of this checkout's store, on http://127.0.0.1:5000 (MLFLOW_PORT)
	@python -m twinnet.tracking ui

server: $(VENV)/dev ## an MLflow tracking server on PostgreSQL (MLFLOW_BACKEND_STORE_URI)
	@python -m twinnet.tracking server

NOTEBOOKS ?= notebooks/*.py
PAGE = jupyter nbconvert --log-level=ERROR --to html --no-prompt --template page \
	--TemplateExporter.extra_template_basedirs=notebooks --TagRemovePreprocessor.enabled=True
notebooks: $(VENV)/dev ## the notebooks with their outputs, in reports/notebooks/*.html, in English and in Chinese
	@mkdir -p reports/notebooks
	@set -o pipefail; for notebook in $(NOTEBOOKS); do \
		page=reports/notebooks/$$(basename $$notebook .py); \
		jupytext --quiet --to ipynb --output - $$notebook | jupyter nbconvert --log-level=ERROR --execute --stdin \
			--ExecutePreprocessor.timeout=-1 --KernelManager.transport=ipc --to notebook --output $$PWD/$$page && \
		$(PAGE) --TagRemovePreprocessor.remove_cell_tags=zh-TW $$page.ipynb && \
		$(PAGE) --TagRemovePreprocessor.remove_cell_tags=en $$page.ipynb \
			--output $$(basename $$page).zh-TW && rm $$page.ipynb || exit 1; \
	done

bench: $(VENV)/dev ## speeds as ratios against named peers
	python -m benchmarks

faults: $(VENV)/dev ## what becomes of each fault of configurations, stores, machines, sources, runs, checkpoints
	@python -m tests.faults

lock: $(BIN)/uv ## resolve the lock files again
	uv pip compile -q pyproject.toml --extra dev --universal --generate-hashes --no-header -o requirements-dev.lock
	uv pip compile -q pyproject.toml --universal --generate-hashes --no-header -c requirements-dev.lock -o requirements.lock

clean: ## delete build/ and outputs/ (single runs, sweeps, runs not sent to MLflow) and caches; data, runs/, .venv stay
	rm -rf build outputs data/cache data/rejected reports/notebooks
