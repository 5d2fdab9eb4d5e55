"""A socket that blocks, with the surface of :class:`socket.socket`, over a stack's endpoint.

Theory of operation. Every operation tries the endpoint once; where that would block, the thread waits for the driver to
report an event (``waiting.py``). Timeouts, exceptions and their errno are the standard library's. Sending, receiving
and what all of them share stand in rooms of their own; here are connections and options.

Invariants:

1. The endpoint lives until the last socket or descriptor that refers to it is closed (``description.py``).
2. A socket may be closed from any thread; those that wait in it fail with EBADF.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from lwipy.blocking import options
from lwipy.blocking.base import c_int, fault
from lwipy.blocking.description import Description
from lwipy.blocking.receiving import Receiving
from lwipy.blocking.sending import Sending
from lwipy.blocking.waiting import READABLE, WRITABLE
from lwipy.endpoints import Option, TcpEndpoint

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Socket(Receiving, Sending):
    """A socket of a stack. Made by :meth:`Stack.socket`; see :class:`socket.socket` for what each method does."""

    # -- Connections ---------------------------------------------------------------------------------------------------

    def bind(self, address: Any, /) -> None:
        self._endpoint.bind(self._resolve(address, "bind"))
        self._open.refresh()

    def listen(self, backlog: int = 128, /) -> None:
        self._tcp().listen(c_int(backlog))
        self._open.listening = True
        self._open.refresh()

    def accept(self) -> tuple[Socket, Any]:
        """The next connection and its address."""
        endpoint = self._open.until(self._tcp().accept, self._timeout, READABLE)
        accepted = Socket(None, self._family, self._type, self._protocol, description=Description(endpoint))
        return accepted, accepted._present(endpoint.peer)

    def connect(self, address: Any, /) -> None:
        self._connect(address)

    def _connect(self, address: Any) -> None:
        host, port = self._resolve(address, "connect")
        # The unspecified address means this very stack, as it does to the kernel.
        to = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port
        description = self._open
        endpoint = description.endpoint
        if not isinstance(endpoint, TcpEndpoint):
            endpoint.connect(to)
            return
        try:
            if self._begin(description, endpoint, to):
                description.until(endpoint.finish_connect, self._timeout, WRITABLE)
        except OSError as error:
            raise _naming(error, to) from None
        description.connecting = False

    def _begin(self, description: Description, tcp: TcpEndpoint, to: tuple[str, int]) -> bool:
        """Starts the handshake, or joins the one that runs; False when it is over."""
        try:
            tcp.connect(to)
        except OSError as error:
            if error.errno == errno.EISCONN and description.connecting:
                return False
            if error.errno == errno.EALREADY and self._timeout != 0:
                return True
            raise
        finally:
            description.refresh()
        description.connecting = True
        if self._timeout == 0:
            raise fault(errno.EINPROGRESS)
        return True

    def connect_ex(self, address: Any, /) -> int:
        try:
            self._connect(address)
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except socket.gaierror:
            raise
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        return 0

    def shutdown(self, how: int, /) -> None:
        if c_int(how) not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, f"cannot shut down {how!r}: expected SHUT_RD, SHUT_WR or SHUT_RDWR")
        endpoint = self._endpoint
        if not isinstance(endpoint, TcpEndpoint):
            self.getpeername()
            return
        endpoint.shutdown(read=how != socket.SHUT_WR, write=how != socket.SHUT_RD)
        if how != socket.SHUT_WR:
            self._open.listening = False
        self._open.notify()

    # -- Options: options.py knows the names ---------------------------------------------------------------------------

    def setsockopt(self, level: int, optname: int, value: int | Buffer | None, optlen: int | None = None, /) -> None:
        if value is None and optlen is None:
            raise TypeError("setsockopt() needs a length with the value None")
        plain = value if isinstance(value, int) or value is None else bytes(value)
        options.set_option(self, level, optname, plain, optlen)
        self._open.refresh()

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        if not 0 <= buflen <= 1024:
            raise OSError(errno.EINVAL, "getsockopt buflen out of range")
        return options.get_option(self, level, optname, buflen)

    def _set_plain(self, option: Option, value: int) -> None:
        self._endpoint.set_option(option, value)

    def _set_v6only(self, on: bool) -> None:
        if self._family != socket.AF_INET6:
            raise options.unsupported(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self._endpoint.set_option(Option.V6ONLY, int(on))
        self._open.v6only = on


def _naming(error: OSError, to: tuple[str, int]) -> OSError:
    """The same error with the peer's address in its text, where there is an errno to go by."""
    if error.errno is None or isinstance(error, BlockingIOError):
        return error
    return type(error)(error.errno, f"{os.strerror(error.errno)}: {to[0]}:{to[1]}")
