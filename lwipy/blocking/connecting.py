"""Connections and servers as the socket module's functions make them, by name and over both families."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from lwipy.blocking.description import Description
from lwipy.blocking.names import getaddrinfo
from lwipy.blocking.race import Race, Winner, in_turns
from lwipy.blocking.socket import Socket
from lwipy.blocking.waiting import Waiters, checked_timeout
from lwipy.endpoints import TcpEndpoint

if TYPE_CHECKING:
    from lwipy.stack import Stack

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
    candidates = in_turns(getaddrinfo(stack, host, port, 0, socket.SOCK_STREAM))
    limit = socket.getdefaulttimeout() if timeout is _DEFAULT else checked_timeout(timeout)
    waiters = Waiters(stack)

    def listen(endpoint: TcpEndpoint) -> None:
        endpoint.on_event = waiters.notify

    race = Race(stack, candidates, listen, timeout=limit, source=source_address)
    winner = _run(race, waiters)
    if winner is not None:
        family, kind, proto, _, _ = winner.candidate
        sock = Socket(None, family, kind, proto, description=Description(winner.endpoint))
        sock.settimeout(limit)
        return sock
    if all_errors:
        raise ExceptionGroup("create_connection failed", race.errors)
    raise race.errors[-1]


def _run(race: Race, waiters: Waiters) -> Winner | None:
    """Who wins; None when all have failed. One set of waiters hears of all of them."""
    with contextlib.closing(race):
        while race.open:
            race.start_next(time.monotonic())
            pause = race.pause(time.monotonic())
            if pause:
                try:
                    winner = waiters.until(race.look, None if pause == math.inf else pause)
                except TimeoutError:
                    pass
                else:
                    if winner is not None:
                        return winner
                    continue
            race.give_up(time.monotonic())
        return None


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
