"""The stream transport as protocols see it: what is called, in which order, with what, and what may be done inside."""

from __future__ import annotations

import array
import asyncio
import contextvars
import errno
import gc
import os
import random
import select
import socket
import struct
import tempfile
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aio_world import Recorder, reset, run, soon, two_hosts

import lwipy
from lwipy.aio import StreamTransport, create_connection, create_server
from lwipy.aio.transport import CHUNK

MEGABYTE = 1 << 20


@asynccontextmanager
async def connected(
    client: Callable[[], Any] = Recorder, server: Callable[[], Any] = Recorder
) -> AsyncIterator[tuple[Any, Any]]:
    """A connection's two protocols; both know their transport."""
    async with two_hosts() as pair:
        made: list[Any] = []

        def factory() -> Any:
            made.append(server())
            return made[-1]

        listener = await create_server(pair.b, factory, "10.0.0.2", 80)
        _, protocol = await create_connection(pair.a, client, "10.0.0.2", 80)
        await soon(lambda: made and made[0].transport)
        listener.close()
        yield protocol, made[0]
        for side in (protocol, made[0]):
            side.transport.abort()
        await listener.wait_closed()


# -- Order -----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_connection() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(b"hello")
            await soon(lambda: server.data)
            client.transport.close()
            await server.lost
            await client.lost
        assert client.calls == ["made", "lost"]
        assert server.calls == ["made", "data", "eof", "lost"]
        assert client.error is None
        assert server.error is None

    run(main)


def test_a_closed_transport_flushes_all_that_was_written() -> None:
    text = random.Random(1).randbytes(5 * MEGABYTE)

    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(text)
            client.transport.close()
            assert client.transport.is_closing()
            assert client.transport.get_write_buffer_size() > 0
            client.transport.close()
            await server.lost
            await client.lost
        assert server.data == text
        assert client.calls == ["made", "pause", "resume", "lost"]
        assert client.error is None

    run(main, debug=False)


def test_half_close_lasts_while_eof_received_says_so() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            server.keep_open = True
            client.transport.write(b"question")
            client.transport.write_eof()
            client.transport.write_eof()
            await server.ended
            assert not server.transport.is_closing()
            server.transport.write(b"answer after the end")
            await soon(lambda: client.data)
            assert client.data == b"answer after the end"
            server.transport.close()
            await client.lost
        assert server.calls == ["made", "data", "eof", "lost"]
        assert client.error is None

    run(main)


def test_an_end_in_the_buffer_goes_out_behind_the_data() -> None:
    text = bytes(3 * MEGABYTE)

    async def main() -> None:
        async with connected() as (client, server):
            server.keep_open = True
            client.transport.write(text)
            client.transport.write_eof()
            await server.ended
            assert server.data == text
            assert not client.transport.is_closing()

    run(main, debug=False)


def test_an_aborted_transport_resets_its_peer() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(bytes(3 * MEGABYTE))
            client.transport.abort()
            client.transport.abort()
            await client.lost
            await server.lost
        assert client.error is None
        assert isinstance(server.error, ConnectionResetError)
        assert server.calls.count("lost") == 1

    run(main)


def test_an_abort_that_loses_nothing_looks_like_a_close_to_the_peer() -> None:
    """As the kernel has it for asyncio: what the endpoint took is sent, and the end behind it."""

    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(b"all there is")
            client.transport.abort()
            await server.lost
        assert server.data == b"all there is"
        assert server.error is None
        assert client.calls == ["made", "lost"]

    run(main)


def test_abort_after_close_gives_up_flushing() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            server.transport.pause_reading()
            client.transport.write(bytes(3 * MEGABYTE))
            client.transport.close()
            await asyncio.sleep(0.05)
            assert "lost" not in client.calls
            client.transport.abort()
            await client.lost
            server.transport.resume_reading()
            await server.lost
        assert isinstance(server.error, ConnectionResetError)

    run(main)


def test_a_linger_of_zero_resets_too() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            sock = client.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.close()
            await server.lost
        assert isinstance(server.error, ConnectionResetError)

    run(main)


def test_a_peer_that_is_gone_is_told_once() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            reset(server.transport)
            await client.lost
            assert client.transport.is_closing()
            for _ in range(10):
                client.transport.write(b"to nobody")
            client.transport.write_eof()
            client.transport.close()
            client.transport.abort()
            await asyncio.sleep(0.01)
        assert client.calls == ["made", "lost"]
        assert isinstance(client.error, ConnectionResetError)

    run(main)


def test_a_reset_is_told_to_a_half_closed_protocol_that_only_waits() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            client.keep_open = True
            server.transport.write_eof()
            await client.ended
            reset(server.transport)
            await client.lost
        assert isinstance(client.error, ConnectionResetError)

    run(main)


