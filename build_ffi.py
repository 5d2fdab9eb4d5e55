"""Builds ``lwipy._lwip``: lwIP, the port in csrc/ and the border to Python, in one extension.

The border has one source, ``csrc/lwipy.h`` with ``lwipy_types.h``. From it come the cdef and the dispatch code: for
each function that takes a ``lwipy_core *`` first, a wrapper that takes the core's lock and calls the private copy
through a table (``csrc/instance.c`` has the theory). pyproject.toml names :class:`build_ext` and :class:`bdist_wheel`;
no setup.py is needed.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cffi
from setuptools.command.bdist_wheel import bdist_wheel as _bdist_wheel
from setuptools.command.build_ext import build_ext as _build_ext

ROOT = Path(__file__).resolve().parent
CSRC = Path("csrc")
LWIP = Path("lwip/src")
MODULE = "lwipy._lwip"

# Written by hand (instance.c, loop.c, leader.c, blocking.c): they load, wake, join or wait, and so cannot run inside.
# What steer.c and steer_shared.c have here is about no core.
BY_HAND = {
    "open", "close", "failure", "attention", "version", "wire", "run", "poll", "wake", "wake_fd", "wake_clear",
    "serve", "admit", "wait", "recv", "send", "steer_pick", "shared_new", "shared_drop",
}  # fmt: skip

WARNINGS = ["-Wall", "-Wextra", "-Werror"]


class Function(NamedTuple):
    """One declaration of the border."""

    result: str
    name: str  # without the prefix
    parameters: list[str]

    @property
    def inner(self) -> str:
        """The parameters behind ``lwipy_core *core``, as C text."""
        return ", ".join(self.parameters[1:]) or "void"

    @property
    def arguments(self) -> str:
        """Their names."""
        return ", ".join(re.findall(r"(\w+)$", p)[0] for p in self.parameters[1:])


def header(name: str) -> str:
    return (ROOT / CSRC / name).read_text()


def cdef() -> str:
    """The border without the preprocessor's lines, which cffi does not read."""
    return re.sub(r"^#.*$", "", header("lwipy_types.h") + header("lwipy.h"), flags=re.M)


def functions() -> list[Function]:
    """The functions of the border that run inside a core."""
    text = re.sub(r"/\*.*?\*/", "", header("lwipy.h"), flags=re.S)
    found = []
    for result, name, parameters in re.findall(r"^(\w+) lwipy_(\w+)\(([^)]*)\);", text, flags=re.M):
        if name not in BY_HAND:
            found.append(Function(result, name, [p.strip() for p in parameters.split(",")]))
    return found


def dispatch_header() -> str:
    lines = ["/* Generated from csrc/lwipy.h by build_ffi.py. */", "#pragma once", '#include "core.h"', ""]
    lines += ["struct lwipy_table {"]
    lines += [
        "  int (*inside_open)(struct lwipy_core *, const lwipy_options *);",
        "  void (*inside_close)(void);",
        "  void (*inside_leave)(void);",
    ]
    lines += [f"  {f.result} (*{f.name})({f.inner});" for f in functions()]
    return "\n".join([*lines, "};", ""])


def dispatch_source() -> str:
    """The wrappers, and the table that a copy hands out."""
    parts = [
        '/* Generated from csrc/lwipy.h by build_ffi.py. */\n#include "dispatch.h"\n#include "loop.h"\n',
        "static void\nleave(lwipy_core *core)\n{\n  int failed = core->failed;\n  core->entered = 0;\n"
        "  lwipy_mutex_unlock(&core->lock);\n  lwipy_loop_leave(core);\n"
        "  if (failed) {\n    lwipy_leader_failed(core);\n  }\n}\n",
    ]
    for f in functions():
        parts.append(f"{f.result} core_{f.name}({f.inner});\n")
        parts.append(
            f"""
{f.result}
lwipy_{f.name}({", ".join(f.parameters)})
{{
  {f.result} result = LWIPY_EFAILED;
  lwipy_mutex_lock(&core->lock);
  core->owner = lwipy_thread_self();
  core->entered = 1;
  if (!core->failed) {{
    if (LWIPY_SETJMP(core->unwind) == 0) {{
      result = core->table->{f.name}({f.arguments});
      core->table->inside_leave();
    }} else {{
      core->failed = 1;
      result = LWIPY_EFAILED;
    }}
  }}
  leave(core);
  return result;
}}
"""
        )
    parts.append(
        "\nLWIPY_EXPORT extern const struct lwipy_table lwipy_table;\nconst struct lwipy_table lwipy_table = {"
    )
    parts.append("\n  lwipy_inside_open, lwipy_inside_close, lwipy_inside_leave")
    parts += [f",\n  core_{f.name}" for f in functions()]
    parts.append("\n};\n")
    return "".join(parts)


# Included by the port's file of the same name, which says why.
INCLUDED = f"{LWIP.as_posix()}/core/ipv6/ip6_frag.c"


