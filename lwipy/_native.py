"""The only door to C: the extension's ``ffi`` and ``lib``, and its error codes as exceptions.

Every call of ``lib`` gives up the GIL and takes the core's lock, so any thread may make it. A result below zero is a
code of ``csrc/lwipy.h``; :func:`check` turns it into the exception that Python's users know.
"""

from __future__ import annotations

import errno
import importlib
import importlib.machinery
import importlib.util
import os
from typing import Any, Final

from lwipy.errors import StackError

try:
    _lwip = importlib.import_module("lwipy._lwip")
except ImportError as error:
    raise ImportError(
        f"lwipy's extension cannot be loaded ({error}): install lwipy with pip, or run `make build` in a checkout"
    ) from error

ffi: Final[Any] = _lwip.ffi
lib: Final[Any] = _lwip.lib


def _calls() -> Any:
    """The second module in the extension's library (``csrc/python/calls.c``)."""
    loader = importlib.machinery.ExtensionFileLoader("lwipy._calls", str(_lwip.__file__))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


calls: Final[Any] = _calls()

ERRNO: Final[dict[int, int]] = {
    lib.LWIPY_EMEM: errno.ENOBUFS,
    lib.LWIPY_EBUF: errno.ENOBUFS,
    lib.LWIPY_ETIMEOUT: errno.ETIMEDOUT,
    lib.LWIPY_ERTE: errno.EHOSTUNREACH,
    lib.LWIPY_EINPROGRESS: errno.EINPROGRESS,
    lib.LWIPY_EVAL: errno.EINVAL,
    lib.LWIPY_EWOULDBLOCK: errno.EAGAIN,
    lib.LWIPY_EUSE: errno.EADDRINUSE,
    lib.LWIPY_EALREADY: errno.EALREADY,
    lib.LWIPY_EISCONN: errno.EISCONN,
    lib.LWIPY_ECONN: errno.ENOTCONN,
    lib.LWIPY_EIF: errno.EIO,
    lib.LWIPY_EABRT: errno.ECONNABORTED,
    lib.LWIPY_ERST: errno.ECONNRESET,
    lib.LWIPY_ECLSD: errno.ENOTCONN,
    lib.LWIPY_EARG: errno.EINVAL,
    lib.LWIPY_EHANDLE: errno.EBADF,
    lib.LWIPY_EREFUSED: errno.ECONNREFUSED,
    lib.LWIPY_EUNREACH: errno.EHOSTUNREACH,
    lib.LWIPY_ENOTCONN: errno.ENOTCONN,
    lib.LWIPY_EPIPE: errno.EPIPE,
    lib.LWIPY_EMSGSIZE: errno.EMSGSIZE,
    lib.LWIPY_EACCES: errno.EACCES,
    lib.LWIPY_ENODEV: errno.ENODEV,
    lib.LWIPY_ENOTSUP: errno.ENOPROTOOPT,
    lib.LWIPY_ESYS: errno.EIO,
    lib.LWIPY_EADDR: errno.EADDRNOTAVAIL,
    lib.LWIPY_EPROTO: errno.EPROTO,
}
WOULD_BLOCK: Final[int] = lib.LWIPY_EWOULDBLOCK


def error_of(core: Any, code: int, what: str = "") -> OSError:
    """The exception that stands for a code; `what` names the operation and its argument."""
    if code == lib.LWIPY_EFAILED:
        text = lib.lwipy_failure(core)
        return StackError(ffi.string(text).decode() if text else "the stack has failed")
    number = lib.LWIPY_ESYSTEM - code if code <= lib.LWIPY_ESYSTEM else ERRNO.get(code, errno.EIO)
    reason = os.strerror(number)
    return OSError(number, f"{reason}: {what}" if what else reason)


def check(core: Any, result: int, what: str = "") -> int:
    """`result`, unless it is an error code: that is raised as :class:`OSError` of the right errno and class."""
    if result < 0:
        raise error_of(core, result, what)
    return result
