"""A shared folder on the kernel's loopback, for the tests of lwipy.services.share.

As a program, `share_server.py FOLDER` serves it from a process of its own, which a test can narrow: it prints
its port and ends with its standard input.
"""

import asyncio
import http.client
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from lwipy.services import share


@dataclass
class Answer:
    """One HTTP response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Served:
    """A running share: its port on 127.0.0.1, its folder, and the events seen so far."""

    root: Path
    port: int
    events: list[share.Event] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        """One request on a connection of its own; the path goes out as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {}, **options)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """GET; `if_none_match="x"` is sent as If-None-Match: x."""
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def connect(self) -> socket.socket:
        """A raw connection to the share."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, request: bytes) -> bytes:
        """Sends the very bytes and gives what comes back until the share closes the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_all(connection)

    def line(self, request_line: bytes) -> int:
        """The status that a request line gets, sent as it is."""
        return status(self.raw(request_line + b"\r\nHost: share\r\nConnection: close\r\n\r\n"))

    def hidden(self) -> list[Path]:
        """Uploads under way (or left behind)."""
        return list(self.root.rglob(".lwipy-partial-*"))


def read_all(connection: socket.socket) -> bytes:
    """Everything until the end."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def status(response: bytes) -> int:
    """The status code of a raw response."""
    return int(response.split(b" ", 2)[1])


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    """A multipart body as browsers send it, and its headers; parts: (field, file name or None, content)."""
    body = b""
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'.encode()
        body += b"\r\n" + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@contextmanager
def serving(root: Path, *, handler_cancellation: bool = False, **options: Any) -> Iterator[Served]:
    """A share of `root`, its event loop in a thread; stopped at the end as a program would stop it.

    handler_cancellation is aiohttp's: whether a request is cancelled at once when its guest has gone.
    """
    served = Served(root, 0)
    watchers = [served.events.append, *filter(None, [options.pop("observer", None)])]
    started: Future[Callable[[], object]] = Future()

    def observe(event: share.Event) -> None:
        for watcher in watchers:
            watcher(event)

    async def main() -> None:
        app = share.application(root, observer=observe, **options)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=handler_cancellation)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.port = runner.addresses[0][1]
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        started.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        await runner.cleanup()

    def ended_early(run: Future[None]) -> None:
        if not started.done():
            started.set_exception(run.exception() or RuntimeError("the share ended before it had begun"))

    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(asyncio.run, main())
        run.add_done_callback(ended_early)
        stop = started.result(20)
        try:
            yield served
        finally:
            stop()
            run.result(20)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true; a generous limit keeps a failing test from hanging."""
    for _ in range(2000):
        if condition():
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    with serving(Path(sys.argv[1]), writable=True) as served_here:
        print(served_here.port, flush=True)
        sys.stdin.read()
