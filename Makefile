# Every target does its own set-up first; with nothing changed that takes a fraction of a second.
# The Python that makes .venv: the first that is new enough and has venv; else python3, which then says what is missing.
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; \
	done; echo python3)

.PHONY: demo test lint bench faults lock clean setup

# Five entities walk through all six stages under traffic, on real servers. ARGS=--keep leaves it running.
demo: setup
	@.venv/bin/strangler demo $(ARGS)

# ARGS chooses tests: make test ARGS="-k mapping".
test: setup
	@.venv/bin/python -m pytest -q -n 2 --dist loadfile $(ARGS)

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: setup
	@$(PYTHON) bootstrap.py bench
	@.venv/bin/python -m bench $(ARGS)

# Everything dies, hangs or is cut off under load, and nothing is lost: about an hour on two cores, or one campaign: make faults C=kill.
# C=lag and C=memory are measured only when asked for. ARGS="--share 0.1" is a tenth of it.
faults: setup
	@.venv/bin/python -m tests.faults $(C) $(ARGS)

# Writes requirements/*.txt anew from pyproject.toml.
lock: setup
	@requirements/lock

clean:
	rm -rf .venv prisma/node_modules prisma/generated examples/*/node_modules build *.egg-info \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .bootstrap.lock

setup:
	@command -v $(PYTHON) >/dev/null || { echo "set-up: no python3 on PATH; install Python 3.11 or newer" >&2; exit 2; }
	@$(PYTHON) bootstrap.py
