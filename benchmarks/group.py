"""A StackGroup of two stacks beside one of one and a plain Stack: TCP segments that they take, 64 flows.

The peers are a loop in C in one thread (:mod:`benchmarks.segments`).

The thread of the peers is the one that drives the plain Stack, or a group's front, in place of the thread that would
read a link. So a Stack uses one processor, and a group of one two already; on two processors, two stacks share them
with the front: of what that takes for a frame, g, and a stack, s, the ratio of the groups is at most 2 s / (s + g).
Therefore further cases have the same by work: segments in a second of the processor that the busiest thread used, which
is the rate where every thread has one to itself. What the front writes, another processor's cache has to fetch: a
group pays where the work for a frame, sums and TCP and what the application does, is more than that.

With a link for each stack there is no front: :mod:`benchmarks.queues`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import lwipy
from benchmarks.clock import on_one_processor
from benchmarks.figures import Case, Sample
from benchmarks.segments import FLOWS, MAC, PEER, Flow, Sender, establish

SEGMENTS: Final = 400_000


class Threads:
    """Seconds of processors that threads have used: the stacks' own, and this one, which feeds them."""

    def __init__(self, stacks: Sequence[lwipy.Stack]) -> None:
        idents = [stack._driver._thread.ident for stack in stacks]  # type: ignore[attr-defined]
        self._clocks = [time.pthread_getcpuclockid(ident) for ident in (*idents, threading.get_ident())]
        self._before = self._used()

    def _used(self) -> list[float]:
        return [time.clock_gettime(clock) for clock in self._clocks]

    def busiest(self) -> float:
        return max(now - before for before, now in zip(self._before, self._used(), strict=True))


def measured(count: int, size: int) -> tuple[float, float]:
    """Millions of segments in a second, and in a second of the busiest thread's processor. `count` 0 is a Stack."""
    with lwipy.StackGroup(count) if count else lwipy.Stack() as stack, ExitStack() as open_ones:
        nic = stack.add_interface(mac=MAC, ipv4="10.0.0.1/24")
        nic.add_neighbour("10.0.0.2", PEER)
        listener = open_ones.enter_context(stack.create_server(("10.0.0.1", 80), backlog=FLOWS))
        flows = [Flow(20_000 + number) for number in range(FLOWS)]
        for flow in flows:
            establish(nic, flow)
            server = open_ones.enter_context(listener.accept()[0])
            server.shutdown(socket.SHUT_RD)
        fed, others = (stack._front, stack.stacks) if isinstance(stack, lwipy.StackGroup) else (stack, ())
        driver: Any = fed._driver
        driver.stop()  # this thread takes its place
        with on_one_processor():
            sender = Sender(nic, flows, size)
            threads = Threads(others)
            seconds = sender.rounds(SEGMENTS // FLOWS)
            work = threads.busiest()
        if isinstance(nic, lwipy.GroupInterface) and nic.steering.full:
            raise RuntimeError(f"{nic.steering.full} frames found a queue full")
        segments = SEGMENTS // FLOWS * FLOWS
        return segments / seconds / 1e6, segments / work / 1e6


NAMES: Final = {0: "lwipy, a Stack", 1: "lwipy, a group of 1", 2: "lwipy, a group of 2"}


def by_clock(size: int) -> Iterator[Sample]:
    for count, name in NAMES.items():
        yield Sample(name, measured(count, size)[0])


def by_work(size: int) -> Iterator[Sample]:
    for count, name in NAMES.items():
        yield Sample(name, measured(count, size)[1])


CASES = [
    Case(name, f"TCP segments of {size} bytes into a StackGroup{text}", unit, partial(run, size), reference=NAMES[1])
    for name, size, run, text, unit in (
        ("group", 200, by_clock, "", "million/s"),
        ("group_large", 1400, by_clock, "", "million/s"),
        ("group_work", 200, by_work, ", by the busiest thread's processor", "million/s"),
        ("group_large_work", 1400, by_work, ", by the busiest thread's processor", "million/s"),
    )
]
