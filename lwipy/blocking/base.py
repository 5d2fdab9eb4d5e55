"""What makes a socket of a stack a :class:`socket.socket`: its identity, addresses, timeout, descriptor and end.

Theory of operation. The class derives from the standard library's, which was never given a descriptor: whatever it has
in Python (makefile, sendfile, context manager) works through the methods here, and isinstance() holds everywhere.

Invariants:

1. The C part of ``socket.socket`` is never initialised; a method of it that was forgotten here would raise EBADF.
2. ``_description`` is the socket's own or shared reference, None once the socket has really been closed. That happens
   after close(), with the last file made by makefile().
3. ``_descriptor`` is -1 until fileno() is asked for.
"""

from __future__ import annotations

import enum
import errno
import operator
import os
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lwipy.blocking.description import (
    AnyEndpoint,
    Description,
    bad_descriptor,
    close_descriptor,
    description_of,
)
from lwipy.blocking.names import resolve
from lwipy.blocking.waiting import checked_timeout
from lwipy.endpoints import TcpEndpoint, TcpInfo, TcpState, UdpEndpoint
from lwipy.endpoints.udp import DatagramEndpoint

if TYPE_CHECKING:
    from typing import Self

    from lwipy.stack import Stack

E = TypeVar("E", bound=enum.IntEnum)

#: A connection in these has no peer any more, to the kernel.
_OVER: Final = (TcpState.CLOSED, TcpState.TIME_WAIT)
_NONBLOCK: Final[int] = getattr(socket, "SOCK_NONBLOCK", 0)
_TYPE_FLAGS: Final[int] = _NONBLOCK | getattr(socket, "SOCK_CLOEXEC", 0)
_PROTOCOLS: Final = {
    socket.SOCK_STREAM: (0, socket.IPPROTO_TCP),
    socket.SOCK_DGRAM: (0, socket.IPPROTO_UDP),
}


