# make demo and make test set up everything themselves; they need Python 3.12 or newer.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
export CAPRIOLE_TEST_CACHE ?= $(CURDIR)/.cache/jax
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-lab test-all lint docs bench calibrate results results-peers clean

help:
	@echo "make demo       fit a regression, train a kernel beside HMC (2 minutes), into demo/"
	@echo "make test       the library's tests"
	@echo "make test-lab   the laboratory's tests"
	@echo "make test-all   both, with the slow ones"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation, into docs/_build"
	@echo "make bench      speed against BlackJAX"
	@echo "make calibrate  statistical tests of trained kernels, and of planted bugs (hours)"
	@echo "make results, make results-peers   everything that README and docs quote (hours, a day)"

$(READY): pyproject.toml lab/pyproject.toml constraints.txt scripts/find-python
	@if [ -e $(VENV) ] && [ ! -e $(READY) ] && [ ! -e $(VENV)/.capriole ]; then \
	  echo "$(VENV) was not made by this Makefile; move it away, or name another:" \
	    "make VENV=.venv-capriole ..." >&2; exit 1; fi
	@python="$$(scripts/find-python)" && echo "setting up $(VENV) with $$python" && \
	  rm -rf $(VENV).old && if [ -e $(VENV) ]; then mv $(VENV) $(VENV).old; fi && \
	  if "$$python" -m venv $(VENV) && touch $(VENV)/.capriole && \
	    $(BIN)/python -m pip install --quiet --constraint constraints.txt \
	      --editable '.[test,lint]' --editable lab; \
	  then rm -rf $(VENV).old; touch $(READY); \
	  else rm -rf $(VENV); if [ -e $(VENV).old ]; then mv $(VENV).old $(VENV); \
	    echo "$(VENV) is as it was before" >&2; fi; exit 1; fi

demo: $(READY)
	@rm -rf demo
	@echo "== 1 of 2: capriole fit on a linear regression, examples/regression.py =="
	@$(BIN)/capriole fit examples/regression.py:logdensity --dim 3 \
	  --num-effective 1000 --out demo/regression
	@echo "== 2 of 2: a trained kernel and HMC on the strongly correlated Gaussian of the paper =="
	@$(BIN)/capriole-lab run scg --out demo/scg
	@echo "verdict, tables, draws, kernels and pictures are in demo/regression and demo/scg"

test: $(READY)
	@$(PYTEST) -m "not slow"

test-lab: $(READY)
	@$(PYTEST) -m "not slow" lab/tests

test-all: $(READY)
	@XLA_FLAGS=--xla_backend_optimization_level=3 $(PYTEST) tests lab/tests

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@$(BIN)/python -m sphinx -W -b html docs docs/_build

bench: $(READY)
	@$(BIN)/python lab/benchmarks/throughput.py

calibrate: $(READY)
	@$(BIN)/capriole-lab calibrate --jobs 2 --out .cache/calibration

# What README and docs quote, run anew. `results`: section 5.1, runs and benchmarks (hours on two
# cores). `results-peers`: every sampler and seed of docs/peers.md, one cell at a time (a day).
# docs/calibration.md and docs/paper-dlgm.md name the commands for calibration and section 5.2.
store = for cell in .cache/results/$(1)/cells/*/; do \
  name=$$(basename "$$cell"); mkdir -p "results/$(2)/$$name"; \
  cp "$$cell"cell.json "results/$(2)/$$name/"; done
SUMMARISE = for script in results toy dlgm peers calibration fit; do \
  $(BIN)/python lab/scripts/summarise_$$script.py; done
RESULTS := $(foreach target,logistic banana rings,$(target)-0 $(target)-1 $(target)-2)

results: $(READY)
	@rm -rf .cache/results && mkdir -p .cache/results
	@printf '%s\n' $(RESULTS) | xargs -P 2 -I{} sh -c \
	  'name={}; out=".cache/results/$$name"; \
	  $(BIN)/capriole-lab run "$${name%-*}" --seed "$${name##*-}" --out "$$out" >"$$out.log" 2>&1 || \
	  { echo "$$name failed, see $$out.log"; exit 255; }'
	@for run in .cache/results/*/; do \
	  name=$$(basename "$$run"); mkdir -p "results/foundation/$$name"; \
	  cp "$$run"config.json "$$run"results.json "results/foundation/$$name/"; \
	  case $$name in *-0) cp "$$run"*.png "results/foundation/$$name/";; esac; done
	@$(BIN)/capriole-lab paper toy --jobs 2 --out .cache/results/toy
	@$(call store,toy,paper-toy)
	@$(BIN)/python lab/benchmarks/heavy_tails.py --out results/fit/heavy-tails.json
	@$(BIN)/python lab/benchmarks/gaussian_posteriors.py --out results/paper-dlgm/gaussian-share.json
	@$(BIN)/python lab/benchmarks/volatility_moments.py --out results/volatility-moments.json
	@$(BIN)/python lab/benchmarks/throughput.py --out results/throughput.json
	@for name in scale kill_resume run_overheads fuzz_files; do \
	  $(BIN)/python lab/benchmarks/$$name.py --out results/runs/$$name.json; done
	@$(SUMMARISE)

results-peers: $(READY)
	@$(BIN)/capriole-lab bench peers --seeds 3 --limit 15 --out .cache/results/peers \
	  --samplers capriole,nuts,nuts-dense,chees,mclmc,numpyro-nuts,nutpie,flowmc
	@$(call store,peers,peers)
	@$(SUMMARISE)

clean:
	rm -rf $(VENV) .cache docs/_build demo build dist
