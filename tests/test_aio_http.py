"""Other people's code on stacks: aiohttp, client and server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from typing import Any

import aiohttp
from aio_world import run, two_hosts
from aiohttp import web
from conftest import Pair

import lwipy
from lwipy.aio import Server, create_connection, create_server


class StackConnector(aiohttp.BaseConnector):
    """aiohttp's client on a stack."""

    def __init__(self, stack: lwipy.Stack) -> None:
        super().__init__()
        self._stack = stack

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        return (await create_connection(self._stack, self._factory, req.url.host, req.url.port))[1]


BLOB = random.Random(5).randbytes(3_000_000)


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.remote}")


async def _blob(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for at in range(0, len(BLOB), 50_000):
        await response.write(BLOB[at : at + 50_000])
    return response


async def _digest(request: web.Request) -> web.Response:
    sha = hashlib.sha256()
    async for data in request.content.iter_any():
        sha.update(data)
    return web.Response(text=sha.hexdigest())


async def _websocket(request: web.Request) -> web.WebSocketResponse:
    sock = web.WebSocketResponse(max_msg_size=0)
    await sock.prepare(request)
    async for message in sock:
        await sock.send_bytes(message.data)
    return sock


async def _file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(__file__)


async def http_server(pair: Pair) -> tuple[web.AppRunner, Server]:
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(
        [
            web.get("/hello", _hello),
            web.get("/blob", _blob),
            web.put("/digest", _digest),
            web.get("/websocket", _websocket),
            web.get("/file", _file),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    return runner, await create_server(pair.b, runner.server, port=80)


def test_aiohttp_client_and_server() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            runner, server = await http_server(pair)
            async with aiohttp.ClientSession("http://10.0.0.2", connector=StackConnector(pair.a)) as session:
                for _ in range(3):  # on one connection
                    async with session.get("/hello") as response:
                        assert await response.text() == "hello 10.0.0.1"
                async with session.get("/blob") as response:
                    assert await response.read() == BLOB
                async with session.put("/digest", data=io.BytesIO(BLOB)) as response:
                    assert await response.text() == hashlib.sha256(BLOB).hexdigest()
                async with session.get("/file") as response:
                    assert b"aiohttp" in await response.read()
                async with session.get("/nothing") as response:
                    assert response.status == 404
                async with session.ws_connect("/websocket", max_msg_size=0) as sock:
                    await sock.send_bytes(BLOB)
                    assert (await sock.receive()).data == BLOB
            server.close()
            await runner.cleanup()
            await server.wait_closed()

    run(main, debug=False)


def test_aiohttp_serves_fifty_clients_at_once_over_ipv6() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            runner, server = await http_server(pair)
            async with aiohttp.ClientSession("http://[fd00::2]", connector=StackConnector(pair.a)) as session:

                async def fetch() -> str:
                    async with session.get("/hello") as response:
                        return await response.text()

                assert set(await asyncio.gather(*(fetch() for _ in range(50)))) == {"hello fd00::1"}
            server.close()
            await runner.cleanup()
            await server.wait_closed()

    run(main)
