# Two commands do everything on a fresh machine: `make demo` runs the main job, `make test` runs the tests.

VENV   ?= .venv
PYTHON ?= python3
PY      = $(VENV)/bin/python

# What exercises the C side most, in the time that sanitizers take.
SANITIZED = $(addprefix tests/test_,tcp.py tcp_listening.py udp.py interface.py connection.py arena.py errands.py) \
            $(wildcard tests/test_guard_*.py tests/test_links_vhost*.py)

# Nothing waits there: a worker for each core.
SANITIZED_WORKERS = --numprocesses 2 --dist loadfile

# Real guests and the machine's kernel keep real time: what fails there gets a second and third try, and the report
# tells of it.
AGAIN = --reruns 2 --reruns-delay 2

# A file of tests goes to one worker as a whole, those that take long first (tests/conftest.py). Tests wait for a third of
# their time: three workers are right for two cores.
WORKERS = --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test build check guests sanitize bench clean

demo: build
	$(PY) -m lwipy demo

# What the guests need comes over the network while the extension is built and looked at.
test: $(VENV)/bin/python lwip/src/Filelists.mk
	$(MAKE) --no-print-directory --jobs 2 check guests
	$(PY) -m pytest $(WORKERS) $(AGAIN) --durations 15
	PYTHON=$(PY) tools/sanitize.sh $(SANITIZED_WORKERS) $(SANITIZED)

check: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

guests: $(VENV)/bin/python
	tests/guests/prepare.sh $(PY)

sanitize: $(VENV)/.test
	PYTHON=$(PY) tools/sanitize.sh $(SANITIZED_WORKERS) $(SANITIZED)

# The table of README's figures, and its plot.
bench: $(VENV)/.bench
	$(PY) -m benchmarks --json docs/benchmarks.json --plot docs/benchmarks.svg

build: $(VENV)/.built

SOURCES := $(wildcard csrc/*.c csrc/*.h csrc/arch/*.h csrc/python/*) build_ffi.py pyproject.toml

$(VENV)/bin/python:
	tools/prepare.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)

lwip/src/Filelists.mk:
	tools/fetch_lwip.sh

$(VENV)/.built: $(VENV)/bin/python lwip/src/Filelists.mk $(SOURCES)
	$(VENV)/bin/pip install --quiet --editable '.[share,websocket]'
	touch $@

# All that .built has and more, so that the extension is built once.
$(VENV)/.test: $(VENV)/bin/python lwip/src/Filelists.mk $(SOURCES)
	$(VENV)/bin/pip install --quiet --no-compile --editable '.[test]'
	touch $(VENV)/.built $@

$(VENV)/.bench: $(VENV)/.built
	$(VENV)/bin/pip install --quiet --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist lwipy/*.so .cache/sanitize
