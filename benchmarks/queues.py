"""A StackGroup of two stacks, each with a link of its own, beside one of one: TCP segments that they take, 64 flows.

What :mod:`benchmarks.group` sends and counts, but each stack's thread makes and reads the frames of its own queue, as
it would read a link: there is no thread more, for one stack as for two. Each has as many flows as the other, and their
frames come to the queue of the stack that has the flow, where a device that learns flows brings them; or a half of them
to the other's, as a device does that shares them out by itself.

A virtual machine's processors are often one half each of a real one, whose other half other machines use: a loop that
touches no memory then takes up to 1.8 times as long in one tenth of a second as in the next, at each processor at other
times, and no tick of steal time tells of it. At times both are halves of the same one. So all sides are there at once
and work in turns of 4 ms, one stack on either processor in turns; how many segments all threads took in the same time
counts, and a round's figure is the median of its slices. What the processors can give is beside it: two stacks that
have nothing in common.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

import lwipy
from benchmarks.figures import Case, MissingError, Sample
from benchmarks.segments import AHEAD, FLOWS, MAC, OURS, PEER, THEIRS, Account, Flow, Sender, Slice, establish
from lwipy._native import ffi, lib

SLICE: Final = 0.004  # seconds
CYCLES: Final = 50
THREADS: Final = 2

#: Whom each of the threads feeds in a slice.
Turn = Sequence[Sender | None]


def _shared_out(stack: lwipy.Stack, count: int) -> list[list[Flow]]:
    """So many flows for each of `count` stacks, which the group's hash gives to it."""
    if not isinstance(stack, lwipy.StackGroup):
        return [[Flow(20_000 + number) for number in range(FLOWS)]]
    local, remote = (ffi.new("lwipy_address *", {"family": 4, "bytes": list(ip)}) for ip in (OURS, THEIRS))
    local.port = 80
    flows: list[list[Flow]] = [[] for _ in range(count)]
    port = 20_000
    while any(len(some) < FLOWS // count for some in flows):
        remote.port = port
        some = flows[lib.lwipy_steer_pick(stack.key, count, local, remote, 0)]
        if len(some) < FLOWS // count:
            some.append(Flow(port))
        port += 1
    return flows


def _fed(open_ones: ExitStack, stack: lwipy.Stack, size: int, *, mixed: bool = False) -> list[Sender]:
    """Senders to the stack, or to each queue of a group, in place of what drives it.

    What they send to a queue are its own stack's flows; or, `mixed`, a half of either stack's.
    """
    open_ones.enter_context(closing(stack)).__enter__()  # not left, but closed at once: nothing drives it then
    count = len(stack.stacks) if isinstance(stack, lwipy.StackGroup) else 1
    link: Any = [None] * count if isinstance(stack, lwipy.StackGroup) else None
    nic = stack.add_interface(link, mac=MAC, ipv4="10.0.0.1/24")
    nic.add_neighbour("10.0.0.2", PEER)
    queues = nic.queues if isinstance(nic, lwipy.GroupInterface) else (nic,)
    listener = open_ones.enter_context(stack.create_server(("10.0.0.1", 80), backlog=FLOWS))
    shares = _shared_out(stack, count)
    for queue, flows in zip(queues, shares, strict=True):
        for flow in flows:
            establish(queue, flow)
            server = open_ones.enter_context(listener.accept()[0])
            server.shutdown(socket.SHUT_RD)
    for queue in queues:
        queue.stack._driver.stop()
    account = None
    if mixed:
        every = [flow for flows in shares for flow in flows]
        account = Account(every, count * AHEAD)
        shares = [every[number::count] for number in range(count)]
    return [Sender(queue, flows, size, account) for queue, flows in zip(queues, shares, strict=True)]


class Side:
    """What is measured: the turns it gets in each cycle, and the slices that it got."""

    def __init__(self, name: str, turns: Sequence[Turn]) -> None:
        self.name = name
        self._turns: list[tuple[Turn, list[Slice]]] = [(turn, []) for turn in turns]

    def begin(self) -> Iterator[tuple[Turn, Slice]]:
        """The slices of a cycle."""
        for turn, slices in self._turns:
            slices.append(Slice(THREADS - list(turn[1:]).count(None)))
            yield turn, slices[-1]

    @property
    def rate(self) -> float:
        """Millions of segments in a second: of each turn the median of its slices, the first of which is a warm-up."""
        rates = [statistics.median(one.rate for one in slices[1:]) for _, slices in self._turns]
        if 0 in rates:
            raise RuntimeError("segments were not acknowledged")
        return statistics.mean(rates) / 1e6


def _alone(name: str, first: Sequence[Sender], second: Sequence[Sender]) -> Side:
    """Two of them, each on a processor of its own, one at a time."""
    return Side(name, [(*first, None), (None, *second)])


def _work(number: int, processor: int, slices: Sequence[tuple[Turn, Slice]], gate: threading.Barrier) -> None:
    """One thread's part of all slices. The first one keeps the clock."""
    os.sched_setaffinity(0, {processor})  # this thread
    try:
        for turn, piece in slices:
            gate.wait()
            if number == 0 or turn[number] is not None:
                piece.join(turn[number], SLICE if number == 0 else 0.0)
    except BaseException:
        gate.abort()
        raise


def run(size: int) -> Iterator[Sample]:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < THREADS:
        raise MissingError(f"{THREADS} processors")
    with ExitStack() as open_ones:
        feed = partial(_fed, open_ones, size=size)
        sides = [
            _alone("lwipy, a Stack", feed(lwipy.Stack()), feed(lwipy.Stack())),
            _alone("lwipy, a group of 1", feed(lwipy.StackGroup(1)), feed(lwipy.StackGroup(1))),
            Side("lwipy, a group of 2", [feed(lwipy.StackGroup(2))]),
            Side("lwipy, a group of 2, frames at any queue", [feed(lwipy.StackGroup(2), mixed=True)]),
            Side("lwipy, two Stacks apart", [feed(lwipy.Stack()) + feed(lwipy.Stack())]),
        ]
        slices = [one for _ in range(CYCLES + 1) for side in sides for one in side.begin()]
        gate = threading.Barrier(THREADS)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda number: _work(number, processors[number], slices, gate), range(THREADS)))
    for side in sides:
        yield Sample(side.name, side.rate)


CASES = [
    Case(name, f"TCP segments of {size} bytes into the queues of a StackGroup", "million/s", partial(run, size),
         reference="lwipy, a group of 1")
    for name, size in (("queues", 200), ("queues_large", 1400))
]  # fmt: skip
