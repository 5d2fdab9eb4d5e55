"""How streams and listeners in trio end: closed, misused, cancelled, and with their stack."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import trio
import trio.testing
from conftest import Pair
from trio_world import PORT, clog, connected, echo, run, two_hosts

import lwipy
from lwipy.trio import SocketStream, driving, open_tcp_listeners, open_tcp_stream, serve_tcp

# -- Closing and misuse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", ["receive_some", "send_all", "wait_send_all_might_not_block"])
def test_closing_wakes_who_waits(waiting: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            await clog(near)

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await getattr(near, waiting)(*[b"x"] * (waiting == "send_all"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await near.aclose()
            await near.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await near.send_eof()
            await trio.aclose_forcefully(far)

    run(main)


def test_closing_a_listener_wakes_who_accepts() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            (listener,) = await open_tcp_listeners(pair.b, PORT, host="10.0.0.2")

            async def accept() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await listener.accept()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept)
                nursery.start_soon(accept)
                await trio.testing.wait_all_tasks_blocked()
                await listener.aclose()
            await listener.aclose()
            with pytest.raises(ConnectionRefusedError):
                await open_tcp_stream(pair.a, "10.0.0.2", PORT)

    run(main)


def test_one_port_for_all_families_and_no_second_server() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            listeners = await open_tcp_listeners(pair.b, 0)
            (port,) = {listener.socket.getsockname()[1] for listener in listeners}
            with pytest.raises(OSError, match="while attempting to bind") as info:
                await open_tcp_listeners(pair.b, port)
            assert info.value.errno == errno.EADDRINUSE
            with pytest.raises(OSError, match=r"10\.0\.0\.9"):
                await open_tcp_listeners(pair.b, PORT, host="10.0.0.9")
            for listener in listeners:
                await listener.aclose()

    run(main)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.receive_some(0), ValueError),
        (lambda s: s.receive_some("1"), TypeError),
        (lambda s: s.send_all("text"), TypeError),
        (lambda s: s.send_all(memoryview(b"abcd")[::2]), TypeError),
    ],
)
def test_wrong_arguments(call: Callable[[SocketStream], Any], error: type[Exception]) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            async with near, far:
                with pytest.raises(error):
                    await call(near)
                await near.send_all(b"unharmed")
                assert await far.receive_some() == b"unharmed"

    run(main)


def test_a_stream_nobody_closed_is_told_of() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            with pytest.warns(ResourceWarning, match="unclosed stream"):
                del near
            with pytest.raises(trio.BrokenResourceError):
                await far.receive_some()
            await far.aclose()

    run(main)


# -- Cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(0, 24, 2))
def test_cancelled_at_any_turn_connecting_leaves_nothing(turns: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as nursery:
            pair.a.hosts["b.lwipy"] = ["fd00::77", "10.0.0.2"]
            await nursery.start(serve_tcp, pair.b, echo, PORT)

            async def connect() -> None:
                async with await open_tcp_stream(pair.a, "b.lwipy", PORT, happy_eyeballs_delay=0):
                    await trio.sleep_forever()

            nursery.start_soon(connect)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        # two_hosts() has seen that no endpoint is left.

    run(main)


def test_a_cancelled_accept_takes_no_connection() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            (listener,) = await open_tcp_listeners(pair.b, PORT, host="10.0.0.2")
            async with listener, await open_tcp_stream(pair.a, "10.0.0.2", PORT) as near:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await listener.accept()
                async with await listener.accept() as far:
                    await near.send_all(b"here")
                    assert await far.receive_some() == b"here"

    run(main)


@pytest.mark.parametrize("seed", range(4))
def test_no_byte_is_lost_or_doubled_by_cancelling(seed: int) -> None:
    """Sending and receiving are cancelled all the time, at times of their own; what was not sent is sent again."""
    text = random.Random(seed).randbytes(1 << 20)

    async def send(stream: SocketStream) -> None:
        dice = random.Random(seed + 100)
        while (at := stream.bytes_sent) < len(text):
            with trio.move_on_after(dice.random() / 50):
                await stream.send_all(text[at : at + dice.randrange(1, 300_000)])
        await stream.send_eof()

    async def main() -> None:
        dice = random.Random(seed + 200)
        async with two_hosts() as pair:
            pair.nic_a.impair(delay=0.003, jitter=0.002, loss=0.01, seed=seed + 1)
            near, far = await connected(pair)
            got = bytearray()
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(send, near)
                while True:
                    data: bytes | None = None
                    with trio.move_on_after(dice.random() / 100):
                        data = await far.receive_some(dice.randrange(1, 100_000))
                    if data == b"":
                        break
                    got += data or b""
                    if not dice.randrange(20):
                        await trio.sleep(dice.random() / 10)
            assert got == text

    run(main)


# -- The end of a stack ------------------------------------------------------------------------------------------------


def test_a_stack_closed_under_its_streams_breaks_them() -> None:
    async def main() -> None:
        with closing(lwipy.Stack(clock=trio.current_time)) as a, closing(lwipy.Stack(clock=trio.current_time)) as b:
            pair = Pair.of(a, b)
            async with driving(a), driving(b):
                near, far = await connected(pair)
                (listener,) = await open_tcp_listeners(a, PORT, host="10.0.0.1")

                async def expect_broken(call: Callable[[], Any]) -> None:
                    with pytest.raises(trio.BrokenResourceError) as info:
                        await call()
                    assert isinstance(info.value.__cause__, lwipy.StackClosedError)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(expect_broken, near.receive_some)
                    nursery.start_soon(expect_broken, listener.accept)
                    await trio.testing.wait_all_tasks_blocked()
                    a.close()
                await expect_broken(lambda: near.send_all(b"x"))
                await near.aclose()
                await listener.aclose()
                await far.aclose()

    run(main)
