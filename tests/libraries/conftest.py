"""Two hosts on a wire, "server.test" and "client.test", in threads of their own, and a certificate for the server."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme

import lwipy
from lwipy._driver import Driver
from lwipy.aio import StackEventLoop
from lwipy.drivers.thread import ThreadDriver

T = TypeVar("T")
#: The server's name, which is in its certificate, and its address.
NAME, HOST = "server.test", "10.0.0.1"
#: Something long enough to fill windows.
CONTENT = bytes(i * 7 % 251 for i in range(300_000))
#: Seconds after which something is stuck.
STUCK = 60


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Web clients follow the environment to proxies and certificates, which are not on the wire."""
    for name in [name for name in os.environ if name.upper().endswith(("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE"))]:
        monkeypatch.delenv(name)


@dataclass
class Ends:
    """The server's stack and the client's; nothing drives them yet."""

    server: lwipy.Stack
    client: lwipy.Stack


@pytest.fixture
def ends() -> Iterator[Ends]:
    """At the end all sockets must be closed, or be closed soon."""
    with closing(lwipy.Stack()) as server, closing(lwipy.Stack()) as client:
        lwipy.wire(
            server.add_interface(ipv4=f"{HOST}/24", ipv6="fd00::1/64"),
            client.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64"),
        )
        for stack in (server, client):
            stack.hosts[NAME] = [HOST]
            stack.hosts["client.test"] = ["10.0.0.2"]
        yield Ends(server, client)
        drive(server)
        drive(client)
        left = lambda: server.statistics.endpoints + client.statistics.endpoints  # noqa: E731
        limit = time.monotonic() + STUCK
        while left():
            assert time.monotonic() < limit, f"{left()} sockets are open"
            time.sleep(0.005)


def drive(stack: lwipy.Stack) -> None:
    """Has a thread drive the stack, as nothing else does: a host goes on when its programs have ended."""
    if type(stack._driver) is Driver:
        ThreadDriver(stack).start()


# -- asyncio -----------------------------------------------------------------------------------------------------------


def run(stack: lwipy.Stack, main: Callable[[], Awaitable[T]]) -> T:
    """As asyncio.run(), on the stack. What reaches the loop's exception handler fails the test."""
    reports: list[dict[str, Any]] = []

    async def guarded() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        with lwipy.patched(stack, everywhere=False):
            result = await asyncio.wait_for(main(), STUCK)
        for _ in range(1000):  # transports say goodbye after their programs have closed them
            if stack.statistics.endpoints:
                await asyncio.sleep(0.002)
        return result

    with asyncio.Runner(loop_factory=lambda: StackEventLoop(stack)) as runner:
        result = runner.run(guarded())
    drive(stack)
    assert reports == []
    return result


@contextmanager
def serving(stack: lwipy.Stack, service: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Has the asynchronous context manager run in another thread, in a loop on the stack."""
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, T]] = Future()

    async def main() -> None:
        enough = asyncio.Event()
        async with service() as made:
            begun.set_result((asyncio.get_running_loop(), enough, made))
            await enough.wait()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run, stack, main)

        def tell(_: Future[None]) -> None:
            if not begun.done():
                begun.set_exception(ended.exception() or EOFError())

        ended.add_done_callback(tell)
        loop, enough, made = begun.result(STUCK)
        try:
            yield made
        finally:
            loop.call_soon_threadsafe(enough.set)
            ended.result(STUCK)


# -- Threads -----------------------------------------------------------------------------------------------------------


@contextmanager
def blocking(stack: lwipy.Stack) -> Iterator[None]:
    """Within it the calling thread's sockets are the stack's."""
    drive(stack)
    with lwipy.patched(stack, everywhere=False):
        yield


@contextmanager
def thread(work: Callable[[], object], end: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Has a thread do the work; `end` makes it return. What it raises is raised here."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            yield
        finally:
            end()
            done.result(STUCK)


@contextmanager
def service(stack: lwipy.Stack, main: Callable[[Callable[[Callable[[], object]], None]], object]) -> Iterator[None]:
    """Has `main` serve in a thread of its own, whose sockets are the stack's.

    It calls what it is given once it listens, with the function that makes it return.
    """
    listening = threading.Event()
    ends: list[Callable[[], object]] = []

    def ready(end: Callable[[], object]) -> None:
        ends.append(end)
        listening.set()

    def work() -> None:
        try:
            with blocking(stack):
                main(ready)
        finally:
            listening.set()

    with thread(work, lambda: [end() for end in ends]):
        assert listening.wait(STUCK)
        yield


# -- TLS ---------------------------------------------------------------------------------------------------------------


@dataclass
class Tls:
    """What a server and its clients need, as contexts and as files."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    certificate: str
    key: str
    authority: str


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME, HOST)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    paths = [str(folder / name) for name in ("server.pem", "server.key", "authority.pem")]
    certificate.cert_chain_pems[0].write_to_path(paths[0])
    certificate.private_key_pem.write_to_path(paths[1])
    authority.cert_pem.write_to_path(paths[2])
    return Tls(server, client, *paths)


plain_and_tls = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
