"""TLS over stacks: asyncio's own, on our transports."""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from aio_world import Recorder, VirtualLoop, nothing_left, run, soon, two_hosts

from lwipy.aio import create_connection, create_server, open_connection, start_server, start_tls

#: A certificate of host.lwipy, 10.0.0.2 and fd00::2 that signs itself, with its key; for tests only.
HOST = Path(__file__).parent / "tls" / "host.pem"


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(HOST)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(HOST))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("host", "name"), [("10.0.0.2", None), ("fd00::2", None), ("10.0.0.2", "host.lwipy"), ("host.lwipy", None)]
)
def test_a_conversation(host: str, name: str | None) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.hosts["host.lwipy"] = ["10.0.0.2"]
            server = await start_server(pair.b, echo, port=443, ssl=server_context())
            reader, writer = await open_connection(pair.a, host, 443, ssl=client_context(), server_hostname=name)
            writer.write(b"secret")
            assert await reader.readexactly(6) == b"secret"
            assert writer.get_extra_info("peername")[1] == 443
            assert writer.get_extra_info("ssl_object").version().startswith("TLS")
            assert isinstance(writer.get_extra_info("sslcontext"), ssl.SSLContext)
            await ended(writer)
            server.close()
            await server.wait_closed()

    run(main)


def test_megabytes_each_way() -> None:
    text = random.Random(1).randbytes(8 << 20)

    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, echo, port=443, ssl=server_context())
            reader, writer = await open_connection(pair.a, "10.0.0.2", 443, ssl=client_context())

            async def send() -> None:
                for at in range(0, len(text), 100_000):
                    writer.write(text[at : at + 100_000])
                    await writer.drain()

            _, back = await asyncio.gather(send(), reader.readexactly(len(text)))
            assert back == text
            await ended(writer)
            server.close()
            await server.wait_closed()

    run(main, debug=False)


def test_a_certificate_nobody_trusts_reaches_the_caller() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, echo, port=443, ssl=server_context())
            with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
                await open_connection(pair.a, "10.0.0.2", 443, ssl=ssl.create_default_context())
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await open_connection(pair.a, "10.0.0.2", 443, ssl=client_context(), server_hostname="evil.lwipy")
            server.close()
            await server.wait_closed()
            await nothing_left(pair)

    run(main)


def test_a_peer_that_speaks_no_tls() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this is something else\r\n")
        await reader.read()
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, shout, port=443)
            with pytest.raises(ssl.SSLError):
                await open_connection(pair.a, "10.0.0.2", 443, ssl=client_context())
            server.close()
            await server.wait_closed()

    run(main)


def test_a_handshake_that_stalls_is_given_up() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 443)
            with pytest.raises(ConnectionAbortedError, match="handshake is taking longer than 5"):
                await create_connection(
                    pair.a, asyncio.Protocol, "10.0.0.2", 443, ssl=client_context(), ssl_handshake_timeout=5
                )
            with pytest.raises(TimeoutError, match="no connection within 3 s"):
                await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 443, ssl=client_context(), timeout=3)
            server.close()
            server.abort_clients()
            await server.wait_closed()

    run(main, VirtualLoop)


def test_a_client_that_never_begins_the_handshake_is_given_up() -> None:
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            server = await create_server(
                pair.b, factory, "10.0.0.2", 443, ssl=server_context(), ssl_handshake_timeout=5
            )
            _, silent = await create_connection(pair.a, Recorder, "10.0.0.2", 443)
            began = loop.time()
            await silent.lost
            assert loop.time() - began < 6
            assert [protocol.calls for protocol in accepted] == [[]]
            server.close()
            await server.wait_closed()

    run(main, VirtualLoop)


def test_a_peer_that_vanishes_in_the_handshake() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.transport.abort()

    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, leave, port=443)
            with pytest.raises(ConnectionError):
                await open_connection(pair.a, "10.0.0.2", 443, ssl=client_context())
            server.close()
            await server.wait_closed()

    run(main)


def test_clear_text_where_tls_is_expected() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, echo, port=443, ssl=server_context())
            reader, writer = await open_connection(pair.a, "10.0.0.2", 443)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
            await ended(writer)
            server.close()
            await server.wait_closed()

    run(main)


