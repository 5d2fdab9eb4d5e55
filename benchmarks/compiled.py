"""Programs in C beside the benchmarks, as libraries, and the core's functions for them."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

from lwipy._native import ffi, lib

FOLDER = Path(__file__).resolve().parent
CACHE = FOLDER.parent / ".cache" / "benchmarks"


def library(program: str) -> Path:
    """benchmarks/`program`, built with the machine's compiler when it has changed."""
    source = FOLDER / program
    made = CACHE / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        fresh = made.with_suffix(f".{os.getpid()}")
        options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(fresh)]
        subprocess.run([*compiler, *options, str(source)], check=True)
        fresh.replace(made)
    return made


def address_of(function: str) -> int:
    """Of one of the core's own, for a program that drives the very core that Python does."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))