def test_a_closed_stack_is_told_as_such() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            server.transport._endpoint.stack.close()
            await server.lost
            client.transport.abort()
            assert isinstance(server.error, lwipy.StackClosedError)
            assert server.calls == ["made", "lost"]
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


# -- Writing ---------------------------------------------------------------------------------------------------------


def test_anything_bytes_like_can_be_written() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            write = client.transport.write
            changing = bytearray(b"four")
            write(b"one ")
            write(bytearray(b"two "))
            write(memoryview(b"xthree x")[1:-1])
            write(changing)
            write(array.array("I", [0x20202020]))
            write(b"")
            client.transport.writelines([b"li", bytearray(b"ne"), memoryview(b"s")])
            client.transport.writelines([])
            await soon(lambda: server.data.endswith(b"lines"))
        assert server.data == b"one two three four    lines"

    run(main)


def test_what_waits_in_the_buffer_is_a_copy() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            text = bytearray(b"a" * 2 * MEGABYTE)
            client.transport.write(text)
            assert client.transport.get_write_buffer_size() > 0
            text[:] = b"b" * len(text)
            client.transport.write_eof()
            await server.ended
        assert set(server.data) == set(b"a")

    run(main, debug=False)


@pytest.mark.parametrize("wrong", ["text", 7, None, [1, 2], memoryview(bytes(10))[::2]])
def test_other_things_cannot(wrong: Any) -> None:
    async def main() -> None:
        async with connected() as (client, _):
            with pytest.raises(TypeError):
                client.transport.write(wrong)
            assert not client.transport.is_closing()

    run(main)


def test_nothing_can_be_written_after_the_end() -> None:
    async def main() -> None:
        async with connected() as (client, _):
            assert client.transport.can_write_eof()
            client.transport.write_eof()
            with pytest.raises(RuntimeError, match="after write_eof"):
                client.transport.write(b"x")
            with pytest.raises(RuntimeError, match="after write_eof"):
                client.transport.writelines([b"x"])

    run(main)


def test_writing_is_paused_above_the_high_mark_and_resumed_below_the_low_one() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            transport = client.transport
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=MEGABYTE, low=1000)
            assert transport.get_write_buffer_limits() == (1000, MEGABYTE)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)
            server.transport.pause_reading()
            while "pause" not in client.calls:
                assert transport.get_write_buffer_size() <= MEGABYTE
                transport.write(bytes(100_000))
                await asyncio.sleep(0)
            assert client.calls.count("pause") == 1
            transport.write(bytes(100_000))
            assert client.calls.count("pause") == 1
            assert "resume" not in client.calls
            server.transport.resume_reading()
            await soon(lambda: "resume" in client.calls)
            assert transport.get_write_buffer_size() <= 1000

    run(main)


def test_writing_more_from_resume_writing() -> None:
    class Pours(Recorder):
        left = 40

        def resume_writing(self) -> None:
            while self.left and self.transport.get_write_buffer_size() == 0:
                self.left -= 1
                self.transport.write(bytes(200_000))
            if not self.left:
                self.transport.close()

    async def main() -> None:
        async with connected(Pours) as (client, server):
            client.transport.set_write_buffer_limits(high=0)
            client.transport.write(bytes(MEGABYTE))
            await server.lost
        assert len(server.data) == MEGABYTE + 40 * 200_000
        assert client.calls[0] == "made"
        assert client.calls[-1] == "lost"
        assert client.error is None

    run(main, debug=False)


def test_aborting_from_resume_writing() -> None:
    class Aborts(Recorder):
        def resume_writing(self) -> None:
            self.transport.abort()

    async def main() -> None:
        async with connected(Aborts) as (client, server):
            client.transport.write(bytes(MEGABYTE))
            await client.lost
            await server.lost
        assert client.calls == ["made", "pause", "lost"]

    run(main)


# -- Reading ---------------------------------------------------------------------------------------------------------


def test_chunks_are_large() -> None:
    class Measures(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def data_received(self, data: bytes) -> None:
            assert type(data) is bytes
            self.sizes.append(len(data))

    async def main() -> None:
        async with connected(server=Measures) as (client, server):
            server.transport.pause_reading()
            client.transport.write(bytes(20 * MEGABYTE))
            client.transport.write_eof()
            await asyncio.sleep(0.1)
            server.transport.resume_reading()
            await server.ended
        assert sum(server.sizes) == 20 * MEGABYTE
        assert max(server.sizes) > CHUNK // 2
        assert max(server.sizes) <= CHUNK

    run(main, debug=False)


def test_nothing_is_delivered_while_paused() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            transport = server.transport
            assert transport.is_reading()
            transport.resume_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            client.transport.write(b"held back")
            client.transport.write_eof()
            await asyncio.sleep(0.02)
            assert server.calls == ["made"]
            transport.resume_reading()
            assert server.calls == ["made"]  # never inside resume_reading()
            transport.pause_reading()
            await asyncio.sleep(0.02)
            assert server.calls == ["made"]
            transport.resume_reading()
            transport.resume_reading()
            await server.lost
        assert server.calls == ["made", "data", "eof", "lost"]
        assert server.data == b"held back"

    run(main)


def test_whoever_waits_for_the_connection_acts_before_its_first_data() -> None:
    class Greets(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"welcome")

    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, Greets, "10.0.0.2", 80)
            for _ in range(20):
                transport, client = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
                assert client.calls == ["made"]
                transport.pause_reading()
                await asyncio.sleep(0.002)
                assert client.calls == ["made"]
                transport.resume_reading()
                await soon(lambda: client.data == b"welcome")  # noqa: B023
                transport.close()
            server.close()
            await server.wait_closed()

    run(main)


