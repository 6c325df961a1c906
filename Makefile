# Two commands on a machine with Python 3.11 or 3.12, pip and make: `make demo` and `make test`.

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test check wheel clean

demo: $(STAMP)
	$(VENV)/bin/python -m codomain.codecs.demo tests/data/coffee.png demo

test: $(STAMP)
	$(VENV)/bin/pytest -q

# format, lint, types
check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

wheel: $(STAMP)
	rm -rf build dist
	$(VENV)/bin/python -m build --wheel --outdir dist

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "codomain needs Python 3.11 or 3.12; found none on the PATH"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
