"""Stacks on uvloop: the same transports, driver and TLS on a loop that is not asyncio's."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from typing import Any

import pytest
import uvloop
from aio_world import Recorder, nothing_left, reset, soon, two_hosts
from aio_world import run as run_on
from test_aio_tls import client_context, echo, ended, server_context

import lwipy
from lwipy.aio import (
    create_connection,
    create_datagram_endpoint,
    create_server,
    driving,
    open_connection,
    start_server,
    start_tls,
)  # fmt: skip

TEXT = random.Random(7).randbytes(3 << 20)


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_on(main, uvloop.new_event_loop)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"])
def test_megabytes_there_and_back(host: str, secure: bool) -> None:
    async def main() -> None:
        ours, theirs = (client_context(), server_context()) if secure else (None, None)
        async with two_hosts() as pair, await start_server(pair.b, echo, host, 80, ssl=theirs):
            reader, writer = await open_connection(pair.a, host, 80, ssl=ours)
            writer.write(TEXT)
            got = await reader.readexactly(len(TEXT))
            assert hashlib.sha256(got).digest() == hashlib.sha256(TEXT).digest()
            await ended(writer)

    run(main)


def test_an_upgrade_to_tls() -> None:
    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        async with two_hosts() as pair, await create_server(pair.b, factory, "10.0.0.2", 80):
            plain, client = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
            await soon(lambda: made and made[0].transport)
            server = made[0]
            secured, accepted = await asyncio.gather(
                start_tls(plain, client, client_context(), server_hostname="10.0.0.2"),
                start_tls(server.transport, server, server_context(), server_side=True),
            )
            secured.write(b"question")
            await soon(lambda: server.data == b"question")
            accepted.write(b"answer")
            await soon(lambda: client.data == b"answer")
            secured.close()
            accepted.close()

    run(main)


def test_resets_refusals_and_half_closes() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read() == b"reset":
            reset(writer.transport)
        else:
            writer.write(b"behind your end")
            await ended(writer)

    async def ask(stack: lwipy.Stack, what: bytes) -> bytes:
        reader, writer = await open_connection(stack, "10.0.0.2", 80)
        try:
            writer.write(what)
            writer.write_eof()
            return await reader.read()
        finally:
            await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair:
            async with await start_server(pair.b, serve, "10.0.0.2", 80):
                assert await ask(pair.a, b"question") == b"behind your end"
                with pytest.raises(ConnectionResetError):
                    await ask(pair.a, b"reset")
            with pytest.raises(ConnectionRefusedError):
                await open_connection(pair.a, "10.0.0.2", 81)

    run(main)


def test_datagrams() -> None:
    class Replies(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data.upper(), addr)

    class Asks(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.answer.set_result(data)

    async def main() -> None:
        async with two_hosts() as pair:
            server, _ = await create_datagram_endpoint(pair.b, Replies, ("10.0.0.2", 53))
            client, protocol = await create_datagram_endpoint(pair.a, Asks, remote_addr=("10.0.0.2", 53))
            client.sendto(b"question")
            assert await protocol.answer == b"QUESTION"
            for transport in (client, server):
                transport.close()

    run(main)


def test_eight_stacks_in_a_ring_on_one_loop() -> None:
    async def pass_on(stack: lwipy.Stack, target: str, line: bytes) -> bytes:
        reader, writer = await open_connection(stack, target, 80)
        writer.write(line)
        answer = await reader.readline()
        await ended(writer)
        return answer

    async def main() -> None:
        count = 8
        async with AsyncExitStack() as exits:
            stacks = [exits.enter_context(closing(lwipy.Stack())) for _ in range(count)]
            for number, stack in enumerate(stacks):
                following = (number + 1) % count
                here = stack.add_interface(ipv4=f"10.0.{number}.1/24")
                there = stacks[following].add_interface(ipv4=f"10.0.{number}.2/24")
                lwipy.wire(here, there)
                await exits.enter_async_context(driving(stack))
                await exits.enter_async_context(await start_server(stacks[following], echo, f"10.0.{number}.2", 80))
            lines = [f"from {number}\n".encode() for number in range(count)]
            answers = await asyncio.gather(*(pass_on(stack, f"10.0.{i}.2", lines[i]) for i, stack in enumerate(stacks)))
            assert answers == lines

    run(main)


@pytest.mark.parametrize("turns", range(8))
def test_cancelled_at_any_turn_a_connection_leaves_nothing(turns: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            async with await start_server(pair.b, echo, "10.0.0.2", 80, ssl=server_context()):
                connecting = asyncio.create_task(open_connection(pair.a, "10.0.0.2", 80, ssl=client_context()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if connecting.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await connecting
                else:
                    connecting.result()[1].close()
            await nothing_left(pair)

    run(main)
