"""Two stacks and what passes between them: on one virtual clock that leaps from deadline to deadline, or by
threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import lwipy
from lwipy.links import Link
from lwipy.testing import VirtualTime

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
PORT = 80

T = TypeVar("T")


class Pair:
    """Two stacks, a (10.0.0.1) and b (10.0.0.2), wired. `link` wraps what is around a's interface."""

    def __init__(self, a: lwipy.Stack, b: lwipy.Stack, link: Link | None) -> None:
        self.a, self.b = a, b
        self.nic_a = a.add_interface(link, mac=MAC_A, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        self.nic_b = b.add_interface(mac=MAC_B, ipv4="10.0.0.2/24", ipv6="fd00::2/64")
        # Corrupted ARP would poison the tables (it has no checksum), which is not what is tested here.
        self.nic_a.add_neighbour("10.0.0.2", MAC_B)
        self.nic_b.add_neighbour("10.0.0.1", MAC_A)
        lwipy.wire(self.nic_a, self.nic_b)

    def close(self) -> None:
        self.a.close()
        self.b.close()


class VirtualPair(Pair):
    """In virtual time, driven by hand."""

    def __init__(self, link: Link | None = None, *, seed: int = 1) -> None:
        self.time = VirtualTime()
        super().__init__(self.time.stack(seed=seed), self.time.stack(seed=seed + 1), link)

    @property
    def now(self) -> float:
        return self.time.now

    def step(self) -> None:
        """Runs all that is due now, then lets time leap to the next deadline."""
        delay = self.time.settle()
        self.time.now += 0.01 if delay is None else delay + 1e-6

    def run(self, seconds: float) -> None:
        self.time.run(limit=seconds)

    def connect(self, host: str = "10.0.0.2") -> tuple[lwipy.TcpEndpoint, lwipy.TcpEndpoint]:
        """A connection from a to b: its ends on a and on b."""
        family = 6 if ":" in host else 4
        listener, client = self.b.tcp(family), self.a.tcp(family)
        listener.bind((host, PORT))
        listener.listen()
        client.connect((host, PORT))
        while True:
            self.step()
            try:
                return client, listener.accept()
            except BlockingIOError:
                assert self.now < 1600, "no connection within ten minutes of the stacks' time"

    def transfer(self, data: bytes, source: lwipy.TcpEndpoint, sink: lwipy.TcpEndpoint) -> bytes:
        """Sends `data` and its end from one to the other; what arrived there."""
        view, arrived = memoryview(data), bytearray()
        sending = True
        while True:
            try:
                while sending and view:
                    view = view[source.send(view) :]
                if sending:
                    source.shutdown(write=True)
                    sending = False
            except BlockingIOError:
                pass
            try:
                while part := sink.recv(65536):
                    arrived += part
                return bytes(arrived)
            except BlockingIOError:
                self.step()
            assert self.now < 4600, f"{len(arrived)} of {len(data)} bytes after an hour of the stacks' time"


@contextmanager
def threaded_pair(link: Link | None = None) -> Iterator[Pair]:
    """Two stacks, each driven by a thread."""
    with lwipy.Stack() as a, lwipy.Stack() as b:
        yield Pair(a, b, link)


class Waiting:
    """An endpoint of a stack that a thread drives, used from the test's thread."""

    def __init__(self, endpoint: lwipy.TcpEndpoint) -> None:
        self.endpoint = endpoint
        self._happened = threading.Event()
        endpoint.on_event = lambda event: self._happened.set()

    def __call__(self, operation: Callable[[], T]) -> T:
        """The result of an operation, tried until it can be done."""
        while True:
            self._happened.clear()
            try:
                return operation()
            except BlockingIOError:
                assert self._happened.wait(120), "nothing happened for two minutes"
