"""The socket module's names, lent to a stack: for programs that cannot be told which stack to use.

Theory of operation. Inside ``with patched(stack):`` the names of the module :mod:`socket` that make or name sockets are
the stack's; on leaving they are what they were. The class that stands there for ``socket.socket`` makes the stack's
sockets for AF_INET and AF_INET6, and the host's for other families (AF_UNIX and so ``socketpair()``, which event loops
need) and for descriptors of the host's. TLS works too: what makes an SSLSocket makes a :class:`TlsSocket` then.

What is reached by the module's name at the time of the call is the stack's. A program that copied a name before
(``from socket import socket``) keeps the host's, and so does a class that was derived from ``socket.socket`` before.

Invariants:

1. It holds for the whole process and all its threads, as the module does. Contexts nest; the inner one counts.
2. Names are put back in the reverse order, whatever the order in which contexts end: one that ends before an inner one
   has its names put back with that one's.
"""

from __future__ import annotations

import _socket
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from lwipy.blocking import connecting, names
from lwipy.blocking.description import close_descriptor, description_of
from lwipy.blocking.socket import Socket

if TYPE_CHECKING:
    from lwipy.stack import Stack

_host_socket: Final = socket.socket
_FAMILIES: Final = (-1, socket.AF_INET, socket.AF_INET6)

#: What a patch has replaced: owner, name and what was there.
Replaced = list[tuple[ModuleType | type, str, Any]]
_lock: Final = threading.Lock()
_patches: Final[list[Patch]] = []


class Patch:
    """The names of one context, and whether it has ended."""

    def __init__(self) -> None:
        self.replaced: Replaced = []
        self.ended = False

    def replace(self, owner: ModuleType | type, name: str, value: object) -> None:
        if hasattr(owner, name):
            self.replaced.append((owner, name, vars(owner)[name]))
            setattr(owner, name, value)

    def put_back(self) -> None:
        for owner, name, value in reversed(self.replaced):
            setattr(owner, name, value)


@contextmanager
def patched(stack: Stack) -> Iterator[Stack]:
    """Makes the socket module's names the stack's: ``with lwipy.patched(stack): ...``."""
    patch = Patch()
    with _lock:
        _patches.append(patch)
        _replace_names(patch, stack)
    try:
        yield stack
    finally:
        with _lock:
            patch.ended = True
            while _patches and _patches[-1].ended:
                _patches.pop().put_back()


def _replace_names(patch: Patch, stack: Stack) -> None:
    # Loaded here, because few programs need it and OpenSSL takes its time.
    import ssl

    from lwipy.blocking.tls import create

    lent = lend(stack)
    create_connection = partial(connecting.create_connection, stack)
    patch.replace(socket, "socket", lent)
    patch.replace(socket, "SocketType", lent)
    patch.replace(socket, "create_connection", create_connection)
    patch.replace(socket, "create_server", partial(connecting.create_server, stack))
    patch.replace(socket, "has_ipv6", True)
    patch.replace(socket, "has_dualstack_ipv6", lambda: True)
    patch.replace(socket, "dup", duplicate)
    patch.replace(socket, "close", close)
    for name in (
        "getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo",
        "if_nameindex", "if_nametoindex", "if_indextoname",
    ):  # fmt: skip
        patch.replace(socket, name, partial(getattr(names, name), stack))
    patch.replace(ssl, "create_connection", create_connection)
    patch.replace(ssl.SSLSocket, "_create", classmethod(create))


class Lent(type):
    """The metaclass of the classes that stand for ``socket.socket``: every socket is an instance of those."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _host_socket) if "lent" in cls.__dict__ else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _host_socket) if "lent" in cls.__dict__ else super().__subclasscheck__(subclass)


def lend(stack: Stack) -> type[Socket]:
    """A class with the signature of ``socket.socket`` whose sockets are the stack's, where the family is."""

    class LentSocket(Socket, metaclass=Lent):
        lent = True

        def __new__(cls, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None, **_: Any) -> Any:
            if _is_ours(family, fileno):
                return _socket.socket.__new__(cls)
            return _host_socket(family, type, proto, fileno)

        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            super().__init__(stack, family, type, proto, fileno)

    LentSocket.__name__ = LentSocket.__qualname__ = "socket"
    LentSocket.__module__ = "socket"
    return LentSocket


def _is_ours(family: object, fileno: object) -> bool:
    if fileno is None:
        return family in _FAMILIES
    return isinstance(fileno, int) and description_of(fileno) is not None


def duplicate(descriptor: int) -> int:
    """As :func:`socket.dup`, for the descriptors of a stack's sockets too."""
    description = description_of(descriptor)
    if description is None:
        return os.dup(descriptor)
    description.share()
    with description.opening:
        return description.open_descriptor()


def close(descriptor: int) -> None:
    """As :func:`socket.close`, for the descriptors of a stack's sockets too."""
    if description_of(descriptor) is not None:
        close_descriptor(descriptor)
    else:
        os.close(descriptor)
