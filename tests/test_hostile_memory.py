"""A stack without memory, while everything happens to it: it refuses, counts, and goes on when there is some again.

The memory is taken by datagrams that a socket does not read. Each round some are read and others come, so that every
allocation of the core fails at some time or other.
"""

from __future__ import annotations

import random

import pytest
from attacker import ATTACKER, ATTACKER_MAC, TARGET_MAC, VirtualTime
from test_hostile_random import Busy, good_frames, mutated
from test_hostile_tcp_random import Application, Conversation, quiet

import lwipy
from lwipy import Option

LEAST = 1 << 20


class Hoard:
    """Datagrams to itself that fill a stack's memory to the last block."""

    def __init__(self, stack: lwipy.Stack, draw: random.Random) -> None:
        self.stack, self.draw = stack, draw
        self.sink, self.source = stack.udp(), stack.udp()
        self.sink.set_option(Option.RCVBUF, 4 << 20)
        self.sink.bind(("127.0.0.1", 65000))
        self.source.connect(("127.0.0.1", 65000))

    def fill(self) -> None:
        for size in (60_000, 8000, 1400, 300, 60, 8, 0):
            dropped = self.stack.statistics.udp_queue_full
            try:
                while self.stack.statistics.udp_queue_full == dropped:
                    self.source.send(bytes(size))
                    self.stack.poll()
            except OSError as error:
                if isinstance(error, lwipy.StackError):
                    raise

    def give(self, count: int) -> None:
        """Reads some of them."""
        for _ in range(count):
            try:
                self.sink.receive()
            except BlockingIOError:
                return

    def shift(self) -> None:
        if self.draw.random() < 0.5:
            self.give(self.draw.choice([1, 1, 2, 5, 30]))
        else:
            self.fill()

    def end(self) -> None:
        self.sink.close()
        self.source.close()


@pytest.mark.parametrize("seed", range(12))
def test_connections_without_memory(seed: int) -> None:
    draw = random.Random(seed)
    family = draw.choice([4, 6])
    with VirtualTime() as time:
        stack = time.stack(seed=seed + 1, memory=LEAST)
        nic = stack.add_interface(mac=TARGET_MAC, ipv4="10.0.0.1/24", ipv6="fd00::1/64", checksums=False)
        nic.add_neighbour(ATTACKER[family], ATTACKER_MAC)
        talks = [Conversation(family, 80, port, draw) for port in range(40000, 40006)]
        application, before = Application(stack, draw), quiet(time, stack)
        application.listen(family)
        hoard = Hoard(stack, draw)
        hoard.fill()
        for _ in range(1500):
            talk = draw.choice(talks)
            nic.receive(talk.attack())
            application.step()
            if draw.random() < 0.2:
                hoard.shift()
            if draw.random() < 0.1:
                time.run(limit=draw.choice([0.03, 0.3, 3.0]))
            for frame in nic.frames():
                offset = 34 if family == 4 else 54
                if len(frame) >= offset + 20 and frame[23 if family == 4 else 20] == 6:
                    talk.heard(frame[offset:])
        application.finish()
        hoard.end()
        assert nic.counters.rx_nomem > 0
        assert quiet(time, stack) - before <= 6000  # the table of handles may have grown
        assert stack.statistics.endpoints == 0


@pytest.mark.parametrize("seed", range(12))
def test_everything_else_without_memory(seed: int) -> None:
    draw = random.Random(seed)
    corpus = good_frames()
    with VirtualTime() as time:
        busy = Busy(time, seed, memory=LEAST)
        busy.start()
        hoard = Hoard(busy.stack, draw)
        for _ in range(100):
            frames = [draw.choice(corpus) for _ in range(20)]
            busy.nic.receive_many(frame if draw.random() < 0.5 else mutated(frame, draw) for frame in frames)
            hoard.shift()
            try:
                busy.work(draw)
            except OSError as error:
                if isinstance(error, lwipy.StackError):
                    raise
            time.run(limit=draw.choice([0.001, 0.1, 1.0, 5.0]))
            busy.nic.frames()
        hoard.end()
        time.run(limit=200)
        busy.assert_alive()


def test_a_stack_opens_only_with_memory_for_itself() -> None:
    for memory in (LEAST, LEAST + 1, LEAST * 3 // 2):
        lwipy.Stack(memory=memory).close()
