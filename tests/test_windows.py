"""The C side for Windows, made by a cross compiler: whoever writes for Linux hears of it when Windows breaks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILER = "x86_64-w64-mingw32-gcc"


def cross_compile(folder: Path, *arguments: str | Path) -> None:
    command = [COMPILER, "-std=gnu11", "-O0", "-fno-strict-aliasing", '-DLWIPY_LWIP_VERSION="0"', *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]


def test_it_compiles_without_a_warning_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(COMPILER) is None:
        text = f"{COMPILER} is missing: Debian has it as gcc-mingw-w64-x86-64"
        pytest.fail(text, pytrace=False) if os.environ.get("CI") else pytest.skip(text)
    monkeypatch.syspath_prepend(ROOT)
    import build_ffi

    (tmp_path / "dispatch.h").write_text(build_ffi.dispatch_header())
    (tmp_path / "dispatch.c").write_text(build_ffi.dispatch_source())
    includes = [f"-I{tmp_path}", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'lwip/src/include'}"]
    strict = [*includes, *build_ffi.WARNINGS]
    # Most of what there is to read is windows.h: once, and not for each file.
    (tmp_path / "first.h").write_text("#define WIN32_LEAN_AND_MEAN\n#include <windows.h>\n")
    cross_compile(tmp_path, *strict, "first.h", "-o", "first.h.gch")
    ours = [tmp_path / "dispatch.c", *(ROOT / path for path in build_ffi.port_sources())]
    lwip = tmp_path / "lwip"
    lwip.mkdir()
    cross_compile(tmp_path, *strict, "-include", "first.h", "-Winvalid-pch", "-c", *ours)
    cross_compile(lwip, *includes, "-w", "-c", *(ROOT / path for path in build_ffi.lwip_sources()))
    cross_compile(tmp_path, "-shared", "-o", "core.dll", *sorted(tmp_path.rglob("*.o")), "-lbcrypt")
    assert (tmp_path / "core.dll").stat().st_size > 100_000
