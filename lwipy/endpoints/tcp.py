"""TCP endpoints: connections and listeners, without I/O of their own.

Every method returns at once: with what could be done, or with ``BlockingIOError`` and a later event. See
``csrc/tcp.c`` for who owns the pcb and when it dies.
"""

from __future__ import annotations

import enum
import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from lwipy._native import WOULD_BLOCK, calls, check, ffi, lib
from lwipy.addresses import pack, pack_ipv4, parse_ip, parse_port
from lwipy.endpoints.base import Address, Endpoint

if TYPE_CHECKING:
    from lwipy._calls import Connection
    from lwipy.stack import Stack
else:
    Connection = calls.Connection

_open: Final = lib.lwipy_tcp_open
#: Connections that accept_many() takes in one call.
_MANY: Final = 64
_ACCEPTED: Final = ffi.sizeof("lwipy_accepted")
_NAMES: Final = ffi.offsetof("lwipy_accepted", "local")


class TcpState(enum.IntEnum):
    """States of RFC 9293 section 3.3.2, with lwIP's numbers."""

    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RCVD = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10


class RecoveryPhase(enum.IntEnum):
    """Where loss recovery stands: nothing is amiss, holes are being filled (RFC 9937), or the timeout has fired."""

    OPEN = 0
    RECOVERING = 1
    TIMED_OUT = 2


class TcpInfo(NamedTuple):
    """What the kernel's TCP_INFO tells: sizes in bytes, times in seconds (to the microsecond), rates in bytes a second.

    `in_flight` is what is in the network: sent, and neither acknowledged, SACKed nor taken for lost.
    `retransmits` counts for the segment at the head, `retransmitted_segments` and `lost_segments` for the connection.
    `undone_reductions`: how often the window was restored because a loss or a timeout was none.
    """

    state: TcpState
    mss: int
    congestion_window: int
    slow_start_threshold: int
    send_window: int
    receive_window: int
    unsent: int
    unacked: int
    retransmission_timeout: float
    round_trip_time: float
    retransmits: int
    queued: int
    #: Of the sending side; what follows is zero before the first byte was sent.
    congestion: str = ""
    phase: RecoveryPhase = RecoveryPhase.OPEN
    reordering: bool = False
    round_trip_variation: float = 0.0
    least_round_trip_time: float = 0.0
    in_flight: int = 0
    pacing_rate: int = 0
    retransmitted_segments: int = 0
    lost_segments: int = 0
    timeouts: int = 0
    tail_probes: int = 0
    needless_probes: int = 0
    undone_reductions: int = 0
    send_buffer: int = 0
    receive_buffer: int = 0


