"""asyncio's StreamReader, without copying what is read as it came.

Theory of operation. asyncio's reader appends what comes to its buffer, cuts from that what is read, and copies the cut:
three copies of every byte. So what comes while nothing waits to be read is kept as the object that it is, and read()
cuts from that, which is no copy where all of it is asked for. Every other method finds it in the buffer: it is moved
there as soon as one asks for the buffer. Where nothing is left to be read, read() takes what has come from the
transport before it waits.

Invariants:

1. While something is kept, the buffer is empty.
2. Reading pauses and goes on at the same fill as asyncio's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lwipy.aio.reading import PIECE, PLENTY
from lwipy.aio.transport import StreamTransport

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex


class StreamReader(asyncio.StreamReader):
    """An :class:`asyncio.StreamReader` in all but its speed."""

    _kept: bytes
    _taken: int  # bytes of `_kept` that were read
    _source: StreamTransport | None = None

    if TYPE_CHECKING:  # the base's own
        _exception: BaseException | None
        _limit: int
        _eof: bool
        _paused: bool
        _transport: Any
        _waiter: Any
        _wait_for_data: Any
        _wakeup_waiter: Any

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        super().set_transport(transport)
        if isinstance(transport, StreamTransport):
            self._source = transport
            transport._taken = True

    @property
    def _buffer(self) -> bytearray:
        if self._kept:
            self._rest += self._kept[self._taken :]
            self._kept, self._taken = b"", 0
        return self._rest

    @_buffer.setter
    def _buffer(self, buffer: bytearray) -> None:
        self._rest = buffer
        self._kept, self._taken = b"", 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        if self._kept or self._rest or self._eof or not isinstance(data, bytes):
            super().feed_data(data)
        elif data:
            self._kept = data
            self._wakeup_waiter()
            if len(data) > 2 * self._limit and self._transport is not None and not self._paused:
                self._transport.pause_reading()
                self._paused = True

    async def read(self, n: int = -1) -> bytes:
        if n > 0 and self._exception is None:
            if not self._kept and not self._rest and not self._eof:
                if self._source is not None and self._waiter is None:
                    data = self._source.take(n if n >= PLENTY else PIECE)
                    if data and len(data) <= n:
                        return data
                    self.feed_data(data)
                if not self._kept:
                    await self._wait_for_data("read")
            kept = self._kept
            if kept and not self._paused and not self._taken and len(kept) <= n:
                self._kept = b""
                return kept
            if kept:
                return self._cut(n)
        return await super().read(n)

    def _cut(self, n: int) -> bytes:
        kept, start = self._kept, self._taken
        end = min(start + n, len(kept))
        if end < len(kept):
            self._taken = end
        else:
            self._kept, self._taken = b"", 0
        if self._paused and len(kept) - end <= self._limit:
            self._paused = False
            self._transport.resume_reading()
        return kept[start:end]
