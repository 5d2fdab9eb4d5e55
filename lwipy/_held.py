"""What stacks send without a copy: kept alive until the peer has it.

Theory of operation. The bytes of a large send are not copied: the core refers to the sender's object until they are
acknowledged or the connection is gone (``csrc/held.c``). Only what can neither change nor move is sent so, which is
``bytes`` and views of it; each such object is kept here under a number, the core's token, until the core tells it. The
core is asked with every sixteenth of these sends, and when it reminds of it.

Invariants:

1. An object is kept as long as the core may read it: until its token was told, or the core is freed.
2. The tokens of a core are told to one taker after the other; each of them may be any thread.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from lwipy._native import ffi, lib

#: Bytes below which copying is cheaper than keeping count.
LEAST: Final = 16 * 1024
_BATCH: Final = 64

_send: Final = lib.lwipy_tcp_send_held


class Held:
    """The objects that one core refers to, by token. Sends of `least` bytes and more go this way."""

    __slots__ = ("_tokens", "least", "objects")

    def __init__(self, least: int) -> None:
        self.least = least
        self.objects: dict[int, bytes] = {}
        self._tokens = itertools.count(1)

    def send(self, core: Any, handle: int, source: Any, size: int, whole: bytes) -> int:
        """What ``lwipy_tcp_send_held`` says; `source` is `whole`, or an address in it."""
        token = next(self._tokens)
        self.objects[token] = whole
        sent: int = _send(core, handle, source, size, token)
        if sent <= 0:
            del self.objects[token]
        elif token & 15 == 0:
            self.release(core)
        return sent

    def release(self, core: Any) -> None:
        """Lets go what the core is through with."""
        tokens = ffi.new("uint64_t[]", _BATCH)
        count = _BATCH
        while count == _BATCH:
            count = lib.lwipy_released(core, tokens, _BATCH)
            for token in tokens[0 : max(count, 0)]:
                self.objects.pop(token, None)

    def end(self, core: Any, close: Any = lib.lwipy_close) -> None:
        """Frees the core; nothing is read any more then."""
        close(core)
        self.objects.clear()


def whole_of(data: object) -> bytes | None:
    """The object that a large send of `data` may refer to; None for what might change."""
    if type(data) is memoryview:
        data = data.obj
    return data if type(data) is bytes else None
