"""Connections and servers as the socket module's functions make them, by name and over both families.

Theory of operation. A name may have many addresses, and the first may lead nowhere. So attempts start one after the
other, at once when one failed and after :data:`DELAY` otherwise, in turns of IPv6 and IPv4; the first that connects
wins and the others are dropped (RFC 8305, "happy eyeballs"). One set of waiters hears of all of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections import deque
from collections.abc import Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from lwipy.blocking.description import Description
from lwipy.blocking.names import AddressInfo, getaddrinfo, resolve
from lwipy.blocking.socket import Socket
from lwipy.blocking.waiting import Waiters
from lwipy.endpoints import TcpEndpoint

if TYPE_CHECKING:
    from lwipy.stack import Stack

#: Seconds until the next address is tried beside the one at hand: RFC 8305's Connection Attempt Delay.
DELAY: Final = 0.25

_DEFAULT: Final[Any] = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


def create_connection(
    stack: Stack,
    address: tuple[str | None, int],
    timeout: float | None = _DEFAULT,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
) -> Socket:
    """Connects to one of the host's addresses; raises the last error (or all of them) when none answers.

    `timeout` is for each attempt, seconds, and stays the socket's. socket.gaierror when the name has no address.
    """
    host, port = address
    candidates = _in_turns(getaddrinfo(stack, host, port, 0, socket.SOCK_STREAM))
    race = Race(stack, candidates, socket.getdefaulttimeout() if timeout is _DEFAULT else timeout, source_address)
    connected = race.run()
    if connected is not None:
        return connected
    if all_errors:
        raise ExceptionGroup("create_connection failed", race.errors)
    raise race.errors[-1]


def _in_turns(found: list[AddressInfo]) -> list[AddressInfo]:
    """The families in turns, beginning with the first that was found (RFC 8305 section 4)."""
    first = [entry for entry in found if entry[0] == found[0][0]]
    other = [entry for entry in found if entry[0] != found[0][0]]
    return [entry for pair in zip_longest(first, other) for entry in pair if entry is not None]


class Race:
    """Attempts to connect, side by side. ``errors`` has one for each that failed, in the order of failing."""

    def __init__(
        self, stack: Stack, candidates: Iterable[AddressInfo], timeout: float | None, source: tuple[str, int] | None
    ) -> None:
        self.errors: list[OSError] = []
        self._stack = stack
        self._waiting = deque(candidates)
        self._timeout = timeout
        self._source = source
        self._waiters = Waiters(stack)
        # Who runs, with what it was told and when it gives up (monotonic seconds).
        self._running: dict[TcpEndpoint, tuple[AddressInfo, float]] = {}

    def run(self) -> Socket | None:
        """The winner; None when all have failed."""
        try:
            while self._waiting or self._running:
                if self._waiting:
                    self._start(self._waiting.popleft())
                winner = self._wait()
                if winner is not None:
                    return self._crown(winner)
            return None
        finally:
            for endpoint in self._running:
                endpoint.close()

    def _start(self, candidate: AddressInfo) -> None:
        family, sockaddr = candidate[0], candidate[4]
        endpoint = self._stack.tcp(4 if family == socket.AF_INET else 6)
        endpoint.on_event = self._waiters.notify
        host = f"{sockaddr[0]}%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] else sockaddr[0]
        try:
            if self._source is not None:
                source, port = self._source
                endpoint.bind((resolve(self._stack, source, family)[0] if source else "", port))
            endpoint.connect((host, sockaddr[1]))
        except OSError as error:
            endpoint.close()
            self.errors.append(error)
            return
        except BaseException:
            endpoint.close()
            raise
        give_up = float("inf") if self._timeout is None else time.monotonic() + self._timeout
        self._running[endpoint] = candidate, give_up

    def _wait(self) -> TcpEndpoint | None:
        """Until one has connected, one has failed, or the next is due."""
        if not self._running:
            return None
        now = time.monotonic()
        pause = max(0.0, min(give_up for _, give_up in self._running.values()) - now)
        if self._waiting:
            pause = min(pause, DELAY)
        if pause == 0:
            self._give_up(now)
            return None
        try:
            return self._waiters.until(self._look, None if pause == float("inf") else pause)
        except TimeoutError:
            self._give_up(time.monotonic())
            return None

    def _look(self) -> TcpEndpoint | None:
        for endpoint, (candidate, _) in list(self._running.items()):
            try:
                endpoint.finish_connect()
                return endpoint
            except BlockingIOError:
                continue
            except OSError as error:
                self._drop(endpoint, _naming(error, candidate[4]))
                return None
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def _give_up(self, now: float) -> None:
        for endpoint, (_, when) in list(self._running.items()):
            if when <= now:
                in_progress = BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
                self._drop(endpoint, in_progress if self._timeout == 0 else TimeoutError("timed out"))

    def _drop(self, endpoint: TcpEndpoint, error: OSError) -> None:
        del self._running[endpoint]
        endpoint.close()
        self.errors.append(error)

    def _crown(self, winner: TcpEndpoint) -> Socket:
        (family, kind, proto, _, _), _ = self._running.pop(winner)
        sock = Socket(None, family, kind, proto, description=Description(winner))
        sock.settimeout(self._timeout)
        return sock


def _naming(error: OSError, sockaddr: Any) -> OSError:
    number = error.errno or errno.EIO
    return type(error)(number, f"{os.strerror(number)}: {sockaddr[0]}:{sockaddr[1]}")


def create_server(
    stack: Stack,
    address: tuple[str, int],
    *,
    family: int = socket.AF_INET,
    backlog: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> Socket:
    """A listening socket. `dualstack_ipv6` takes both families on one."""
    if dualstack_ipv6 and family != socket.AF_INET6:
        raise ValueError("dualstack_ipv6 requires AF_INET6 family")
    sock = Socket(stack, family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dualstack_ipv6))
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno is not None:
                raise type(error)(error.errno, f"{error.strerror} (while attempting to bind on {address!r})") from None
            raise
        if backlog is None:
            sock.listen()
        else:
            sock.listen(backlog)
        return sock
    except BaseException:
        with contextlib.suppress(OSError):
            sock.close()
        raise
