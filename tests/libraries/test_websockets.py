"""websockets: in asyncio, and in threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import websockets.asyncio.client
import websockets.asyncio.server
import websockets.sync.client
import websockets.sync.server

from .conftest import CONTENT, HOST, NAME, Ends, Tls, blocking, plain_and_tls, run, service, serving


@plain_and_tls
def test_websockets(ends: Ends, tls: Tls, secure: bool) -> None:
    async def reverse(sock: websockets.asyncio.server.ServerConnection) -> None:
        async for message in sock:
            await sock.send(message[::-1])

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        async with websockets.asyncio.server.serve(reverse, HOST, 80, ssl=tls.server if secure else None):
            yield

    async def client() -> None:
        url = f"wss://{NAME}:80" if secure else f"ws://{NAME}:80"
        async with websockets.asyncio.client.connect(url, ssl=tls.client if secure else None) as sock:
            await sock.send(CONTENT)
            assert await sock.recv() == CONTENT[::-1]

    with serving(ends.server, server):
        run(ends.client, client)


@plain_and_tls
def test_websockets_in_threads(ends: Ends, tls: Tls, secure: bool) -> None:
    def reverse(sock: websockets.sync.server.ServerConnection) -> None:
        for message in sock:
            sock.send(message[::-1])

    def server(ready: Callable[[Callable[[], object]], None]) -> None:
        with websockets.sync.server.serve(reverse, HOST, 80, ssl=tls.server if secure else None) as server:
            ready(server.shutdown)
            server.serve_forever()

    url = f"wss://{NAME}:80" if secure else f"ws://{NAME}:80"
    with service(ends.server, server), blocking(ends.client):
        with websockets.sync.client.connect(url, ssl=tls.client if secure else None) as sock:
            sock.send(CONTENT)
            assert sock.recv() == CONTENT[::-1]
