# Every command a person types. Each is a thin face of `python -m claimbook …` (see its --help); the
# environment is made on first use and remade only when requirements.lock or pyproject.toml change.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
PIP_ARGS ?=
JOBS ?= 1
STALE ?= run

PY := $(VENV)/bin/python
RUN := $(PY) -m claimbook
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/installed-from
STAMP := { pwd; cat requirements.lock pyproject.toml; }

# $(call quoted,VARIABLE): its value as it was typed, `$` and quotes included, as one word of the shell
quoted = '$(subst ','\'',$(value $(1)))'
# $(call flag,name,VARIABLE): `--name 'value'` when the variable is set, else nothing
flag = $(if $(value $(2)),--$(1) $(call quoted,$(2)))

# What each command takes; PYTHON, VENV and PIP_ARGS go with all of them. `make help` prints this, anything else is
# refused, and what no command takes is for `make rerun` a parameter of the chapter, which knows its own.
takes-book := STALE
takes-rerun := CHAPTER TIER MODELS SEED DEVICE DTYPE TEXT
takes-accept := CHAPTER
takes-sweeps := CHAPTER JOBS
takes-new := CHAPTER
takes-fetch := KEYS MIRROR

GOALS := $(filter-out install,$(or $(MAKECMDGOALS),help))
TAKEN := $(foreach goal,$(GOALS),$(takes-$(goal)))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
ASKED := $(filter-out PYTHON VENV PIP_ARGS $(TAKEN),$(GIVEN))
OWN := $(filter-out $(foreach table,$(filter takes-%,$(.VARIABLES)),$($(table))),$(ASKED))
REFUSED := $(if $(filter rerun,$(GOALS)),$(filter-out $(OWN),$(ASKED)),$(ASKED))
ifneq ($(and $(GOALS),$(REFUSED)),)
$(error claimbook: `make $(GOALS)` takes no $(firstword $(REFUSED)): it takes $(or $(TAKEN),no variable))
endif
need-chapter = @test -n "$(CHAPTER)" || { echo "claimbook: name a chapter: make $@ CHAPTER=streaming_llm" >&2; exit 2; }

.DEFAULT_GOAL := help
.PHONY: help setup book check test rerun accept lab grid sweeps bench new fetch status clean

help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^takes-/ {split($$0, table, " := "); takes[substr(table[1], 7)] = " [" table[2] "]"} \
	  /^[a-z]+:.*## / {printf "make %-8s %s%s\n", $$1, $$2, takes[$$1]}' Makefile

setup:  ## the environment from the lock; PYTHON= names another Python, PIP_ARGS= options of pip
	@$(STAMP) | cmp -s - $(INSTALLED) || $(MAKE) --no-print-directory install

.PHONY: install
install:
	@test -x $(PY) || test -n "$(PYTHON)" || \
	  { echo "claimbook: no Python 3.11 or newer found; name one: make setup PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "claimbook: $(PYTHON) is not Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "claimbook: installing requirements.lock into $(VENV) (once; minutes, most of it torch)"
	@$(PY) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV) > /dev/null || \
	  { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(PY) install -q pip; }  # Python without ensurepip
	@$(PIP) --progress-bar off $(PIP_ARGS) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(STAMP) > $(INSTALLED)

book: setup  ## run what is stale (STALE=show: only mark it), build _build/html/index.html
	@$(RUN) book --stale $(STALE)

check: setup  ## lint, guard, quick unit tests: under ten minutes
	@$(RUN) check

test: setup  ## lint, guard, all unit tests, other kernels, notebooks compared, strict book build
	@$(RUN) test

rerun: setup  ## execute chapters, compare; takes a chapter's own parameters too, such as documents=20 or RECIPES=mine.csv
	@$(RUN) rerun $(CHAPTER) $(call flag,tier,TIER) $(call flag,models,MODELS) $(call flag,seed,SEED) \
	  $(call flag,device,DEVICE) $(call flag,dtype,DTYPE) $(call flag,text,TEXT) $(foreach name,$(OWN),-p $(shell echo $(name) | tr A-Z a-z)=$(call quoted,$(name)))

accept: setup  ## make the last rerun of a chapter the reference
	$(need-chapter)
	@$(RUN) accept $(CHAPTER)

lab: setup  ## JupyterLab on the notebooks
	@$(RUN) lab

grid: setup  ## chapters x tiers x models x seeds
	@$(RUN) grid

sweeps: setup  ## the stored runs, resumable; JOBS=2: two at a time
	@$(RUN) sweeps $(CHAPTER) --jobs $(JOBS)

bench: setup  ## measure the benchmark page
	@$(RUN) bench

new: setup  ## a chapter from the template
	$(need-chapter)
	@$(RUN) new $(CHAPTER)

fetch: setup  ## models and texts into the cache
	@$(RUN) fetch $(KEYS) $(call flag,mirror,MIRROR)

status: setup  ## what is fresh, stale, fetched, never run
	@$(RUN) status

clean:  ## remove built pages and caches; never runs, data or the environment
	rm -rf _build book/_generated .pytest_cache .ruff_cache .hypothesis
