"""TLS over trio's streams, by trio.SSLStream: what goes well, what stalls, what fails."""

from __future__ import annotations

import random
import ssl

import pytest
import trio
import trio.testing
from conftest import Pair
from test_aio_tls import client_context, server_context
from trio_world import clog, connected, run, two_hosts

from lwipy.trio import SocketStream

TlsStream = trio.SSLStream[SocketStream]


async def tls(pair: Pair, *, name: str = "host.lwipy", context: ssl.SSLContext | None = None) -> list[TlsStream]:
    """Both ends, the handshake still to come."""
    near, far = await connected(pair)
    return [
        trio.SSLStream(near, context or client_context(), server_hostname=name, https_compatible=True),
        trio.SSLStream(far, server_context(), server_side=True, https_compatible=True),
    ]


async def forget(*streams: trio.abc.AsyncResource) -> None:
    for stream in streams:
        await trio.aclose_forcefully(stream)


def test_trios_conformance_suite_over_tls() -> None:
    async def main() -> None:
        async with two_hosts() as pair:

            async def maker() -> tuple[TlsStream, TlsStream]:
                near, far = await connected(pair)
                client = trio.SSLStream(near, client_context(), server_hostname="host.lwipy")
                server = trio.SSLStream(far, server_context(), server_side=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.do_handshake)
                    nursery.start_soon(server.do_handshake)
                return client, server

            await trio.testing.check_two_way_stream(maker, None)

    run(main)


def test_megabytes_each_way() -> None:
    text = random.Random(1).randbytes(4 << 20)

    async def receive(stream: TlsStream) -> None:
        got = bytearray()
        while len(got) < len(text):
            got += await stream.receive_some()
        assert got == text

    async def main() -> None:
        async with two_hosts(virtual=False) as pair:
            near, far = await tls(pair)
            async with trio.open_nursery() as nursery:
                for stream in (near, far):
                    nursery.start_soon(stream.send_all, text)
                    nursery.start_soon(receive, stream)
            await forget(near, far)

    run(main, virtual=False)


@pytest.mark.parametrize(
    ("context", "name", "text"),
    [(ssl.create_default_context, "host.lwipy", "self-signed"), (client_context, "evil.lwipy", "Hostname mismatch")],
)
def test_a_certificate_error_reaches_the_caller_and_his_peer(context: object, name: str, text: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await tls(pair, name=name, context=context())  # type: ignore[operator]

            async def serve() -> None:
                with pytest.raises(trio.BrokenResourceError) as info:
                    await far.do_handshake()
                assert isinstance(info.value.__cause__, ssl.SSLError)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                # trio's SSLStream sends no alert: the server learns of it by the end of the connection.
                with pytest.raises(trio.BrokenResourceError) as info:
                    await near.do_handshake()
                assert isinstance(info.value.__cause__, ssl.SSLCertVerificationError)
                assert text in str(info.value.__cause__)
                await forget(near)
            await forget(far)

    run(main)


def test_a_handshake_that_stalls_is_given_up_and_leaves_nothing() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await tls(pair)
            with pytest.raises(trio.TooSlowError):
                with trio.fail_after(5):
                    await near.do_handshake()
            await forget(near, far)

    run(main)


def test_a_peer_that_vanishes_in_the_handshake() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await tls(pair)

            async def leave() -> None:
                await far.transport_stream.receive_some()
                await far.transport_stream.aclose()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave)
                with pytest.raises(trio.BrokenResourceError):
                    await near.do_handshake()
            await forget(near, far)

    run(main)


def test_a_peer_that_speaks_no_tls() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await tls(pair)
            await far.transport_stream.send_all(b"220 this is something else\r\n")
            with pytest.raises(trio.BrokenResourceError) as info:
                await near.do_handshake()
            assert isinstance(info.value.__cause__, ssl.SSLError)
            await forget(near, far)

    run(main)


@pytest.mark.parametrize("goodbye", [True, False])
def test_garbage_in_the_clear_is_never_data(goodbye: bool) -> None:
    """After close_notify the stream has ended, and what follows is nobody's; without it, garbage is an error."""

    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await tls(pair)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.do_handshake)
                nursery.start_soon(far.do_handshake)
            await far.send_all(b"last words")
            if goodbye:
                with trio.move_on_after(1):
                    await far.unwrap()  # sends close_notify, then waits for the other's
            await far.transport_stream.send_all(b"garbage" * 100)
            assert await near.receive_some() == b"last words"
            if goodbye:
                assert await near.receive_some() == b""
                assert await near.receive_some() == b""
            else:
                with pytest.raises(trio.BrokenResourceError) as info:
                    await near.receive_some()
                assert isinstance(info.value.__cause__, ssl.SSLError)
            await forget(near, far)

    run(main)


def test_a_peer_that_never_reads_does_not_keep_a_cancelled_goodbye() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await tls(pair)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.do_handshake)
                nursery.start_soon(far.do_handshake)
            await clog(near.transport_stream)
            with trio.move_on_after(5):
                await near.aclose()
            await forget(near, far)

    run(main)
