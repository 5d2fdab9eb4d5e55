"""waitress: a WSGI server on asyncore's successor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

import requests
import waitress

from .conftest import CONTENT, HOST, NAME, Ends, blocking, service


def test_waitress(ends: Ends) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read().upper()]

    def server(ready: Callable[[Callable[[], object]], None]) -> None:
        listener = socket.create_server((HOST, 80))
        server = waitress.create_server(app, sockets=[listener])
        ready(lambda: server.trigger.pull_trigger(server.close))
        server.run()

    with service(ends.server, server), blocking(ends.client), requests.Session() as session:
        for _ in range(3):
            assert session.post(f"http://{NAME}/", data=CONTENT).content == CONTENT.upper()