def fault(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def c_int(value: int) -> int:
    """What fits into C's int; OverflowError and TypeError as the socket module's."""
    number = operator.index(value)
    if not -(1 << 31) <= number < 1 << 31:
        raise OverflowError("Python int too large to convert to C int")
    return number


class SocketBase(socket.socket):
    """The part of a socket that neither sends nor receives."""

    def __init__(
        self,
        stack: Stack | None = None,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        *,
        description: Description | None = None,
    ) -> None:
        """A new socket of `stack`; or one for a `description`, or for the one behind the descriptor `fileno`."""
        self._description: Description | None = None
        self._descriptor = -1
        self._io_refs = 0
        self._closed = False
        self._timeout = socket.getdefaulttimeout()
        for number in (family, type, proto):
            c_int(number)
        found = None if fileno is None else _find(fileno)
        self._family = _member(socket.AddressFamily, _family_of(found) if family == -1 else family)
        self._type = _member(socket.SocketKind, (_type_of(found) if type == -1 else type) & ~_TYPE_FLAGS)
        self._protocol = 0 if proto == -1 else proto
        if type != -1 and type & _NONBLOCK:
            self._timeout = 0.0
        if found is not None and fileno is not None:
            self._description, self._descriptor = found, fileno
        elif description is not None:
            self._description = description
        elif stack is None:
            raise TypeError("a socket needs the stack that it is of")
        else:
            self._description = Description(self._new_endpoint(stack))

    def _new_endpoint(self, stack: Stack) -> AnyEndpoint:
        if self._family not in (socket.AF_INET, socket.AF_INET6):
            raise OSError(errno.EAFNOSUPPORT, f"Address family not supported by a stack: {self._family!r}")
        if self._protocol not in _PROTOCOLS.get(self._type, (self._protocol,)):
            raise OSError(errno.EPROTONOSUPPORT, f"Protocol not supported: {self._protocol} over {self._type!r}")
        # An IPv6 socket starts as one of both families: IPV6_V6ONLY is off, as on Linux.
        family = 4 if self._family == socket.AF_INET else 0
        if self._type == socket.SOCK_STREAM:
            return stack.tcp(family)
        if self._type == socket.SOCK_DGRAM:
            return stack.udp(family)
        if self._type == socket.SOCK_RAW and not 0 < self._protocol < 256:
            raise fault(errno.EINVAL if self._protocol else errno.EPROTONOSUPPORT)
        if self._type == socket.SOCK_RAW:
            return stack.raw(self._protocol, 4 if family else 6)
        raise OSError(errno.ESOCKTNOSUPPORT, f"Socket type not supported: {self._type!r}")

    def __repr__(self) -> str:
        state = " [closed]" if self._closed else ""
        text = f"<lwipy.Socket{state} fd={self._descriptor}, family={self._family!s}, type={self._type!s}"
        text += f", proto={self._protocol}"
        for name, ask in (("laddr", self.getsockname), ("raddr", self.getpeername)):
            try:
                text += f", {name}={ask()}"
            except OSError:
                pass
        return text + ">"

    # -- Parts ---------------------------------------------------------------------------------------------------------

    @property
    def stack(self) -> Stack:
        """The stack that the socket is of; OSError EBADF after the end."""
        return self._open.stack

    @property
    def _open(self) -> Description:
        if self._description is None:
            raise bad_descriptor()
        return self._description

    @property
    def _stack(self) -> Stack:
        return self._open.stack

    @property
    def _endpoint(self) -> AnyEndpoint:
        return self._open.endpoint

    @property
    def _linger(self) -> int | None:
        return self._open.linger

    @_linger.setter
    def _linger(self, seconds: int | None) -> None:
        self._open.linger = seconds

    @property
    def _listening(self) -> bool:
        return self._open.listening

    @property
    def _v6only(self) -> bool:
        return self._open.v6only

    @property
    def _switches(self) -> frozenset[tuple[int, int]]:
        return self._open.switches

    def _switch(self, which: tuple[int, int], on: bool) -> None:
        self._open.switches = self._open.switches | {which} if on else self._open.switches - {which}

    def _tcp(self) -> TcpEndpoint:
        endpoint = self._endpoint
        if not isinstance(endpoint, TcpEndpoint):
            raise fault(errno.EOPNOTSUPP)
        return endpoint

    def _datagrams(self) -> DatagramEndpoint:
        endpoint = self._endpoint
        if not isinstance(endpoint, DatagramEndpoint):
            raise fault(errno.EOPNOTSUPP)
        return endpoint

    @property
    def family(self) -> socket.AddressFamily:
        return self._family

    @property
    def type(self) -> socket.SocketKind:
        return self._type

    @property
    def proto(self) -> int:
        return self._protocol

    @property
    def tcp_info(self) -> TcpInfo:
        """State, windows, round trip time and queued bytes of the connection."""
        return self._tcp().info

    # -- Timeout -------------------------------------------------------------------------------------------------------

    def _set_timeout(self, value: float | None) -> None:
        self._timeout = value
        if self._descriptor >= 0:
            os.set_blocking(self._descriptor, value is None)

    def settimeout(self, value: float | None, /) -> None:
        self._set_timeout(checked_timeout(value))

    def gettimeout(self) -> float | None:
        return self._timeout

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        self._set_timeout(None if operator.index(flag) else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0

    # -- Addresses -----------------------------------------------------------------------------------------------------

    def _resolve(self, address: Any, operation: str) -> tuple[str, int]:
        """(host, port[, flowinfo, scope_id]) with numbers for the host: the first address of our family."""
        version6 = self._family == socket.AF_INET6
        if not isinstance(address, tuple):
            raise TypeError(f"{operation}(): {self._family.name} address must be tuple, not {_name(address)}")
        if not 2 <= len(address) <= (4 if version6 else 2):
            expected = "a tuple (host, port[, flowinfo[, scopeid]])" if version6 else "a pair (host, port)"
            raise TypeError(f"{operation}(): {self._family.name} address must be {expected}")
        host, port = _text(address[0]), operator.index(address[1])
        if not 0 <= port <= 65535:
            raise OverflowError(f"{operation}(): port must be 0-65535.")
        if len(address) > 2 and not 0 <= operator.index(address[2]) <= 0xFFFFF:
            raise OverflowError(f"{operation}(): flowinfo must be 0-1048575.")
        if host == "<broadcast>":
            host = "255.255.255.255"
        if len(address) == 4 and address[3] and "%" not in host:
            host = f"{host}%{address[3]}"
        if host:
            host = resolve(self._open.stack, host, self._family, self._timeout)[0]
        return _unmapped(host), port

    def _present(self, address: tuple[str, int] | None) -> Any:
        """As the socket module shows addresses: a pair, or four values for IPv6."""
        if self._family == socket.AF_INET:
            return ("0.0.0.0", 0 if address is None else address[1]) if not _is_set(address) else address
        if address is None or not address[0]:
            return ("::", address[1] if address else 0, 0, 0)
        host, _, scope = address[0].partition("%")
        if ":" not in host:
            host = "::" if host == "0.0.0.0" else f"::ffff:{host}"
        return (host, address[1], 0, int(scope or 0))

    def getsockname(self) -> Any:
        return self._present(self._endpoint.address)

    def getpeername(self) -> Any:
        endpoint = self._endpoint
        peer = endpoint.peer
        if peer is None or (isinstance(endpoint, TcpEndpoint) and endpoint.info.state in _OVER):
            raise fault(errno.ENOTCONN)
        return self._present(peer)

    # -- Descriptor ----------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that select, poll and epoll see ready when the socket is; -1 after the end.

        It is made when it is first asked for and closed with the socket. It is for polling, duplicating and adopting
        (``socket(fileno=...)``) only: no bytes of the connection pass through it.
        """
        description = self._description
        if description is None:
            return -1
        _refuse_the_hosts_tls()
        if self._descriptor < 0:
            with description.opening:
                if self._descriptor < 0:
                    self._descriptor = description.open_descriptor()
                    # Nobody reads it, but programs ask it for O_NONBLOCK.
                    os.set_blocking(self._descriptor, self._timeout is None)
        return self._descriptor

    def dup(self) -> Self:
        """Another socket for the same endpoint, which ends with the last of them."""
        twin = self._twin(self._open.share())
        twin.settimeout(self._timeout)
        return twin

    def _twin(self, description: Description) -> Self:
        """A socket of this one's class and kind, for a description."""
        twin = SocketBase.__new__(self.__class__)  # not the class's own, which may make a socket of the host's
        SocketBase.__init__(twin, None, self._family, self._type, self._protocol, description=description)
        return twin

    def detach(self) -> int:
        """Closes the socket, not its descriptor: ``socket(fileno=...)``, in :func:`lwipy.patched` or with
        :meth:`Stack.socket`, makes another socket of it, :func:`lwipy.blocking.close` closes it."""
        descriptor = self.fileno()
        self._closed = True
        self._description, self._descriptor = None, -1
        return descriptor

    def get_inheritable(self) -> bool:
        return os.get_inheritable(self.fileno())

    def set_inheritable(self, inheritable: bool) -> None:
        """Of the descriptor: the stack lives in this process, so another can do nothing with it."""
        os.set_inheritable(self.fileno(), inheritable)

    # -- End: close() is the standard library's, which waits for the files of makefile() -------------------------------

    def _real_close(self, *_: Any) -> None:
        self._end(linger=True)

    def _end(self, *, linger: bool) -> None:
        description, descriptor = self._description, self._descriptor
        self._description, self._descriptor = None, -1
        if descriptor >= 0:
            close_descriptor(descriptor, linger=linger)
        elif description is not None:
            description.release(linger=linger)

    def __del__(self) -> None:
        description = self.__dict__.get("_description")
        if description is not None and not description.endpoint.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1, source=self)
            try:
                self._end(linger=False)
            except OSError:
                pass


def _refuse_the_hosts_tls() -> None:
    """An SSLSocket of the host's would send its handshake into the descriptor and wait for ever."""
    caller = sys._getframe(2)
    if caller.f_code.co_name == "_create" and caller.f_globals.get("__name__") == "ssl":
        raise TypeError(
            "this context makes sockets of the host's: use lwipy.blocking.tls.SSLContext, or set the context's "
            "sslsocket_class to lwipy.blocking.tls.TlsSocket, or work inside lwipy.patched()"
        )


def _find(descriptor: int) -> Description:
    if operator.index(descriptor) < 0:
        raise ValueError("negative file descriptor")
    found = description_of(descriptor)
    if found is None:
        raise bad_descriptor()
    return found


def _family_of(found: Description | None) -> int:
    return socket.AF_INET if found is None or found.endpoint.family == 4 else socket.AF_INET6


def _type_of(found: Description | None) -> int:
    if found is None or isinstance(found.endpoint, TcpEndpoint):
        return socket.SOCK_STREAM
    return socket.SOCK_DGRAM if isinstance(found.endpoint, UdpEndpoint) else socket.SOCK_RAW


def _member(enumeration: type[E], value: int) -> E:
    """The enumeration's member, or the bare number where it has none, as the socket module does."""
    try:
        return enumeration(value)
    except ValueError:
        return value  # type: ignore[return-value]


def _name(value: object) -> str:
    return type(value).__name__


def _text(host: object) -> str:
    if isinstance(host, bytes | bytearray):
        return bytes(host).decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"str, bytes or bytearray expected, not {_name(host)}")
    if "\0" in host:
        raise TypeError("host name must not contain null character")
    return host


def _is_set(address: tuple[str, int] | None) -> bool:
    return address is not None and address[0] not in ("", "::")


def _unmapped(host: str) -> str:
    """IPv4-mapped IPv6 addresses are IPv4 to the core."""
    return host[7:] if host.lower().startswith("::ffff:") and "." in host else host
