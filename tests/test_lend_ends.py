"""What crossed a wire by reference, when stacks and connections end in any order: it can be read, and is let go."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from wired import Lent

from lwipy import TcpEndpoint

SIZE = 60_000


def close_sender(lent: Lent) -> None:
    lent.stacks[0].close()


def forget_sender(lent: Lent) -> None:
    """By the collector."""
    lent.stacks.pop(0)
    lent.nics.pop(0)
    del lent.client
    gc.collect()


def remove_senders_interface(lent: Lent) -> None:
    lent.nics[0].remove()


def remove_receivers_interface(lent: Lent) -> None:
    lent.nics[1].remove()


def abort_sender(lent: Lent) -> None:
    lent.client.abort()
    lent.poll()


def close_connection(lent: Lent) -> None:
    lent.client.close()
    lent.poll()


@pytest.mark.parametrize("mtu", [1500, 65_000])
@pytest.mark.parametrize(
    "end",
    [close_sender, forget_sender, remove_senders_interface, remove_receivers_interface, abort_sender, close_connection],
)
def test_what_was_received_can_be_read_whatever_ends(mtu: int, end: Callable[[Lent], None]) -> None:
    lent = Lent(mtu)
    seed, held = lent.rng.getrandbits(32), lent.stacks[0]._held
    lent.post(random.Random(seed).randbytes(SIZE))  # only the note has it now
    end(lent)
    gc.collect()
    assert len(held) == 1
    arrived = lent.read(SIZE)
    assert arrived == random.Random(seed).randbytes(SIZE)
    lent.collect()
    assert len(held) == 0
    lent.close()


def close_receiver(lent: Lent) -> None:
    lent.stacks[1].close()


def forget_receiver(lent: Lent) -> None:
    lent.stacks.pop(1)
    lent.nics.pop(1)
    del lent.server
    gc.collect()


def close_server(lent: Lent) -> None:
    lent.server.close()


def abort_server(lent: Lent) -> None:
    lent.server.abort()


def shut_server(lent: Lent) -> None:
    lent.server.shutdown(read=True)


def close_both(lent: Lent) -> None:
    lent.stacks[0].close()
    lent.stacks[1].close()


def close_both_the_other_first(lent: Lent) -> None:
    lent.stacks[1].close()
    lent.stacks[0].close()


UNREAD = [
    close_receiver, forget_receiver, close_server, abort_server, shut_server, close_both, close_both_the_other_first,
]  # fmt: skip


@pytest.mark.parametrize("mtu", [1500, 65_000])
@pytest.mark.parametrize("polled", [True, False])
@pytest.mark.parametrize("end", UNREAD)
def test_what_nobody_will_read_is_let_go(mtu: int, polled: bool, end: Callable[[Lent], None]) -> None:
    """`polled`: it waits for the reader; else it is on the wire."""
    lent = Lent(mtu)
    data, held = lent.rng.randbytes(SIZE), lent.stacks[0]._held
    before = sys.getrefcount(data)
    if polled:
        lent.post(data)
    else:
        lent.client.send_if_room(data)
    client = lent.client
    end(lent)
    lent.poll()
    client.abort()  # it would send again what nobody has acknowledged
    lent.poll()
    lent.collect()
    assert len(held) == 0
    assert sys.getrefcount(data) == before
    lent.close()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("mtu", [1500, 65_000])
def test_a_wire_that_is_cut_lets_go_what_is_on_it(mtu: int, side: int) -> None:
    lent = Lent(mtu)
    data, held = lent.rng.randbytes(SIZE), lent.stacks[0]._held
    before = sys.getrefcount(data)
    lent.client.send_if_room(data)
    lent.nics[side].remove()
    lent.client.abort()
    lent.poll()
    arrived = bytearray()
    with suppress(OSError):  # behind what was on its way, if that was something
        while got := lent.server.recv_into_if_any(buffer := bytearray(SIZE)):
            arrived += buffer[:got]
    assert data.startswith(arrived)
    lent.collect()
    assert len(held) == 0
    assert sys.getrefcount(data) == before
    lent.close()


def drive(endpoint: TcpEndpoint, work: Callable[[], bool]) -> None:
    """Polls its stack by hand, from this thread, until `work` says that it is done."""
    while not work():
        endpoint.stack.poll()


@pytest.mark.parametrize("mtu", [1500, 65_000])
def test_two_threads_let_go_what_the_other_made(mtu: int) -> None:
    lent = Lent(mtu)
    total, seeds = 3_000_000, random.Random(mtu)
    sizes = [seeds.choice((100, 5000, 20_000, 65_536, 300_000)) for _ in range(400)]
    sizes = sizes[: next((i for i in range(len(sizes)) if sum(sizes[:i]) > total), len(sizes))]
    pieces = (random.Random(i).randbytes(size) for i, size in enumerate(sizes))
    part, sent, arrived, buffer = b"", 0, bytearray(), bytearray(1 << 18)

    def send() -> bool:
        nonlocal part, sent
        while part or (part := next(pieces, b"")):
            if not (taken := lent.client.send_if_room(part)):
                return False
            part = part[taken:]
            sent += taken
        return not lent.client.info.unacked and not lent.client.info.unsent

    def receive() -> bool:
        while got := lent.server.recv_into_if_any(buffer):
            arrived.extend(buffer[:got])
        return len(arrived) == sum(sizes)

    thread = threading.Thread(target=drive, args=(lent.client, send))
    thread.start()
    drive(lent.server, receive)
    while thread.is_alive():
        lent.stacks[1].poll()
    thread.join()
    assert arrived == b"".join(random.Random(i).randbytes(size) for i, size in enumerate(sizes))
    lent.poll()
    assert lent.kept == 0
    lent.close()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("mtu", [1500, 65_000])
def test_a_stack_is_closed_while_the_other_works(mtu: int, first: int) -> None:
    """In the midst of a transfer, by the thread that drives it; the other goes on with what it has."""
    for turns in (5, 17, 40):
        lent = Lent(mtu)
        held = lent.stacks[0]._held
        work = [lambda lent=lent: lent.client.send_if_room(bytes(40_000))]
        work += [lambda lent=lent: lent.server.recv_into_if_any(bytearray(30_000))]

        def ending(lent: Lent = lent, turns: int = turns, work: Callable[[], object] = work[first]) -> None:
            for _ in range(turns):
                work()
                lent.stacks[first].poll()
            lent.stacks[first].close()

        thread = threading.Thread(target=ending)
        thread.start()
        while thread.is_alive():
            work[1 - first]()
            lent.stacks[1 - first].poll()
        thread.join()
        lent.close()
        assert len(held) == 0