def test_pausing_in_every_delivery() -> None:
    class Nibbles(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)

    text = random.Random(2).randbytes(2 * MEGABYTE)

    async def main() -> None:
        async with connected(server=Nibbles) as (client, server):
            client.transport.write(text)
            client.transport.close()
            await server.lost
        assert server.data == text

    run(main, debug=False)


class Buffered(asyncio.BufferedProtocol):
    """Receives into 100 bytes of its own."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = bytearray(100)
        self.data = bytearray()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set_result(error)


def test_a_buffered_protocol_gets_it_in_its_own_buffer() -> None:
    text = random.Random(3).randbytes(200_003)

    async def main() -> None:
        async with connected(server=Buffered) as (client, server):
            client.transport.write(text)
            client.transport.close()
            assert await server.lost is None
        assert server.data == text

    run(main)


def test_the_protocol_can_be_changed_in_mid_stream() -> None:
    class Switches(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.next = Buffered()
            self.next.transport = self.transport
            self.transport.set_protocol(self.next)
            assert self.transport.get_protocol() is self.next

    async def main() -> None:
        async with connected(server=Switches) as (client, server):
            client.transport.write(b"for the first")
            await soon(lambda: server.data)
            client.transport.write(b"for the second")
            client.transport.close()
            assert await server.next.lost is None
            assert server.next.data == b"for the second"
            assert server.calls == ["made", "data"]

    run(main)


# -- Trouble in callbacks --------------------------------------------------------------------------------------------


class Fails(Recorder):
    """Raises in the callback that is named."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def _called(self, name: str) -> None:
        if name == self.where:
            raise ZeroDivisionError(name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._called("connection_made")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._called("data_received")

    def eof_received(self) -> bool:
        self._called("eof_received")
        return super().eof_received()

    def connection_lost(self, error: BaseException | None) -> None:
        super().connection_lost(error)
        self._called("connection_lost")


class FailsBuffered(Buffered):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def get_buffer(self, sizehint: int) -> Any:
        if self.where == "get_buffer":
            raise ZeroDivisionError(self.where)
        return bytearray() if self.where == "get_buffer() returned an empty buffer" else super().get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        raise ZeroDivisionError("buffer_updated")


@pytest.mark.parametrize(
    ("protocol", "where"),
    [
        (Fails, "data_received"),
        (Fails, "eof_received"),
        (Fails, "connection_lost"),
        (FailsBuffered, "get_buffer"),
        (FailsBuffered, "get_buffer() returned an empty buffer"),
        (FailsBuffered, "buffer_updated"),
    ],
)
def test_what_a_callback_raises_is_reported_and_ends_its_connection(protocol: Any, where: str) -> None:
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with connected(server=lambda: protocol(where)) as (client, server):
            client.transport.write(b"x")
            client.transport.write_eof()
            await server.lost
            await client.lost
            assert server.transport.is_closing()

    run(main)
    (report,) = reports
    assert where in str(report["exception"])
    assert "buffer() returned" in where or isinstance(report["exception"], ZeroDivisionError)


def test_a_connection_made_that_raises_leaves_the_connection_open() -> None:
    """As in asyncio: the protocol may still be told of data and the end."""
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with connected(server=lambda: Fails("connection_made")) as (client, server):
            client.transport.write(b"x")
            await soon(lambda: server.data)

    run(main)
    assert [str(report["exception"]) for report in reports] == ["connection_made"]


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
def test_ending_the_connection_inside_a_callback(how: str, where: str) -> None:
    class Ends(Fails):
        def _called(self, name: str) -> None:
            if name == self.where:
                getattr(self.transport, how)()

    async def main() -> None:
        async with connected(server=lambda: Ends(where)) as (client, server):
            for _ in range(20):
                client.transport.write(bytes(1000))
            if client.transport.is_closing() is False:
                client.transport.write_eof()
            await server.lost
            await client.lost
        assert server.calls.count("lost") == 1
        assert server.error is None
        assert where != "connection_made" or server.calls == ["made", "lost"]

    run(main)


def test_callbacks_run_in_the_context_of_whoever_made_the_transport() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")

    class Looks(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.seen.append(variable.get())

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.seen.append(variable.get())
            variable.set("changed by the connection")

        def connection_lost(self, error: BaseException | None) -> None:
            super().connection_lost(error)
            self.seen.append(variable.get())

    async def main() -> None:
        variable.set("the server's")
        async with connected(server=Looks) as (client, server):
            variable.set("the client's")
            client.transport.write(b"x")
            await soon(lambda: server.data)
            client.transport.close()
            await server.lost
        assert server.seen == ["the server's", "the server's", "changed by the connection"]
        assert variable.get() == "the client's"

    run(main)


# -- What can be asked -----------------------------------------------------------------------------------------------


def test_extra_info() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            info = client.transport.get_extra_info
            assert info("peername") == ("10.0.0.2", 80)
            assert info("sockname") == server.transport.get_extra_info("peername")
            assert info("sslcontext") is None
            assert info("nothing of the kind", 7) == 7
            sock = info("socket")
            assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            assert sock.getpeername() == ("10.0.0.2", 80)
            assert sock.getsockname() == info("sockname")
            assert sock.gettimeout() == 0
            sock.setblocking(False)
            with pytest.raises(ValueError, match="cannot be blocking"):
                sock.setblocking(True)
            with pytest.raises(OSError, match="cannot be duplicated"):
                sock.dup()
            client.transport.close()
            await client.lost
            assert info("peername") == ("10.0.0.2", 80)
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                sock.getsockname()
            assert caught.value.errno == errno.EBADF
            assert sock.fileno() == -1

    run(main)


def ready(sock: Any) -> tuple[bool, bool]:
    """Readable and writable, as the host's select() sees a socket."""
    readable, writable, _ = select.select([sock], [sock], [], 0)
    return bool(readable), bool(writable)


def test_the_sockets_descriptor_polls_as_the_connection() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            sock = client.transport.get_extra_info("socket")
            descriptor = sock.fileno()
            assert ready(sock) == (False, True)
            server.transport.write(b"hello")
            await soon(lambda: client.data == b"hello")
            assert ready(sock) == (False, True), "what came has been read"
            client.transport.pause_reading()
            server.transport.write(b"more")
            await soon(lambda: ready(sock) == (True, True))
            client.transport.resume_reading()
            await soon(lambda: client.data == b"hellomore")
            assert ready(sock) == (False, True)
            server.transport.pause_reading()
            client.transport.set_write_buffer_limits(high=1 << 30)
            while not client.transport.get_write_buffer_size():
                client.transport.write(bytes(1 << 20))
            assert ready(sock) == (False, False)
            server.transport.resume_reading()
            await soon(lambda: ready(sock) == (False, True))
            assert sock.fileno() == descriptor
            client.transport.abort()
            await client.lost
            assert sock.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    run(main)


def test_options() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            for side in (client, server):
                sock = side.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1, "Nagle is off, as in asyncio"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
                with pytest.raises(OSError, match="Protocol not available") as caught:
                    sock.setsockopt(socket.SOL_SOCKET, 12345, 1)
                assert caught.value.errno == errno.ENOPROTOOPT

    run(main)


def test_sendfile_falls_back_to_reading_and_writing() -> None:
    text = random.Random(4).randbytes(300_000)

    async def main() -> None:
        async with connected() as (client, server):
            with tempfile.TemporaryFile() as file:
                file.write(text)
                file.flush()
                sent = await asyncio.get_running_loop().sendfile(client.transport, file, offset=1000)
                assert sent == len(text) - 1000
                assert file.tell() == len(text)
            client.transport.write_eof()
            await server.ended
        assert server.data == text[1000:]

    run(main)


def test_a_transport_nobody_closed_is_told_of() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80)
            transport, _ = await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80)
            assert isinstance(transport, StreamTransport)
            transport._endpoint.on_event = None
            del transport
            with pytest.warns(ResourceWarning, match=r"unclosed transport <StreamTransport open \('10.0.0.2', 80\)"):
                await soon(lambda: not gc.collect() and pair.a.statistics.endpoints == 0)
            server.abort_clients()
            server.close()

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        run(main)


def test_an_idle_connections_end_takes_less_than_two_kilobytes() -> None:
    """Of Python's memory, its protocol and its place in the server included."""
    count = 300

    async def main() -> None:
        async with two_hosts() as pair, await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80) as server:
            transports = [(await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80))[0]]
            gc.collect()
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(count):
                    transports.append((await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80))[0])
                await soon(lambda: pair.b.statistics.endpoints == count + 2)
                gc.collect()
                used = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
            for transport in transports:
                transport.close()
            server.close()
        assert used / count / 2 < 2048

    run(main, debug=False)
