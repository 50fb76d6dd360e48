# make demo | test | test-gui | trust | gui | lint | bench | clean, all in one virtual environment, .venv.
#
#   gui         the Slicer module in a window without Slicer (Testing/SlicerHost), with the phantom loaded
#   test-gui    the tests of the panel alone
#   trust       what is promised, at full length: within an hour; stopped, it goes on (TRUST_OPTIONS="--again")
#   bench       speed on this machine, to Testing/Benchmarks/SPEED.md (BENCH_OPTIONS=--quick shows only that it runs)
#   bench-peers nnU-Net and MONAI beside it, in an environment of their own, to Testing/Benchmarks/PEERS.md
#
#   PYTHON=python3.11        the Python that makes .venv (3.9 or later)
#   TORCH="torch==2.13.0"    the torch to install, before everything else (default: any that the library accepts)
#   PIP_OPTIONS="..."        more options for every pip install: an index with CPU-only builds of torch, a mirror
#   PYTEST_OPTIONS="..."     more options for pytest, for example "-k volumes"
#
# Installing happens once, and again when pyproject.toml changes. Another PYTHON or TORCH: make clean first.

PYTHON ?= python3
TORCH ?=
PIP_OPTIONS ?=
PYTEST_OPTIONS ?=
TRUST_OPTIONS ?=
BENCH_OPTIONS ?=

BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS)

.DELETE_ON_ERROR:
.PHONY: help demo test test-gui trust gui screenshots lint bench bench-peers clean system-libraries

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

demo: .venv/.library
	$(BIN)/cardiacseg demo --output demo

test: lint system-libraries
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

GUI_TESTS := host gui panel access reading views packaging

test-gui: .venv/.development system-libraries
	$(BIN)/python -m pytest $(GUI_TESTS:%=Testing/test_slicer_%.py) $(PYTEST_OPTIONS)

trust: .venv/.development
	$(PIP_INSTALL) --quiet 'atheris>=2.3' || echo 'atheris cannot be installed here: fuzzing is by random changes alone.'
	cd Testing && ../$(BIN)/python -m trust --state ../.trust.json $(TRUST_OPTIONS)

gui: .venv/.development
	cd Testing && ../$(BIN)/python -m SlicerHost.gui

# The pictures of the tutorial
screenshots: .venv/.development system-libraries
	cd Testing && ../$(BIN)/python -m SlicerHost.gui --screenshots ../Resources/Screenshots

# What Qt and VTK need and pip cannot install; says the command to type
system-libraries: .venv/.development
	@cd Testing && ../$(BIN)/python -m SlicerHost.virtual_screen

lint: .venv/.development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/vermin --quiet --target=3.9- --no-tips --violations CardiacSeg CardiacSegLib

bench: .venv/.library
	$(BIN)/python Testing/Benchmarks/bench.py --page Testing/Benchmarks/SPEED.md $(BENCH_OPTIONS)

# nnU-Net and MONAI beside it, in an environment of their own
bench-peers: .venv/.library
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet $(PIP_OPTIONS) $(if $(TORCH),'$(TORCH)') 'monai[nibabel]==1.5.*' 'nnunetv2==2.6.*' -e .
	.venv-peers/bin/python Testing/Benchmarks/peers.py --page Testing/Benchmarks/PEERS.md

clean:
	rm -rf .venv .venv-peers build dist *.egg-info demo .trust.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find CardiacSeg CardiacSegLib Testing -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' \
		|| { echo 'CardiacSeg needs Python 3.9 or later; name one: make PYTHON=python3.11 ...'; exit 1; }
	$(PYTHON) -m venv --clear .venv \
		|| { echo 'No virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
	touch $@

.venv/.library: .venv/.python pyproject.toml
	$(if $(TORCH),$(PIP_INSTALL) '$(TORCH)')
	$(PIP_INSTALL) --editable .
	touch $@

.venv/.development: .venv/.library
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| echo 'Python 3.9: slicer-core needs 3.10, so the tests of the Slicer nodes will be skipped.'
	$(PIP_INSTALL) --editable '.[test,lint]'
	touch $@
