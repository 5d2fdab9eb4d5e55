"""The socket module's names, lent to a stack: for programs that cannot be told which stack to use.

Theory of operation. While any ``with patched(stack):`` runs, the names of the module :mod:`socket` that make or name
sockets ask whose they are to be (:func:`chosen`) and hand the call on: to a stack, or to the host where none is chosen.
Each context chooses for the whole process, or, with ``everywhere=False``, for its own thread or task alone.

The class that stands there for ``socket.socket`` makes the stack's sockets for AF_INET and AF_INET6, and the host's for
other families (AF_UNIX and so ``socketpair()``, which event loops need) and for descriptors of the host's. A socket
stays with its stack, whoever uses it later. TLS works too: what makes an SSLSocket makes a :class:`TlsSocket` then.

What is reached by the module's name at the time of the call is the stack's. A program that copied a name before
(``from socket import socket``) keeps the host's, and so does a class that was derived from ``socket.socket`` before.

Invariants:

1. The choice of the own thread or task counts before the process's; of several for the process the youngest that has
   not ended counts.
2. The names are replaced when the first context begins and put back when the last one ends.
3. A choice that is not for everywhere is a context variable: tasks and ``asyncio.to_thread`` take it along, a new
   thread does not.
"""

from __future__ import annotations

import _socket
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from lwipy.blocking import connecting, names
from lwipy.blocking.description import close_descriptor, description_of
from lwipy.blocking.socket import Socket

if TYPE_CHECKING:
    from lwipy.stack import Stack

_host_socket: Final = socket.socket
_FAMILIES: Final = (-1, socket.AF_INET, socket.AF_INET6)

_here: Final[ContextVar[Stack | None]] = ContextVar("lwipy.patched", default=None)
_everywhere: Final[list[Stack]] = []
_lock: Final = threading.Lock()
_contexts = 0
#: What was replaced: owner, name and what was there.
_replaced: Final[list[tuple[ModuleType | type, str, Any]]] = []


def chosen() -> Stack | None:
    """The stack that the socket module's names are now, in this thread or task; None for the host's network."""
    stack = _here.get()
    if stack is None and (stacks := _everywhere[-1:]):
        return stacks[0]
    return stack


@contextmanager
def patched(stack: Stack, *, everywhere: bool = True) -> Iterator[Stack]:
    """Makes the socket module's names the stack's: ``with lwipy.patched(stack): ...``.

    For all threads of the process; with `everywhere` False for the thread or task that enters, so that others may work
    on other stacks or on the host's network at the same time.
    """
    _begin()
    try:
        if not everywhere:
            token = _here.set(stack)
            try:
                yield stack
            finally:
                _here.reset(token)
            return
        with _lock:
            _everywhere.append(stack)
        try:
            yield stack
        finally:
            with _lock:
                del _everywhere[len(_everywhere) - 1 - _everywhere[::-1].index(stack)]
    finally:
        _end()


def _begin() -> None:
    global _contexts
    with _lock:
        _contexts += 1
        if _contexts == 1:
            _replace_names()


def _end() -> None:
    global _contexts
    with _lock:
        _contexts -= 1
        if _contexts == 0:
            while _replaced:
                setattr(*_replaced.pop())


def _replace(owner: ModuleType | type, name: str, value: object) -> None:
    if hasattr(owner, name):
        _replaced.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)


def _replace_names() -> None:
    # Loaded here, because few programs need it and OpenSSL takes its time.
    import ssl

    from lwipy.blocking.tls import create

    create_connection = _of_the_chosen("create_connection", connecting.create_connection)
    _replace(socket, "socket", LentSocket)
    _replace(socket, "SocketType", LentSocket)
    _replace(socket, "create_connection", create_connection)
    _replace(socket, "create_server", _of_the_chosen("create_server", connecting.create_server))
    _replace(socket, "has_ipv6", True)
    _replace(socket, "has_dualstack_ipv6", _of_the_chosen("has_dualstack_ipv6", lambda stack: True))
    _replace(socket, "dup", duplicate)
    _replace(socket, "close", close)
    for name in (
        "getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo",
        "if_nameindex", "if_nametoindex", "if_indextoname",
    ):  # fmt: skip
        if hasattr(socket, name):
            _replace(socket, name, _of_the_chosen(name, getattr(names, name)))
    _replace(ssl, "create_connection", create_connection)
    _replace(ssl.SSLSocket, "_create", classmethod(create))


def _of_the_chosen(name: str, ours: Callable[..., Any]) -> Callable[..., Any]:
    """The function `name` of the socket module, or ours where a stack is chosen."""
    theirs = getattr(socket, name)

    @functools.wraps(theirs)
    def either(*arguments: Any, **keywords: Any) -> Any:
        stack = chosen()
        return theirs(*arguments, **keywords) if stack is None else ours(stack, *arguments, **keywords)

    return either


class Lent(type):
    """The metaclass of the class that stands for ``socket.socket``: every socket is an instance of that."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _host_socket) if "lent" in cls.__dict__ else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _host_socket) if "lent" in cls.__dict__ else super().__subclasscheck__(subclass)


class LentSocket(Socket, metaclass=Lent):
    """Has the signature of ``socket.socket``; its sockets are the chosen stack's, where the family is."""

    lent = True

    def __new__(cls, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None, **_: Any) -> Any:
        if _is_ours(family, fileno):
            return _socket.socket.__new__(cls)
        return _host_socket(family, type, proto, fileno)

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(chosen(), family, type, proto, fileno)


LentSocket.__name__ = LentSocket.__qualname__ = "socket"
LentSocket.__module__ = "socket"


def _is_ours(family: object, fileno: object) -> bool:
    if fileno is None:
        return family in _FAMILIES and chosen() is not None
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
