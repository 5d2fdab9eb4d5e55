"""The reading half of a stream transport.

Theory of operation. The endpoint says once that it is readable, and again only after an operation had to wait. So a
readable transport reads until the endpoint has nothing more, and `_readable` remembers that it stopped early (paused,
or took its share of the turn). A protocol is handed what has come in pieces. A stream's reader (`reader.py`), which
hands them on, is fed the first, by which it wakes, and takes the others by itself: they pass through no buffer, and
need no turn of the loop each.

How long a piece is decides what memory costs. Of what is freed at the heap's end glibc keeps 128 KB and gives the rest
back to the system; then every page of the next object is a fault. With pieces of 256 KB, of which a stream has two at a
time, that was half of what it took.

Invariants:

1. Protocol callbacks run in the loop's turns only, never inside resume_reading() or take().
2. What a reader takes are bytes that it would be fed next. Ends and errors it is told in a turn of the loop, behind
   them.
3. From one read in the loop's turn to the next nobody gets more than SHARE pieces, whoever drives the stack.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import WOULD_BLOCK, calls, ffi, lib
from lwipy.aio.writing import Writing
from lwipy.errors import StackClosedError

if TYPE_CHECKING:
    import asyncio

#: The most that one data_received() gets, bytes.
PIECE: Final = 64 * 1024
#: Pieces that one transport reads before the others have their turn.
SHARE: Final = 8
#: Bytes: after a piece of that many the next is received into memory of its own, instead of being copied out.
PLENTY: Final = 32 * 1024
# What runs for every event is found without asking modules for it.
_recv: Final = lib.lwipy_tcp_recv
_recv_bytes: Final = calls.recv
_LAST: Final[int] = lib.LWIPY_LAST
_QUEUED: Final[int] = lib.LWIPY_QUEUED


class _Scratch(threading.local):
    """A thread's one receive buffer: what lands there is copied out before anything else runs."""

    def __init__(self) -> None:
        self.buffer = ffi.new("char[]", PIECE)


_scratch: Final = _Scratch()


class Reading(Writing):
    """What :class:`StreamTransport` is, as far as it reads."""

    __slots__ = (
        "_eof_received", "_paused", "_plenty", "_readable", "_reading_asked", "_share", "_started", "_taken",
        "_takes_buffers",
    )  # fmt: skip

    if TYPE_CHECKING:  # the transport's own
        _loop: asyncio.AbstractEventLoop
        _protocol: Any
        _taken: bool
        _takes_buffers: bool

        def close(self) -> None: ...
        def _tell(self, name: str, *arguments: object) -> object: ...

    def _begin_reading(self) -> None:
        self._started = self._eof_received = self._paused = self._reading_asked = False
        self._readable = self._plenty = False
        self._share = 0

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._ask_to_read()

    def _ask_to_read(self) -> None:
        """Reads in the loop's next turn, if there may be something and nobody asked yet."""
        if self._readable and not self._reading_asked and not self._closing:
            self._reading_asked = True
            self._loop.call_soon(self._read_as_asked)

    def _read_as_asked(self) -> None:
        self._reading_asked = False
        self._read()
        self._refresh()

    def _read(self) -> None:
        self._share = SHARE
        while self._share > 0:
            if not self._readable or self._paused or self._closing or self._eof_received or not self._started:
                return
            self._share -= 1
            if self._takes_buffers:
                self._read_into_protocol()
            else:
                self._read_piece()
                if self._taken:
                    break
        self._ask_to_read()

    def take(self, most: int) -> bytes:
        """What has come, at most `most` bytes and a piece, for a reader that has read all that it was fed.

        b"" where it has to wait: nothing has come, or it will be fed in a turn of the loop.
        """
        if not self._readable or not self._taken or self._paused or self._closing:
            return b""
        if self._share <= 0:
            self._ask_to_read()
            return b""
        self._share -= 1
        endpoint, data = self._endpoint, b""
        try:
            took = _recv_bytes(endpoint._stack._way, endpoint._handle, most if most < PIECE else PIECE, _QUEUED)
        except StackClosedError:
            return b""  # of which the protocol is told
        if type(took) is bytes:
            data = took
        elif took == WOULD_BLOCK:
            self._readable = False
        else:
            self._ask_to_read()
        endpoint._stack._after()
        self._refresh()
        return data

    def _receive(self, buffer: Any, size: int) -> int:
        """Bytes received, 0 at the end of the stream, -1 when nothing waits.

        With less than `size` nothing is left, and an event will come.
        """
        endpoint = self._endpoint
        return self._received(_recv(endpoint._stack._core, endpoint._handle, buffer, size, _LAST), size)

    def _received(self, received: int, size: int) -> int:
        endpoint = self._endpoint
        if received > 0:
            self._readable = received == size
            self._plenty = received >= PLENTY
        elif received == WOULD_BLOCK:
            self._readable = False
            return -1
        endpoint._stack._after()
        return received if received >= 0 else endpoint._check(received)

    def _read_piece(self) -> None:
        endpoint, scratch = self._endpoint, _scratch.buffer
        try:
            if self._plenty:
                data = _recv_bytes(endpoint._stack._way, endpoint._handle, PIECE, 0)
                size = len(data) if type(data) is bytes else data
                size = self._received(size, size)
            else:
                size = self._receive(scratch, PIECE)
                data = ffi.buffer(scratch, size)[:] if size > 0 else b""
        except OSError as error:
            self._fatal_error(error, "Fatal read error on stream transport")
            return
        if size == 0:
            self._end_of_stream()
        elif size > 0:
            self._tell("data_received", data)

    def _read_into_protocol(self) -> None:
        try:
            buffer = self._protocol.get_buffer(-1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            target = ffi.from_buffer(buffer, require_writable=True)
        except Exception as error:
            self._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
            return
        try:
            size = self._receive(target, len(target))
        except OSError as error:
            self._fatal_error(error, "Fatal read error on stream transport")
            return
        finally:
            ffi.release(target)
        if size == 0:
            self._end_of_stream()
        elif size > 0:
            self._tell("buffer_updated", size)

    def _end_of_stream(self) -> None:
        self._eof_received = True
        if not self._tell("eof_received") and not self._closing:
            self.close()
