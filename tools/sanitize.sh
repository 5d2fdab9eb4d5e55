#!/bin/sh
# Runs the tests under the address and undefined-behaviour sanitizers: tools/sanitize.sh [pytest arguments]
#
# The sanitized extension is built beside the normal one, in .cache/sanitize/, with a copy of the Python files around
# it. Python itself is not sanitized, so the runtime is preloaded, and leaks are not looked for there: CPython's would
# drown ours. What ours would leak is counted by the stack (Stack.statistics.memory_used) and by tests/test_isolation.py.
set -eu

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
BASE=.cache/sanitize

rm -rf "$BASE/lib"
LWIPY_SANITIZE=1 "$PYTHON" -c 'import setuptools; setuptools.setup()' -q \
    build --build-base "$BASE" --build-temp "$BASE/temp" --build-lib "$BASE/lib"

# detect_stack_use_after_return moves locals to a heap that longjmp() (a failed assertion) would leave behind.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1:handle_abort=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export PYTHONPATH="$PWD/$BASE/lib" PYTHONMALLOC=malloc LWIPY_SANITIZED=1
exec "$(dirname "$PYTHON")/pytest" "$@"
