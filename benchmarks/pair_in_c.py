"""The same core driven from C: builds pair.c and calls it with the core's own functions."""

from __future__ import annotations

import ctypes
import time

import lwipy
from benchmarks.compiled import address_of, library
from lwipy._native import ffi


class _Side(ctypes.Structure):
    _fields_ = (
        ("core", ctypes.c_void_p),
        ("handle", ctypes.c_uint64),
        ("buffer", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
    )


def _side(endpoint: lwipy.TcpEndpoint, buffer: bytes | bytearray) -> _Side:
    core, memory = ffi.cast("uintptr_t", endpoint.stack._core), ffi.cast("uintptr_t", ffi.from_buffer(buffer))
    return _Side(int(core), endpoint._handle, int(memory), len(buffer))


class Transfer:
    """Moves bytes from one endpoint to another, all in C. Calling it gives the processor's seconds that it took."""

    def __init__(self) -> None:
        self._transfer = ctypes.CDLL(str(library("pair.c"))).transfer
        self._transfer.restype = None
        self._transfer.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int64]
        names = ("lwipy_tcp_send_held", "lwipy_tcp_recv", "lwipy_poll")
        self._functions = [address_of(name) for name in names]

    def __call__(
        self, source: lwipy.TcpEndpoint, target: lwipy.TcpEndpoint, data: bytes, buffer: bytearray, total: int
    ) -> float:
        sides = _side(source, data), _side(target, buffer)
        started = time.process_time()
        self._transfer(*self._functions, *(ctypes.addressof(side) for side in sides), total)
        return time.process_time() - started
