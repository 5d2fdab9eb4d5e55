"""Trouble in a protocol's callbacks."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from aio_world import Buffered, Recorder, connected, run, soon


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
