"""The arena: it grows through small and large pages, ends where `memory` says, and gives all back when it is closed."""

from __future__ import annotations

import contextlib
import errno
import sys
from pathlib import Path

import pytest

import lwipy
from lwipy import Option

SIZE = 30_000
MEGABYTE = 1 << 20


def pattern(number: int, size: int) -> bytes:
    """No byte of it is zero, as memory is that nobody has."""
    return f"{number:06}".encode() * (size // 6)


class Hoard:
    """Datagrams to itself that a stack keeps: each is known by its bytes."""

    def __init__(self, stack: lwipy.Stack, size: int = SIZE) -> None:
        self.stack = stack
        self.size = size
        self.sinks: list[lwipy.UdpEndpoint] = []
        self.sent = 0

    def _send(self, source: lwipy.UdpEndpoint) -> bool:
        dropped = self.stack.statistics.udp_queue_full
        source.send(pattern(self.sent, self.size))
        self.stack.poll()
        if self.stack.statistics.udp_queue_full != dropped:
            return False
        self.sent += 1
        return True

    def fill(self, size: int) -> None:
        """Until `size` bytes are used, or OSError says that there are no more."""
        while self.stack.statistics.memory_used < size:
            sink, source = self.stack.udp(), self.stack.udp()
            sink.set_option(Option.RCVBUF, 4 * MEGABYTE)
            sink.bind(("127.0.0.1", 0))
            source.connect(("127.0.0.1", sink.address[1]))
            self.sinks.append(sink)
            while self.stack.statistics.memory_used < size and self._send(source):
                pass
            source.close()

    def read(self) -> int:
        """All of them; how many came as they were sent, in their order."""
        good = 0
        for sink in self.sinks:
            with contextlib.suppress(BlockingIOError):
                while True:
                    good += sink.receive()[0] == pattern(good, self.size)
        return good


def address_space() -> int:
    """Bytes of this process's; what lies in memory is another matter, and under sanitizers not ours alone."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["VmSize"].split()[0]) << 10


@pytest.mark.parametrize("megabytes", [2, 9, 24])
def test_what_lies_in_pages_of_every_kind_stays_as_it_is(megabytes: int) -> None:
    with lwipy.Stack(memory=64 * MEGABYTE) as stack:
        hoard = Hoard(stack)
        hoard.fill(megabytes * MEGABYTE)
        assert hoard.sent > megabytes * MEGABYTE // (2 * SIZE)
        assert hoard.read() == hoard.sent
        assert stack.statistics.memory_used < MEGABYTE


@pytest.mark.parametrize("memory", [MEGABYTE, MEGABYTE + (192 << 10), 3 * MEGABYTE + 4096, 7 * MEGABYTE])
def test_memory_ends_at_its_limit_whatever_pages_it_lies_in(memory: int) -> None:
    with lwipy.Stack(memory=memory) as stack:
        hoard = Hoard(stack)
        with pytest.raises(OSError, match=f"Errno ({errno.ENOBUFS}|{errno.ENOMEM})"):
            hoard.fill(memory + 1)
        assert stack.statistics.memory_used <= memory
        assert stack.statistics.memory_used > memory - memory // 8 - 4 * SIZE
        assert hoard.read() == hoard.sent
        hoard.fill(memory // 2)


@pytest.mark.parametrize("memory", range(4 * MEGABYTE + 4096, 6 * MEGABYTE, 77_824))
def test_what_lies_across_two_kinds_of_pages_stays_as_it_is(memory: int) -> None:
    """Where they meet depends on where the system puts so much memory."""
    with lwipy.Stack(memory=memory) as stack:
        hoard = Hoard(stack, 50_000)
        with pytest.raises(OSError, match=f"Errno ({errno.ENOBUFS}|{errno.ENOMEM})"):
            hoard.fill(memory + 1)
        assert hoard.read() == hoard.sent


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says in /proc what a process takes")
def test_memory_goes_back_when_the_stack_is_closed() -> None:
    before = address_space()
    with lwipy.Stack(memory=1024 * MEGABYTE) as stack:
        Hoard(stack).fill(32 * MEGABYTE)
        assert address_space() - before > 512 * MEGABYTE  # not 1024: others of this process may let go of some
    assert address_space() - before < 512 * MEGABYTE
