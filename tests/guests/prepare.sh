#!/bin/sh
# prepare.sh [PYTHON]: makes this machine ready for the tests that run guests (see prepare.py).
PYTHONPATH="$(dirname "$0")/.." exec "${1:-python3}" -m guests.prepare
