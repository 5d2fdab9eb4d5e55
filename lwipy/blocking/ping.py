"""Echo requests, as ``ping`` sends them (RFC 792, RFC 4443 section 4)."""

from __future__ import annotations

import itertools
import os
import struct
import time
from typing import TYPE_CHECKING, Final

from lwipy.blocking.names import resolve
from lwipy.blocking.waiting import Waiters

if TYPE_CHECKING:
    from lwipy.endpoints import RawEndpoint
    from lwipy.stack import Stack

_ICMP, _ICMP6 = 1, 58
_HEADER: Final = struct.Struct("!BBHHH")
_numbers = itertools.count(1)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(stack: Stack, host: str, *, size: int = 56, timeout: float = 1.0) -> float:
    """Seconds until the echo of `size` bytes came back unchanged. TimeoutError when it did not within `timeout`."""
    if not 0 <= size <= 65507:
        raise ValueError(f"size {size} is out of range: expected 0 to 65507 bytes")
    address = resolve(stack, host, timeout=timeout)[0]
    version6 = ":" in address
    endpoint = stack.raw(_ICMP6 if version6 else _ICMP, 6 if version6 else 4)
    try:
        return _exchange(stack, endpoint, address, size, timeout)
    finally:
        endpoint.close()


def _exchange(stack: Stack, endpoint: RawEndpoint, address: str, size: int, timeout: float) -> float:
    request, reply = (128, 129) if endpoint.family == 6 else (8, 0)
    identifier, number = os.getpid() & 0xFFFF, next(_numbers) & 0xFFFF
    payload = os.urandom(size)
    # The core fills in ICMPv6's sum, which covers addresses that are not known here.
    bare = _HEADER.pack(request, 0, 0, identifier, number) + payload
    checksum = 0 if endpoint.family == 6 else _checksum(bare)
    packet = _HEADER.pack(request, 0, checksum, identifier, number) + payload
    expected = _HEADER.pack(reply, 0, 0, identifier, number)[4:] + payload

    def answered() -> None:
        while True:
            data = endpoint.receive().data
            message = data[(data[0] & 15) * 4 :] if endpoint.family == 4 else data
            if message[:1] == bytes([reply]) and message[4:] == expected:
                return

    waiters = Waiters(stack)
    endpoint.on_event = waiters.notify
    started = time.perf_counter()
    endpoint.send(packet, (address, 0))
    waiters.until(answered, timeout)
    return max(0.0, time.perf_counter() - started)