def lwip_sources() -> list[str]:
    """lwIP's core, IPv4, IPv6 and Ethernet files, as its own Filelists.mk names them."""
    listing = ROOT / LWIP / "Filelists.mk"
    if not listing.exists():
        raise SystemExit("lwip/ is empty: run tools/fetch_lwip.sh (or: git submodule update --init) and build again")
    text = listing.read_text().replace("\\\n", " ")
    files: list[str] = []
    for variable in ("COREFILES", "CORE4FILES", "CORE6FILES"):
        match = re.search(rf"^{variable}=(.*)$", text, flags=re.M)
        assert match, f"{variable} is not in {listing}"
        files += [name.replace("$(LWIPDIR)", LWIP.as_posix()) for name in match[1].split()]
    files.remove(INCLUDED)
    return [*files, f"{LWIP.as_posix()}/netif/ethernet.c"]


def port_sources() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / CSRC).glob("*.c"))


def python_sources() -> list[str]:
    """The part that is Python's own: no core needs it."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / CSRC / "python").glob("*.c"))


def headers() -> list[str]:
    found = [*(ROOT / CSRC).rglob("*.h"), *(ROOT / LWIP / "include").rglob("*.h")]
    return [*sorted(p.relative_to(ROOT).as_posix() for p in found), INCLUDED, "lwip/src/Filelists.mk", "lwip/COPYING"]


def lwip_version() -> str:
    text = (ROOT / LWIP / "include/lwip/init.h").read_text()
    numbers = dict(re.findall(r"#define LWIP_VERSION_(MAJOR|MINOR|REVISION)\s+(\d+)", text))
    return ".".join(numbers[part] for part in ("MAJOR", "MINOR", "REVISION"))


def sanitized() -> list[str]:
    """Flags for ``make sanitize``: LWIPY_SANITIZE=1 in the environment."""
    if os.environ.get("LWIPY_SANITIZE") != "1":
        return []
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]
    return [*flags, "-DLWIPY_CHECKS=1"]  # what is too slow to look after always (demux.c)


def debugging() -> str:
    """Line tables for ``python -m benchmarks profile`` (LWIPY_PROFILE=1 in the environment), else nothing."""
    return "-g1" if os.environ.get("LWIPY_PROFILE") == "1" else "-g0"


class build_ext(_build_ext):
    """Compiles the sources that are known only now, the port's with warnings as errors."""

    def finalize_options(self) -> None:
        super().finalize_options()
        (extension,) = self.extensions
        self.generated = Path(self.build_temp) / "generated"
        extension.sources = [*lwip_sources(), *port_sources(), *python_sources()]
        extension.depends = [*headers(), "build_ffi.py"]
        extension.include_dirs = [self.generated.as_posix(), CSRC.as_posix(), f"{LWIP.as_posix()}/include"]
        extension.define_macros = [("LWIPY_LWIP_VERSION", f'"{lwip_version()}"')]
        if os.name == "nt":
            extension.libraries = ["bcrypt"]
        else:
            extension.extra_compile_args = ["-std=gnu11", "-O2", "-fvisibility=hidden", "-fno-strict-aliasing"]
            extension.extra_compile_args += sanitized() or [debugging()]
            extension.extra_link_args = sanitized()
        if sys.platform == "linux":
            extension.extra_link_args += ["-Wl,-z,relro,-z,now", "-Wl,-Bsymbolic"]
            if not sanitized():
                extension.extra_compile_args += ["-flto=auto"]
                extension.extra_link_args += ["-flto=auto", "-O2", debugging()]
        self.limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")
        extension.py_limited_api = self.limited_api
        if self.limited_api:
            extension.define_macros += [("Py_LIMITED_API", "0x030b0000")]

    def build_extension(self, ext) -> None:  # type: ignore[no-untyped-def]
        self.generated.mkdir(parents=True, exist_ok=True)
        written = {
            "dispatch.h": dispatch_header(),
            "dispatch.c": dispatch_source(),
        }
        for name, text in written.items():
            path = self.generated / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        builder = cffi.FFI()
        builder.cdef(cdef())
        builder.set_source(MODULE, '#include "lwipy.h"')
        cffi_source = self.generated / "_lwip.c"
        builder.emit_c_code(str(cffi_source))
        ext.sources = [*ext.sources, (self.generated / "dispatch.c").as_posix(), cffi_source.as_posix()]
        self._compile_on_all_cores()
        super().build_extension(ext)

    def _compile_on_all_cores(self) -> None:
        """Adds warnings to the port's files alone, too: lwIP's and cffi's are not ours to change."""
        if self.compiler.compiler_type != "unix":
            return
        compile_one, compile_all = self.compiler._compile, self.compiler.compile
        pool, begun = ThreadPoolExecutor(os.cpu_count()), []

        def begin(obj, src, ext, cc_args, extra_postargs, pp_opts):  # type: ignore[no-untyped-def]
            ours = Path(src).parts[0] == CSRC.parts[0] or Path(src).name == "dispatch.c"
            postargs = [*extra_postargs, *(WARNINGS if ours else [])]
            begun.append(pool.submit(compile_one, obj, src, ext, cc_args, postargs, pp_opts))

        def compile_and_wait(*arguments, **keywords):  # type: ignore[no-untyped-def]
            with pool:
                objects = compile_all(*arguments, **keywords)
            for each in begun:
                each.result()
            return objects

        self.compiler._compile, self.compiler.compile = begin, compile_and_wait


class bdist_wheel(_bdist_wheel):
    """Tags the wheel cp311-abi3, which setuptools does not do by itself."""

    def finalize_options(self) -> None:
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):
            self.py_limited_api = "cp311"
        super().finalize_options()
