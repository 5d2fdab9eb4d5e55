"""The same core driven from C: builds pair.c and calls it with the core's own functions."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

import lwipy
from lwipy._native import ffi, lib


class _Side(ctypes.Structure):
    _fields_ = (
        ("core", ctypes.c_void_p),
        ("handle", ctypes.c_uint64),
        ("buffer", ctypes.c_char_p),
        ("size", ctypes.c_size_t),
    )


def _side(endpoint: lwipy.TcpEndpoint, size: int) -> _Side:
    core = int(ffi.cast("uintptr_t", endpoint.stack._core))
    return _Side(core, endpoint._handle, bytes(size), size)


def _pointer(name: str) -> int:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


class Transfer:
    """Moves bytes from one endpoint to another, all in C. Calling it gives the processor's seconds that it took."""

    def __init__(self) -> None:
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "pair.so"
            source = Path(__file__).with_name("pair.c")
            subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
            self._transfer = ctypes.CDLL(str(made)).transfer
        self._transfer.restype = None
        self._transfer.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int64]
        names = ("lwipy_tcp_send_held", "lwipy_tcp_recv", "lwipy_poll")
        self._functions = [_pointer(name) for name in names]

    def __call__(
        self, source: lwipy.TcpEndpoint, target: lwipy.TcpEndpoint, write: int, read: int, total: int
    ) -> float:
        sides = _side(source, write), _side(target, read)
        started = time.process_time()
        self._transfer(*self._functions, *(ctypes.addressof(side) for side in sides), total)
        return time.process_time() - started
