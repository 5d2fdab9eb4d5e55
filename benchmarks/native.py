"""The core's sources built once more, with a program in C that drives them: what Python costs is the difference."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import cffi

import build_ffi

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "benchmarks"
FLAGS = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-strict-aliasing", "-flto=auto", "-w"]


def library(program: str, declarations: str) -> tuple[Any, Any]:
    """``ffi`` and ``lib`` of the core with benchmarks/`program`; `declarations` are what it exports, as a cdef.

    Built with the machine's compiler when a source has changed since the last time; RuntimeError where that fails.
    """
    sources = [*build_ffi.lwip_sources(), *build_ffi.port_sources()]
    digest = hashlib.sha256()
    for name in [*sources, *build_ffi.headers(), f"benchmarks/{program}"]:
        digest.update((ROOT / name).read_bytes())
    target = CACHE / f"{Path(program).stem}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        _build(target, [*sources, f"benchmarks/{program}"])
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    return ffi, ffi.dlopen(str(target))


def _build(target: Path, sources: list[str]) -> None:
    generated = CACHE / "generated"
    generated.mkdir(parents=True, exist_ok=True)
    (generated / "dispatch.h").write_text(build_ffi.dispatch_header())
    (generated / "dispatch.c").write_text(build_ffi.dispatch_source())
    compiler = shlex.split(os.environ.get("CC", sysconfig.get_config_var("CC") or "cc"))
    command = [
        *compiler, *FLAGS, f'-DLWIPY_LWIP_VERSION="{build_ffi.lwip_version()}"',
        *(f"-I{folder}" for folder in (generated, build_ffi.CSRC, build_ffi.LWIP / "include")),
        "-o", str(target), *sources, str(generated / "dispatch.c"), "-ldl", "-lpthread",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"the core could not be built for measuring:\n{result.stderr}")
