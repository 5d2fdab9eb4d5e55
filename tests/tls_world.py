"""A connection between two hosts, in the clear and with TLS: what the tests of blocking TLS begin with."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from conftest import Pair

from lwipy.blocking import Socket
from lwipy.blocking.tls import SSLContext, create_default_context

#: A certificate of host.lwipy, 10.0.0.2 and fd00::2 that signs itself, with its key; for tests only.
HOST = Path(__file__).parent / "tls" / "host.pem"


def server_context() -> ssl.SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HOST)
    return context


def client_context() -> ssl.SSLContext:
    return create_default_context(cafile=str(HOST))


@contextmanager
def connection(threads: Pair) -> Iterator[tuple[Socket, Socket]]:
    """A client of `a` and its server on `b`, in the clear, with timeouts that end a test that hangs."""
    with (
        threads.b.create_server(("10.0.0.2", 443)) as listener,
        threads.a.create_connection(("10.0.0.2", 443)) as client,
    ):
        server, _ = listener.accept()
        with server:
            client.settimeout(20)
            server.settimeout(20)
            yield client, server


@contextmanager
def tls(
    threads: Pair, pool: ThreadPoolExecutor, client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """The same, with TLS."""
    with connection(threads) as (near, far):
        accepting = pool.submit((server or server_context()).wrap_socket, far, server_side=True)
        with (client or client_context()).wrap_socket(near, server_hostname="host.lwipy") as here:
            with accepting.result(20) as there:
                yield here, there
