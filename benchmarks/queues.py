"""A StackGroup of two stacks, each with a link of its own, beside one of one: TCP segments that they take, 64 flows.

What :mod:`benchmarks.group` sends and counts, but each stack's thread makes and reads the frames of its own queue, as
it would read a link: there is no thread more, for one stack as for two. Each has as many flows as the other, and their
frames come to the queue of the stack that has the flow, where a device that learns flows brings them. All threads begin
at once, each on a processor of its own; the slowest one's time counts.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

import lwipy
from benchmarks.figures import Case, MissingError, Sample
from benchmarks.group import FLOWS, MAC, OURS, PEER, THEIRS, Flow, Sender, establish
from lwipy._native import ffi, lib

SEGMENTS: Final = 800_000


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


def _with_interface(stack: lwipy.Stack, count: int) -> tuple[lwipy.Interface, ...]:
    """The interfaces that frames are given to."""
    link: Any = [None] * count if isinstance(stack, lwipy.StackGroup) else None
    nic = stack.add_interface(link, mac=MAC, ipv4="10.0.0.1/24")
    nic.add_neighbour("10.0.0.2", PEER)
    return nic.queues if isinstance(nic, lwipy.GroupInterface) else (nic,)


def measured(count: int, *, grouped: bool, size: int) -> float:
    """Millions of segments in a second that `count` stacks take."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < count:
        raise MissingError(f"{count} processors")
    together = threading.Barrier(count)

    def feed(number: int, nic: lwipy.Interface, flows: list[Flow]) -> float:
        os.sched_setaffinity(0, {processors[number]})  # this thread
        sender = Sender()
        together.wait()
        return sender(nic.stack, nic, flows, size, SEGMENTS // FLOWS)

    with closing(lwipy.StackGroup(count) if grouped else lwipy.Stack()) as stack, ExitStack() as open_ones:
        stack.__enter__()  # not left, but closed at once: nothing drives it then
        queues = _with_interface(stack, count)
        listener = open_ones.enter_context(stack.create_server(("10.0.0.1", 80), backlog=FLOWS))
        flows = _shared_out(stack, count)
        for nic, some in zip(queues, flows, strict=True):
            for flow in some:
                establish(nic, flow)
                server = open_ones.enter_context(listener.accept()[0])
                server.shutdown(socket.SHUT_RD)
        for nic in queues:
            nic.stack._driver.stop()  # another thread takes its place
        with ThreadPoolExecutor(count) as pool:
            seconds = max(pool.map(feed, range(count), queues, flows))
        return SEGMENTS // FLOWS * FLOWS / seconds / 1e6


SIDES: Final = {"lwipy, a Stack": (1, False), "lwipy, a group of 1": (1, True), "lwipy, a group of 2": (2, True)}


def run(size: int) -> Iterator[Sample]:
    for name, (count, grouped) in SIDES.items():
        yield Sample(name, measured(count, grouped=grouped, size=size))


CASES = [
    Case(name, f"TCP segments of {size} bytes into the queues of a StackGroup", "million/s", partial(run, size),
         reference="lwipy, a group of 1")
    for name, size in (("queues", 200), ("queues_large", 1400))
]  # fmt: skip
