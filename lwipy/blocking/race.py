"""Attempts to connect, side by side: "happy eyeballs" (RFC 8305) without waiting, for whoever knows how to wait.

Theory of operation. A name may have many addresses, and the first may lead nowhere. So attempts start one after the
other, at once when one failed and after :data:`DELAY` otherwise, in turns of IPv6 and IPv4; the first that connects
wins and the others are dropped. The caller starts the next attempt, waits until :meth:`Race.look` has something or
:meth:`Race.pause` is over, and does so again while :attr:`Race.open`.

Invariant: an endpoint is the race's from start_next() until look() hands it out or close() ends it.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lwipy.blocking.names import AddressInfo, resolve
from lwipy.endpoints import TcpEndpoint
from lwipy.errors import StackError

if TYPE_CHECKING:
    from lwipy.stack import Stack

#: Seconds until the next address is tried beside the one at hand: RFC 8305's Connection Attempt Delay.
DELAY: Final = 0.25


def in_turns(found: Sequence[AddressInfo], first: int = 1) -> list[AddressInfo]:
    """The families in turns, after `first` addresses of the family that comes first (RFC 8305 section 4)."""
    families: dict[int, list[AddressInfo]] = {}
    for entry in found:
        families.setdefault(entry[0], []).append(entry)
    lists = list(families.values())
    head, lists[0] = lists[0][: first - 1], lists[0][first - 1 :]
    return head + [entry for turn in zip_longest(*lists) for entry in turn if entry is not None]


class Winner(NamedTuple):
    """A connected endpoint, the caller's from now on, and the address it was made for."""

    endpoint: TcpEndpoint
    candidate: AddressInfo


class Race:
    """The attempts. ``errors`` has one for each that failed, in the order of failing.

    `listen` sets an endpoint's ``on_event``, before it connects. `timeout` is for each attempt, seconds on the clock
    that :meth:`pause` and :meth:`give_up` are told; None for lwIP's own.
    """

    def __init__(
        self,
        stack: Stack,
        candidates: Iterable[AddressInfo],
        listen: Callable[[TcpEndpoint], None],
        *,
        timeout: float | None = None,
        source: tuple[str, int] | None = None,
        delay: float = DELAY,
    ) -> None:
        self.errors: list[OSError] = []
        self._stack = stack
        self._waiting = deque(candidates)
        self._listen = listen
        self._timeout = timeout
        self._source = source
        self._delay = delay
        # Who runs, with what it was told and when it gives up.
        self._running: dict[TcpEndpoint, tuple[AddressInfo, float]] = {}

    @property
    def open(self) -> bool:
        """Whether somebody may still win."""
        return bool(self._waiting or self._running)

    def start_next(self, now: float) -> None:
        """Begins the next attempt, if one is left."""
        if not self._waiting:
            return
        candidate = self._waiting.popleft()
        family, sockaddr = candidate[0], candidate[4]
        endpoint = self._stack.tcp(4 if family == socket.AF_INET else 6)
        host = f"{sockaddr[0]}%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] else sockaddr[0]
        try:
            self._listen(endpoint)
            if self._source is not None:
                source, port = self._source
                endpoint.bind((resolve(self._stack, source, family)[0] if source else "", port))
            endpoint.connect((host, sockaddr[1]))
        except BaseException as error:
            endpoint.close()
            if not isinstance(error, OSError) or isinstance(error, StackError):
                raise
            self.errors.append(error)
            return
        self._running[endpoint] = candidate, math.inf if self._timeout is None else now + self._timeout

    def pause(self, now: float) -> float:
        """Seconds to wait for look(): until the next attempt is due or one gives up; infinite when neither will."""
        if not self._running:
            return 0.0
        pause = max(0.0, min(give_up for _, give_up in self._running.values()) - now)
        return min(pause, self._delay) if self._waiting else pause

    def look(self) -> Winner | None:
        """Who has connected; None when one has failed and the next is due.

        BlockingIOError while all are on their way, StackError when the stack has failed or was closed.
        """
        for endpoint, (candidate, _) in list(self._running.items()):
            try:
                endpoint.finish_connect()
            except BlockingIOError:
                continue
            except StackError:
                raise
            except OSError as error:
                self._drop(endpoint, _naming(error, candidate[4]))
                return None
            del self._running[endpoint]
            return Winner(endpoint, candidate)
        if not self._running:
            return None
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def give_up(self, now: float) -> None:
        """Drops the attempts whose time is over."""
        for endpoint, (_, when) in list(self._running.items()):
            if when <= now:
                in_progress = BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
                self._drop(endpoint, in_progress if self._timeout == 0 else TimeoutError("timed out"))

    def failure(self, whom: str) -> OSError:
        """What to raise when all have failed: the one error, or the last with all of them as its cause."""
        last = self.errors[-1]
        if len(self.errors) == 1:
            return last
        error = OSError(last.errno, f"all attempts to connect to {whom} failed: {last.strerror}")
        error.__cause__ = ExceptionGroup("attempts to connect", self.errors)
        return error

    def close(self) -> None:
        """Drops everyone who still runs."""
        self._waiting.clear()
        while self._running:
            self._running.popitem()[0].close()

    def _drop(self, endpoint: TcpEndpoint, error: OSError) -> None:
        del self._running[endpoint]
        endpoint.close()
        self.errors.append(error)


def _naming(error: OSError, sockaddr: Any) -> OSError:
    number = error.errno or errno.EIO
    return type(error)(number, f"{os.strerror(number)}: {sockaddr[0]}:{sockaddr[1]}")
