# Set-up and checks. Every target can be repeated; it installs again only if the lists of dependencies have changed.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c "import sys, venv; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
STAMP := $(VENV)/.installed
PEERS := $(VENV)/peers

.PHONY: install quickstart test lint bench

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: found no Python 3.11 or newer; name one: make PYTHON=<python>" >&2; exit 2; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

quickstart: install
	$(VENV)/bin/python -m geotune.train recipe=quickstart

test: install
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --cov --cov-report=term

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# The peers that the benchmarks compare with stay apart from the environment's own packages.
$(PEERS)/.installed: $(STAMP) benchmarks/requirements.txt
	rm -rf $(PEERS)
	$(VENV)/bin/python -m pip install --no-deps --target $(PEERS) -r benchmarks/requirements.txt
	touch $@

bench: $(PEERS)/.installed
	$(VENV)/bin/python -m benchmarks.sft_speed --trl $(PEERS)
	$(VENV)/bin/python -m benchmarks.grpo_speed --trl $(PEERS)
	$(VENV)/bin/python -m benchmarks.eval_speed
