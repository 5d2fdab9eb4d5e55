#!/bin/sh
# Sees to it that lwipy can be built here: a compiler, Python 3.11 or later with its headers and venv. As root on a
# Debian machine what is missing is installed; elsewhere it is named.
#
#   tools/prepare.sh [PYTHON]
set -eu
python=${1:-python3}

missing=
command -v cc >/dev/null || command -v gcc >/dev/null || missing="$missing gcc"
if command -v "$python" >/dev/null; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "lwipy needs Python 3.11 or later; $python is $("$python" --version)" >&2
        exit 1
    }
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] || missing="$missing python3-dev"
else
    missing="$missing python3 python3-venv python3-dev"
fi
[ -f /usr/include/stdio.h ] || [ "$(uname)" != Linux ] || missing="$missing libc6-dev"
command -v xz >/dev/null || missing="$missing xz-utils"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing:$missing"
    apt-get -qq update
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing >/dev/null
else
    echo "missing here, please install:$missing" >&2
    exit 1
fi