class TcpEndpoint(Connection, Endpoint):
    """A connection or a listener. What it does with bytes is in C: see ``_calls.pyi``."""

    __slots__ = ()
    kind = lib.LWIPY_TCP

    def connect(self, address: Address) -> None:
        """Starts the handshake; CONNECTED or FAILED is reported later.

        OSError: EHOSTUNREACH (no route), EISCONN, EALREADY, EADDRINUSE. tcp_connect.
        """
        packed = self._pack(address)
        result = lib.lwipy_connect(self._stack._core, self._handle, packed)
        self._check(result, f"{address[0]}:{address[1]}")
        self._stack._after()

    @classmethod
    def opened(cls, stack: Stack, family: int, address: Address) -> tuple[TcpEndpoint, bytes]:
        """A new endpoint that is connecting, without Nagle's delay, and what its names() will be: all in one call.

        For whoever drives the stack: it is told of no event until it wants them, and calls _after() then. OSError as
        connect().
        """
        host, port = address
        parse_port(port)
        packed = pack_ipv4(host, port) if family == 4 else None
        if packed is None:
            packed = pack(parse_ip(host), port, stack._scopes)
        core = stack._core
        out = ffi.new("lwipy_accepted *")
        result = _open(core, packed, out)
        if result < 0:
            check(core, result, f"{host}:{port}")
        return cls(stack, family, out.handle), ffi.buffer(out)[_NAMES:_ACCEPTED]

    def finish_connect(self) -> None:
        """Returns when the handshake is over; BlockingIOError EINPROGRESS before, OSError when it failed."""
        result = lib.lwipy_tcp_connected(self._stack._core, self._handle)
        if result == WOULD_BLOCK:
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
        self._check(result)

    def listen(self, backlog: int = 128) -> None:
        """Accepts connections, up to `backlog` of them before accept(); beyond that SYNs are dropped and counted."""
        result = lib.lwipy_tcp_listen(self._stack._core, self._handle, max(0, min(backlog, 65535)))
        self._check(result, "a connection cannot listen")

    def accept(self) -> TcpEndpoint:
        """The next connection. BlockingIOError when none waits."""
        accepted = self.accept_if_any()
        if accepted is None:
            raise BlockingIOError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: no connection waits")
        return accepted

    def accept_if_any(self) -> TcpEndpoint | None:
        """The next connection; None, cheaper than an exception, when none waits."""
        out = ffi.new("lwipy_handle *")
        result = lib.lwipy_tcp_accept(self._stack._core, self._handle, out)
        if result == WOULD_BLOCK:
            return None
        self._check(result)
        return TcpEndpoint(self._stack, self.family, out[0])

    def accept_many(self) -> list[tuple[TcpEndpoint, bytes]]:
        """Connections that wait, several in one call, each with what its names() are; an empty list when none does."""
        stack = self._stack
        out = ffi.new("lwipy_accepted[]", _MANY)
        count = self._check(lib.lwipy_tcp_accept_many(stack._core, self._handle, out, _MANY))
        raw = ffi.buffer(out, count * _ACCEPTED)[:] if count else b""
        return [
            (TcpEndpoint(stack, self.family, out[i].handle), raw[i * _ACCEPTED + _NAMES : (i + 1) * _ACCEPTED])
            for i in range(count)
        ]

    def shutdown(self, *, read: bool = False, write: bool = False) -> None:
        """Half-close: `write` sends FIN behind what is queued, `read` discards what is there and what comes."""
        self._check(lib.lwipy_tcp_shutdown(self._stack._core, self._handle, read, write))
        self._stack._after()

    def linger(self) -> None:
        """Sends FIN and keeps the handle; ACKED is reported when everything was acknowledged, CLOSED at the end."""
        self._check(lib.lwipy_tcp_linger(self._stack._core, self._handle))
        self._stack._after()

    def abort(self) -> None:
        """Ends the connection with a reset. tcp_abort."""
        if (handle := self._end()) and not self._stack.closed:
            lib.lwipy_abort(self._stack._core, handle)
            self._stack._after()

    @property
    def congestion(self) -> str:
        """Who controls congestion: "cubic" (RFC 9438), "reno", "bbr", or "lwip" for lwIP alone, without SACK recovery.

        A listener's connections inherit it. OSError: ENOENT for another name; EISCONN to or from "lwip" when
        something has been sent.
        """
        out = ffi.new("char[16]")
        self._check(lib.lwipy_tcp_get_congestion(self._stack._core, self._handle, out))
        return str(ffi.string(out).decode())

    @congestion.setter
    def congestion(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a congestion control must be a str, not {name!r}")
        packed = name.encode()
        result = lib.lwipy_tcp_set_congestion(self._stack._core, self._handle, packed, len(packed))
        self._check(result, f"no congestion control {name!r} here")

    @property
    def info(self) -> TcpInfo:
        out = ffi.new("lwipy_tcp_info *")
        self._check(lib.lwipy_tcp_get_info(self._stack._core, self._handle, out))
        return TcpInfo(
            TcpState(out.state), out.mss, out.cwnd, out.ssthresh, out.snd_wnd, out.rcv_wnd, out.unsent, out.unacked,
            out.rto / 1e6, out.rtt / 1e6, out.retransmits, out.queued, ffi.string(out.congestion).decode(),
            RecoveryPhase(out.phase), bool(out.reordering), out.rttvar / 1e6, out.min_rtt / 1e6, out.in_flight,
            out.pacing_rate, out.resent, out.lost, out.timeouts, out.probes, out.needless, out.undone, out.sndbuf,
            out.rcvbuf,
        )  # fmt: skip
