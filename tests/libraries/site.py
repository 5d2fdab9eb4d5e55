"""A small web server by http.server, for the tests of clients."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import lwipy

from .conftest import HOST, service


class Handler(BaseHTTPRequestHandler):
    """Answers a POST with its body in capitals, a GET with the path, and keeps connections."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(self.path.encode())

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).upper())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Site(ThreadingHTTPServer):
    """Counts the connections that it accepts."""

    accepted = 0

    def get_request(self) -> Any:
        request = super().get_request()
        self.accepted += 1
        return request


@contextmanager
def site(stack: lwipy.Stack, context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """On port 80, or with TLS on 443."""
    made: list[Site] = []

    def main(ready: Callable[[Callable[[], object]], None]) -> None:
        with Site((HOST, 443 if context else 80), Handler) as server:
            if context is not None:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            made.append(server)
            ready(server.shutdown)
            server.serve_forever(poll_interval=0.05)

    with service(stack, main):
        yield made[0]
