"""What all endpoints share: a handle, events, addresses and options.

Theory of operation. An endpoint is a number to C (a slot and a generation) and this object to Python. The stack finds
the object by the number when the core reports events, and calls :attr:`Endpoint.on_event` from whatever drives it.

Invariants:

1. ``_handle`` is 0 once the endpoint is closed; every operation then raises ``OSError`` EBADF.
2. READABLE and WRITABLE are reported once, then again only after an operation raised ``BlockingIOError`` (or took less
   than it was given). So whoever is told reads, or sends, until that happens.
3. The endpoint never blocks and never waits; that is the drivers' and sockets' business.
"""

from __future__ import annotations

import enum
import errno
import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from lwipy._native import calls, check, error_of, ffi, lib
from lwipy.addresses import pack, pack_ipv4, parse_ip, parse_port, text_of

if TYPE_CHECKING:
    from lwipy._calls import End
    from lwipy.interface import Interface
    from lwipy.stack import Stack
else:
    End = calls.End

Address: TypeAlias = tuple[str, int]
Buffer: TypeAlias = bytes | bytearray | memoryview


class Event(enum.IntFlag):
    """What happened to an endpoint since it was last told."""

    READABLE = lib.LWIPY_READABLE
    WRITABLE = lib.LWIPY_WRITABLE
    CONNECTED = lib.LWIPY_CONNECTED
    FAILED = lib.LWIPY_FAILED
    CLOSED = lib.LWIPY_CLOSED
    RESOLVED = lib.LWIPY_RESOLVED
    ACKED = lib.LWIPY_ACKED


#: Every combination, made once: an event is looked up here when it happens.
EVENTS: Final = tuple(Event(bits) for bits in range(2 * max(Event)))


class Option(enum.IntEnum):
    """Options of endpoints, as :meth:`Endpoint.set_option` takes them; times in seconds, sizes in bytes."""

    NODELAY = lib.LWIPY_OPT_NODELAY
    KEEPALIVE = lib.LWIPY_OPT_KEEPALIVE
    KEEPIDLE = lib.LWIPY_OPT_KEEPIDLE
    KEEPINTVL = lib.LWIPY_OPT_KEEPINTVL
    KEEPCNT = lib.LWIPY_OPT_KEEPCNT
    RCVBUF = lib.LWIPY_OPT_RCVBUF
    SNDBUF = lib.LWIPY_OPT_SNDBUF
    REUSEADDR = lib.LWIPY_OPT_REUSEADDR
    BROADCAST = lib.LWIPY_OPT_BROADCAST
    TTL = lib.LWIPY_OPT_TTL
    TOS = lib.LWIPY_OPT_TOS
    V6ONLY = lib.LWIPY_OPT_V6ONLY
    MCAST_TTL = lib.LWIPY_OPT_MCAST_TTL
    MCAST_LOOP = lib.LWIPY_OPT_MCAST_LOOP
    MCAST_NETIF = lib.LWIPY_OPT_MCAST_NETIF
    QUICKACK = lib.LWIPY_OPT_QUICKACK
    MAX_PACING_RATE = lib.LWIPY_OPT_MAX_PACING


#: The least and the greatest value of options that C keeps in fewer bits; keepalive's are the kernel's.
_LIMITS: Final = {
    Option.TTL: (1, 255), Option.TOS: (0, 255), Option.MCAST_TTL: (0, 255), Option.MCAST_NETIF: (0, 255),
    Option.KEEPIDLE: (1, 32767), Option.KEEPINTVL: (1, 32767), Option.KEEPCNT: (1, 127),
}  # fmt: skip


def check_family(family: int) -> int:
    if family not in (0, 4, 6):
        raise ValueError(f"family {family!r} is unknown: expected 4, 6, or 0 for both")
    return int(family)


def check_size(size: int) -> int:
    if size < 0:
        raise ValueError(f"size {size} is negative")
    return size


def read_names(names: bytes) -> tuple[Address | None, Address | None]:
    """The local and the remote address of an endpoint's names(); None for what it has not."""
    both = ffi.from_buffer("lwipy_address[]", names)
    hosts = [text_of(each) for each in both]
    return tuple(None if host is None else (host, each.port) for host, each in zip(hosts, both, strict=True))  # type: ignore[return-value]


