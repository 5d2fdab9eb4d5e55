"""Streams: asyncio's readers and writers over a stack."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from lwipy.aio.connection import create_connection
from lwipy.aio.reader import StreamReader
from lwipy.aio.server import Server, create_server

if TYPE_CHECKING:
    from lwipy.stack import Stack

#: Bytes that a StreamReader holds before it stops reading, as asyncio's.
LIMIT: Final = 64 * 1024


async def open_connection(
    stack: Stack, host: str, port: int | str, *, limit: int = LIMIT, **arguments: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As asyncio.open_connection, on a stack; `arguments` are :func:`create_connection`'s."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit, loop)
    transport, protocol = await create_connection(
        stack, lambda: asyncio.StreamReaderProtocol(reader, loop=loop), host, port, **arguments
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    stack: Stack,
    client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
    host: str | Iterable[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    **arguments: Any,
) -> Server:
    """As asyncio.start_server, on a stack; `arguments` are :func:`create_server`'s."""
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(StreamReader(limit, loop), client_connected_cb, loop=loop)

    return await create_server(stack, factory, host, port, **arguments)