def test_an_upgrade_that_stalls_is_given_up() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 25)
            transport, protocol = await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 25)
            with pytest.raises(ConnectionAbortedError, match="handshake is taking longer than 5"):
                await start_tls(transport, protocol, client_context(), ssl_handshake_timeout=5)
            server.close()
            server.abort_clients()
            await server.wait_closed()

    run(main, VirtualLoop)


@pytest.mark.parametrize("goodbye", [True, False])
def test_garbage_in_the_clear_is_never_data(goodbye: bool) -> None:
    """After close_notify the stream has ended, and what follows is nobody's; without it, garbage is an error."""
    arrived = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TLS by hand, so that other things can be sent too."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = server_context().wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        tls.write(b"last words")
        writer.write(outgoing.read())
        await arrived.wait()
        if goodbye:
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
        writer.write(outgoing.read() + b"garbage" * 100)
        with suppress(ConnectionError):
            await reader.read()
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, serve, port=443)
            transport, client = await create_connection(
                pair.a, Recorder, "10.0.0.2", 443, ssl=client_context(), server_hostname="host.lwipy"
            )
            await soon(lambda: client.data == b"last words")
            arrived.set()
            await client.lost
            assert client.data == b"last words"
            assert isinstance(client.error, ssl.SSLError) is not goodbye
            transport.close()
            server.close()
            await server.wait_closed()

    run(main)


@pytest.mark.parametrize("turns", [0, 3, 6, 9, 12, 15, 20])
def test_cancelled_in_the_handshake_nothing_is_left(turns: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 443, ssl=server_context())
            connecting = asyncio.create_task(
                create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 443, ssl=client_context())
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            with suppress(asyncio.CancelledError):
                transport, _ = await connecting
                transport.close()
            server.close()
            await server.wait_closed()
            await nothing_left(pair)

    run(main)


def test_upgrading_streams() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(server_context())
        await echo(reader, writer)

    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, serve, port=25)
            reader, writer = await open_connection(pair.a, "10.0.0.2", 25)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go ahead\n"
            await writer.start_tls(client_context(), server_hostname="host.lwipy")
            writer.write(b"secret")
            assert await reader.readexactly(6) == b"secret"
            assert writer.get_extra_info("ssl_object") is not None
            await ended(writer)
            server.close()
            await server.wait_closed()

    run(main)


def test_upgrading_a_transport_without_the_loops_help() -> None:
    class Upgrades(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"STARTTLS":
                self.transport.pause_reading()
                self.transport.write(b"go ahead")
                self.upgrade = asyncio.ensure_future(self._upgrade())
            else:
                self.question.set_result(data)

        async def _upgrade(self) -> None:
            self.question: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            transport = await start_tls(self.transport, self, server_context(), server_side=True)
            transport.write((await self.question).upper())

    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, Upgrades, port=25)
            transport, client = await create_connection(pair.a, Recorder, "10.0.0.2", 25)
            transport.write(b"STARTTLS")
            await soon(lambda: client.data == b"go ahead")
            client.data.clear()
            transport = await start_tls(transport, client, client_context(), server_hostname="host.lwipy")
            transport.write(b"secret")
            await soon(lambda: client.data == b"SECRET")
            assert client.calls == ["made", "data", "data"]
            transport.close()
            await client.lost
            assert client.error is None
            server.close()
            await server.wait_closed()

    run(main)


def test_only_our_transports_and_contexts_can_be_upgraded() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80)
            transport, protocol = await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80)
            with pytest.raises(TypeError, match="sslcontext is expected"):
                await start_tls(transport, protocol, True)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="not supported by start_tls"):
                await start_tls(asyncio.Transport(), protocol, client_context())
            transport.close()
            server.close()
            await server.wait_closed()

    run(main)


def test_what_only_means_something_with_tls() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
                await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80, server_hostname="x")

    run(main)


def test_an_aborted_tls_connection_leaves_nothing() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, echo, port=443, ssl=server_context())
            _, writer = await open_connection(pair.a, "10.0.0.2", 443, ssl=client_context())
            writer.transport.abort()
            await soon(lambda: pair.a.statistics.endpoints == 0)
            server.close()
            await server.wait_closed()

    run(main)