class Endpoint(End):
    """A handle of a stack's core. See the module's text for its rules."""

    __slots__ = ("__weakref__", "family")
    kind: int

    def __init__(self, stack: Stack, family: int, handle: int | None = None, protocol: int = 0) -> None:
        self._stack = stack
        self._handle = 0
        self.family = family
        self.on_event = None
        if handle is None:
            out = ffi.new("lwipy_handle *")
            check(stack._core, lib.lwipy_socket(stack._core, self.kind, family, protocol, out), "no memory")
            handle = int(out[0])
        self._handle = handle
        stack._endpoints[handle] = self

    def __repr__(self) -> str:
        state = f"#{self._handle & 0xFFFFFFFF}" if self._handle else "closed"
        return f"<{type(self).__name__} {state}>"

    @property
    def stack(self) -> Stack:
        return self._stack

    @property
    def closed(self) -> bool:
        return self._handle == 0

    def _check(self, result: int, what: str = "") -> int:
        if result >= 0:
            return result
        if result == lib.LWIPY_EHANDLE:
            raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)}: the {type(self).__name__} is closed")
        return check(self._stack._core, result, what)

    # -- Addresses ---------------------------------------------------------------------------------

    def _pack(self, address: Address) -> Any:
        """`address` for C; an empty host is the unspecified address."""
        if not isinstance(address, tuple | list) or len(address) < 2:
            raise TypeError(f"address must be a tuple (host, port), not {address!r}")
        host, port = address[0], parse_port(address[1])
        if host == "":
            return (
                pack(None, port) if self.family == 0 else pack(parse_ip("0.0.0.0" if self.family == 4 else "::"), port)
            )
        if self.family == 4 and type(host) is str and (packed := pack_ipv4(host, port)) is not None:
            return packed
        ip = parse_ip(host)
        if self.family and ip.version != self.family:
            raise ValueError(f"{host!r} is not an IPv{self.family} address, as this endpoint needs")
        return pack(ip, port, self._stack._scopes)

    def _number(self, interface: Interface | None) -> int:
        """An interface for C, 0 for none. ValueError for another stack's, OSError ENODEV for one that was removed."""
        if interface is None:
            return 0
        if interface.stack is not self._stack:
            raise ValueError(f"{interface.name!r} is an interface of another stack")
        if interface.number == 0:
            raise OSError(errno.ENODEV, f"interface {interface.name} was removed")
        return interface.number

    def _unpack(self, address: Any) -> Address | None:
        host = text_of(address)
        return None if host is None else (host, address.port)

    def bind(self, address: Address, interface: Interface | None = None, *, reuse: bool = False) -> None:
        """Takes a local address, port 0 for any; with `interface`, only what comes through that one is received.

        OSError: EADDRINUSE, EADDRNOTAVAIL (not an address of ours), EINVAL (bound already). tcp_bind, udp_bind.
        """
        packed = self._pack(address)
        core = self._stack._core
        if reuse:
            self.set_option(Option.REUSEADDR, 1)
        if interface is not None:
            self.bind_interface(interface)
        self._check(lib.lwipy_bind(core, self._handle, packed), f"{address[0]}:{address[1]}")

    def bind_interface(self, interface: Interface | None) -> None:
        """Restricts the endpoint to one interface (SO_BINDTODEVICE); None lifts that."""
        number = self._number(interface)
        self._check(lib.lwipy_set_option(self._stack._core, self._handle, lib.LWIPY_OPT_NETIF, number))

    @property
    def address(self) -> Address:
        """The local address; ``("", 0)`` or an unspecified one before bind and connect."""
        out = ffi.new("lwipy_address *")
        self._check(lib.lwipy_local(self._stack._core, self._handle, out))
        return self._unpack(out) or ("", 0)

    @property
    def peer(self) -> Address | None:
        """The remote address; None when not connected."""
        out = ffi.new("lwipy_address *")
        self._check(lib.lwipy_remote(self._stack._core, self._handle, out))
        return self._unpack(out)

    def names(self) -> bytes:
        """Both addresses as C has them, for :func:`read_names`."""
        out = ffi.new("lwipy_address[2]")
        self._check(lib.lwipy_both_addresses(self._stack._core, self._handle, out))
        return ffi.buffer(out)[:]  # type: ignore[no-any-return]

    # -- State -------------------------------------------------------------------------------------

    def ready(self) -> Event:
        """READABLE and WRITABLE as of now; what is missing will be reported when it comes."""
        return EVENTS[self._check(lib.lwipy_ready(self._stack._core, self._handle))]

    def set_option(self, option: Option, value: int) -> None:
        """OSError ENOPROTOOPT where the endpoint has no such option; ValueError for a value it cannot have."""
        option = Option(option)
        if not isinstance(value, int):
            raise TypeError(f"{option.name} must be an int, not {value!r}")
        least, greatest = _LIMITS.get(option, (0, 0x7FFFFFFF))
        if not least <= value <= greatest:
            raise ValueError(f"{option.name} cannot be {value}: expected {least} to {greatest}")
        self._check(lib.lwipy_set_option(self._stack._core, self._handle, option, value), option.name)
        self._stack._after()

    def get_option(self, option: Option) -> int:
        return self._check(lib.lwipy_get_option(self._stack._core, self._handle, option), option.name)

    def take_error(self) -> OSError | None:
        """What ended the connection, or what a peer said by ICMP to a datagram (SO_ERROR); asking clears it."""
        code = lib.lwipy_error(self._stack._core, self._handle)
        return error_of(self._stack._core, code) if code < 0 else None

    def _end(self) -> int:
        """Forgets the handle and gives it to the caller; 0 when it was closed before."""
        handle, self._handle = self._handle, 0
        self._stack._endpoints.pop(handle, None)
        self.on_event = None
        return handle

    def close(self) -> None:
        """Ends the endpoint; what TCP still has to send it sends. Closing twice is allowed."""
        if (handle := self._end()) and not self._stack.closed:
            lib.lwipy_release(self._stack._core, handle)
            self._stack._after()
