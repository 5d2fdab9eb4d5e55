"""What a transport was given to write and its endpoint has not taken yet."""

from __future__ import annotations

from collections import deque
from typing import Final

#: Bytes up to which small blocks are sent as one.
_WHOLE: Final = 256 * 1024


class Unsent:
    """Blocks of bytes, in the order of writing, that nobody can change; `size` is the sum of their bytes.

    Few connections have any at a time, and an empty deque takes 760 bytes: a transport has it only while it needs it.
    """

    __slots__ = ("_blocks", "size")

    def __init__(self) -> None:
        self._blocks: deque[memoryview] = deque()
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def append(self, block: memoryview) -> None:
        self._blocks.append(block)
        self.size += len(block)

    def put_back(self, rest: memoryview) -> None:
        """What next() gave and the endpoint did not take."""
        self._blocks.appendleft(rest)
        self.size += len(rest)

    def next(self) -> memoryview:
        """Takes the first block, with the small ones behind it in one piece."""
        blocks = self._blocks
        parts = [blocks.popleft()]
        size = len(parts[0])
        while blocks and size + len(blocks[0]) <= _WHOLE:
            parts.append(blocks.popleft())
            size += len(parts[-1])
        self.size -= size
        return memoryview(b"".join(parts)) if len(parts) > 1 else parts[0]
