# make demo: install, then make a mesh from an example picture.   make test: install what is missing, run every test.
# make check: lint, types and spelling.   make docs: build the documentation into site/.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= outputs
PICTURE ?= data/examples/robot/picture.png
NAME ?= demo

.PHONY: demo test check docs clean

demo: $(VENV)/.installed
	$(BIN)/kiss3d run $(PICTURE) --preset draft --out $(OUT) --name $(NAME)

# Two processes of one thread each: most tests are too small for torch to spread.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/python scripts/make_reference.py --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/python scripts/check_prose.py

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "kiss3d needs Python 3.11 to 3.13: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing kiss3d and its packages into $(VENV): about 700 MB, a few minutes"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[flux,eval,turntable,ui,serve,ray,dev]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV)
