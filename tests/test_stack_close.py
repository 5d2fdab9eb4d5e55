"""The end of a stack: what closed sockets still had to send, and who waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from conftest import Pair, started

import lwipy
from lwipy.aio import driving
from lwipy.blocking import Socket

AMOUNT = 200_000


def read_all(server: Socket) -> int:
    connection, _ = server.accept()
    with connection:
        total = 0
        while part := connection.recv(65536):
            total += len(part)
        return total


@contextmanager
def receiving(pool: ThreadPoolExecutor) -> Iterator[tuple[Pair, Socket]]:
    """A stack `b` that a thread drives and a listener on it, and a stack `a` by hand; the wire takes its time."""
    with lwipy.Stack() as b, closing(lwipy.Stack()) as a:
        pair = Pair.of(a, b)
        pair.nic_a.impair(delay=0.05)
        with b.create_server(("10.0.0.2", 80)) as server:
            yield pair, server


def test_the_end_of_a_with_block_lets_closed_sockets_finish(pool: ThreadPoolExecutor) -> None:
    with receiving(pool) as (pair, server):
        total = started(pool, lambda: read_all(server))
        with pair.a:
            with pair.a.create_connection(("10.0.0.2", 80)) as client:
                client.sendall(bytes(AMOUNT))
        assert total.result(60) == AMOUNT


def test_close_waits_when_told_so_by_hand(pool: ThreadPoolExecutor) -> None:
    with receiving(pool) as (pair, server):
        total = started(pool, lambda: read_all(server))
        with pair.a.create_connection(("10.0.0.2", 80)) as client:
            client.sendall(bytes(AMOUNT))
        pair.a.close(linger=60)
        assert total.result(60) == AMOUNT


def test_nobody_waits_for_a_peer_that_cannot_be_reached() -> None:
    began = time.monotonic()
    with closing(lwipy.Stack()) as a:
        with lwipy.Stack() as b:
            pair = Pair.of(a, b)
            with b.create_server(("10.0.0.2", 80)), a.create_connection(("10.0.0.2", 80)) as client:
                client.sendall(bytes(1000))
                pair.nic_b.link_up = False
        a.close(linger=600)
    assert time.monotonic() - began < 300


def test_an_asyncio_program_gives_the_stack_back_and_may_wait_then(pool: ThreadPoolExecutor) -> None:
    import asyncio

    from lwipy.aio import open_connection

    async def main(stack: lwipy.Stack) -> None:
        async with driving(stack):
            _, writer = await open_connection(stack, "10.0.0.2", 80)
            writer.write(bytes(AMOUNT))
            writer.close()
            await writer.wait_closed()

    with receiving(pool) as (pair, server):
        total = started(pool, lambda: read_all(server))
        asyncio.run(main(pair.a))
        pair.a.close(linger=60)
        assert total.result(60) == AMOUNT
