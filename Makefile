# Two commands on a machine that has only Python 3.11+ and make:
#   make demo    install into .venv, audit a network trained on handwritten digits, say where the report is
#   make test    lint, types, doctests and tests (at most 12 minutes on two cores)
# PIP_INDEX_URL and PIP_EXTRA_INDEX_URL are honoured by pip itself; constraints.txt pins what was tested.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
JOBS   ?= 2
PO     := $(wildcard src/theorylens/locale/*/LC_MESSAGES/*.po)
MO     := $(PO:.po=.mo)
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-face test lint types unit check-slow bench docs locale clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras: a second run installs nothing unless the requirements changed.
$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt tools/build_catalogues.py
	$(INSTALL) torch
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(INSTALL) --editable ".[dev]"
	@touch $@

$(VENV)/.demo-face: $(VENV)/.core
	$(INSTALL) "scikit-image>=0.24"
	$(PIP) install --quiet --no-deps facenet-pytorch==2.6.0
	@touch $@

%.mo: %.po | $(VENV)/.dev
	$(BIN)/python tools/build_catalogues.py $<

locale: $(MO)

demo: $(VENV)/.core
	$(BIN)/theorylens demo digits --out report.html --json report.json

demo-face: $(VENV)/.demo-face
	$(BIN)/theorylens demo face --out report-face.html --json report-face.json

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev locale
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test: lint types unit

check-slow: $(VENV)/.dev locale
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m slow

bench: $(VENV)/.dev locale
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(MO)
