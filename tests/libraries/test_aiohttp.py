"""aiohttp: server and client, and a websocket between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from .conftest import CONTENT, HOST, NAME, Ends, Tls, plain_and_tls, run, serving


@plain_and_tls
def test_aiohttp(ends: Ends, tls: Tls, secure: bool) -> None:
    async def upper(request: web.Request) -> web.Response:
        return web.Response(body=(await request.read()).upper())

    async def echo(request: web.Request) -> web.WebSocketResponse:
        sock = web.WebSocketResponse()
        await sock.prepare(request)
        async for message in sock:
            await sock.send_bytes(message.data)
        return sock

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        app = web.Application()
        app.add_routes([web.post("/", upper), web.get("/echo", echo)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, HOST, 8080, ssl_context=tls.server if secure else None).start()
        yield
        await runner.cleanup()

    url = f"https://{NAME}:8080" if secure else f"http://{NAME}:8080"

    async def client() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client)) as session:
            async with session.post(url, data=CONTENT) as response:
                assert await response.read() == CONTENT.upper()
            async with session.ws_connect(url + "/echo") as sock:
                await sock.send_bytes(CONTENT)
                assert await sock.receive_bytes() == CONTENT

    with serving(ends.server, server):
        run(ends.client, client)
