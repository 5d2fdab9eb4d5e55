"""Guests of a WebSocket relay: what its tests share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import lwipy
from lwipy.links import WebSocketRelay

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextlib.contextmanager
def guest(relay: WebSocketRelay, ipv4: str) -> Iterator[lwipy.Stack]:
    """A second stack behind a WebSocket: what an emulator in a browser is to the relay."""
    with connect(relay.url, max_size=None) as client, lwipy.Stack() as stack:
        nic = stack.add_interface(ipv4=ipv4)

        def read() -> None:
            with contextlib.suppress(ConnectionClosed, OSError):
                for message in client:
                    assert isinstance(message, bytes)
                    nic.receive(message)

        def send(frame: bytes) -> None:
            with contextlib.suppress(ConnectionClosed):
                client.send(frame)

        nic.on_frame = send
        reading = threading.Thread(target=read)
        reading.start()
        yield stack
        client.close()
        reading.join()


def frame(target: bytes, source: int, payload: bytes = b"x" * 46) -> bytes:
    return target + bytes([2, 0, 0, 0, 1, source]) + b"\x88\xb5" + payload


def send_and_check(stack: lwipy.Stack, address: str, size: int = 200_000) -> None:
    """Every frame goes through half a dozen threads of this process: that is slow where the machine is busy."""
    data = os.urandom(size)
    with stack.create_connection((address, 80), timeout=200) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(100):
            answer += part
    assert answer == hashlib.sha256(data).digest()


def serve_sums(stack: lwipy.Stack, address: str) -> threading.Thread:
    """Answers one connection with the sum of what came."""
    server = stack.create_server((address, 80))

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection:
            digest = hashlib.sha256()
            while part := connection.recv(65536):
                digest.update(part)
            connection.sendall(digest.digest())

    thread = threading.Thread(target=serve)
    thread.start()
    return thread
