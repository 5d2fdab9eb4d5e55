"""Tornado: its server and its client, which wait on descriptors, and a websocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tornado.httpclient
import tornado.httpserver
import tornado.web
import tornado.websocket

from .conftest import CONTENT, HOST, NAME, Ends, Tls, plain_and_tls, run, serving


class Upper(tornado.web.RequestHandler):
    def post(self) -> None:
        self.write(self.request.body.upper())


class Echo(tornado.websocket.WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=True)


@plain_and_tls
def test_tornado(ends: Ends, tls: Tls, secure: bool) -> None:
    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        app = tornado.web.Application([("/", Upper), ("/echo", Echo)])
        server = tornado.httpserver.HTTPServer(app, ssl_options=tls.server if secure else None)
        server.listen(8888, HOST)
        yield
        server.stop()
        await server.close_all_connections()

    url = f"https://{NAME}:8888/" if secure else f"http://{NAME}:8888/"

    async def client() -> None:
        client = tornado.httpclient.AsyncHTTPClient()
        response = await client.fetch(
            url,
            method="POST",
            body=CONTENT,
            headers={"Content-Type": "application/octet-stream"},
            ssl_options=tls.client if secure else None,
        )
        assert response.body == CONTENT.upper()
        client.close()
        request = tornado.httpclient.HTTPRequest(
            url.replace("http", "ws") + "echo", ssl_options=tls.client if secure else None
        )
        sock = await tornado.websocket.websocket_connect(request)
        await sock.write_message(CONTENT, binary=True)
        assert await sock.read_message() == CONTENT
        sock.close()
        assert await sock.read_message() is None

    with serving(ends.server, server):
        run(ends.client, client)
