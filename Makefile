# make demo and make test do all their own set-up; they need nothing but Python 3.12 or newer.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export CAPRIOLE_TEST_CACHE ?= $(CURDIR)/.cache/jax
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-all lint docs bench results clean

help:
	@echo "make demo   train two kernels (a few minutes), compare them with HMC; results in demo/"
	@echo "make test   run the tests"
	@echo "make lint   ruff and mypy"
	@echo "make docs   build the documentation into docs/_build"
	@echo "make bench  measure speed against BlackJAX"

$(READY): pyproject.toml constraints.txt scripts/find-python
	@python="$$(scripts/find-python)" && echo "setting up $(VENV) with $$python" && \
	  rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	@touch $(READY)

demo: $(READY)
	@rm -rf demo
	@echo "== 1 of 2: the strongly correlated Gaussian of the paper =="
	@$(BIN)/capriole run scg --out demo/scg
	@echo "== 2 of 2: Bayesian logistic regression on the breast cancer data =="
	@$(BIN)/capriole run logistic --out demo/logistic
	@echo "tables, draws, kernels and pictures are in demo/scg and demo/logistic"

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	@$(BIN)/python -m sphinx -W -b html docs docs/_build

bench: $(READY)
	@$(BIN)/python benchmarks/throughput.py

# Everything that README quotes, run anew (half an hour on two cores). One core per run, two at a time.
TARGETS := mog-asym banana rings rough-well funnel mog2 rougher-well icg
RESULTS := scg-0 scg-1 scg-2 mog-0 mog-1 mog-2 logistic-0 logistic-1 logistic-2 $(TARGETS:%=%-0)

results: $(READY)
	@rm -rf .cache/results && mkdir -p .cache/results
	@printf '%s\n' $(RESULTS) | xargs -P 2 -I{} sh -c \
	  'name={}; $(BIN)/capriole run "$${name%-*}" --seed "$${name##*-}" --out ".cache/results/$$name" >".cache/results/$$name.log" 2>&1 || echo "$$name failed, see .cache/results/$$name.log"'
	@for run in .cache/results/*/; do name=$$(basename "$$run"); mkdir -p "results/foundation/$$name"; \
	  cp "$$run"config.json "$$run"results.json "results/foundation/$$name/"; \
	  case $$name in *-0) cp "$$run"*.png "results/foundation/$$name/";; esac; done
	@$(BIN)/python scripts/summarise_results.py
	@$(BIN)/python benchmarks/throughput.py --out results/throughput.json

clean:
	rm -rf $(VENV) .cache docs/_build demo build dist
