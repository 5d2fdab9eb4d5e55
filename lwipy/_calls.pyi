# The classes in C: what csrc/python/driven.c, end.c and connection.c have is declared here, and lwipy._native loads it.

from collections.abc import Callable, Sequence
from typing import Any

from lwipy.endpoints.base import Buffer, Endpoint, Event
from lwipy.stack import Stack

class Driven:
    """What C needs to know of a stack."""

    _way: Any
    _endpoints: dict[int, Endpoint]
    #: True while there is something to do before a turn: timers, or to tell the core the time.
    _first: Sequence[object]
    #: The dispatcher runs.
    _telling: bool

    def poll(self) -> float | None:
        """Runs what is due, hands out events and frames; seconds until the next deadline, or None for none.

        StackError when lwIP failed. Call it again then, or sooner when a frame came.
        """

class End:
    """What C needs to know of an endpoint."""

    _stack: Stack
    _handle: int
    #: Is called with what happened, by whatever drives the stack.
    on_event: Callable[[Event], None] | None

class Connection(End):
    """What a connection does with bytes. Every method returns at once."""

    def send(self, data: Buffer) -> int:
        """Queues what fits into the send buffer and says how many bytes that was; BlockingIOError when none.

        OSError: ECONNRESET, EPIPE (never connected, or after shutdown), ETIMEDOUT. tcp_write.
        """

    def send_if_room(self, data: Buffer) -> int:
        """As send(), but 0, cheaper than an exception, when nothing fits."""

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, and at most a megabyte; b"" at the end of the stream.

        BlockingIOError when nothing waits; ValueError for a negative size.
        """

    def recv_into(self, buffer: bytearray | memoryview, *, peek: bool = False) -> int:
        """Fills `buffer` with what has arrived; 0 at the end of the stream. BlockingIOError when nothing waits."""

    def recv_into_if_any(self, buffer: bytearray | memoryview, peek: bool = False) -> int | None:
        """As recv_into(), but None, cheaper than an exception, when nothing waits."""
