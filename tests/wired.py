"""Two stacks driven by hand, joined by a wire, and a connection between them."""

from __future__ import annotations

import random

import lwipy
from lwipy import FastPath, TcpEndpoint
from lwipy._native import calls

NO_MERGE = FastPath.MERGE  # so that lwIP's segments are the frames


class Joined:
    """Two stacks driven by hand, and a connection from `a` to `b` over their wire."""

    def __init__(
        self, mtu: int | tuple[int, int] = 1500, *, without: FastPath = NO_MERGE, without_b: FastPath | None = None,
        family: int = 4, layer: int = 2, checksums: bool = True, offload: bool = True, memory: int = 1 << 27,
    ) -> None:  # fmt: skip
        mtus = mtu if isinstance(mtu, tuple) else (mtu, mtu)
        self.stacks = [
            lwipy.Stack(without=each, memory=memory) for each in (without, without if without_b is None else without_b)
        ]
        self.nics = [
            stack.add_interface(
                ipv4=f"10.0.0.{i}/24", ipv6=f"fd00::{i}/64", mtu=mtus[i - 1], layer=layer, checksums=checksums
            )
            for i, stack in enumerate(self.stacks, 1)
        ]
        lwipy.wire(*self.nics, offload=offload)
        host = "10.0.0.2" if family == 4 else "fd00::2"
        listener, self.client = self.stacks[1].tcp(family), self.stacks[0].tcp(family)
        listener.bind((host, 80))
        listener.listen()
        self.client.connect((host, 80))
        accepted: TcpEndpoint | None = None
        while accepted is None:
            self.poll()
            accepted = listener.accept_if_any()
        self.server = accepted
        self.rng = random.Random(mtus[0])

    def poll(self) -> None:
        for stack in self.stacks:
            stack.poll()

    def transfer(self, size: int, source: TcpEndpoint | None = None, sink: TcpEndpoint | None = None) -> None:
        """Writes of many sizes; every byte is compared."""
        source, sink = source or self.client, sink or self.server
        data = self.rng.randbytes(size)
        arrived, buffer, sent = bytearray(), bytearray(200_000), 0
        while len(arrived) < size:
            part = data[sent : sent + self.rng.choice((100, 1460, 5000, 65_536))]
            sent += source.send_if_room(part)
            if not part or self.rng.random() < 0.3:
                self.poll()
            while got := sink.recv_into_if_any(buffer):
                arrived += buffer[:got]
        assert arrived == data

    @property
    def segments(self) -> int:
        """That lwIP has been given at the receiving side."""
        return self.stacks[1].statistics.tcp_rx

    @property
    def frames(self) -> int:
        return self.nics[1].counters.rx_frames

    def close(self) -> None:
        for stack in self.stacks:
            stack.close()


class Lent(Joined):
    """A pair whose wire has blocks for what is lent."""

    def __init__(self, mtu: int = 1500, **arguments: object) -> None:
        super().__init__(mtu, **{"without": FastPath(0), **arguments})  # type: ignore[arg-type]
        self.transfer(600_000)
        self.collect()

    def poll(self) -> None:
        for stack in self.stacks:
            if not stack.closed:
                stack.poll()

    def collect(self) -> None:
        for stack in self.stacks:
            if not stack.closed:
                calls.release(stack._way)

    @property
    def kept(self) -> int:
        """Objects that the sending stack's segments, or what was made of them, point to."""
        self.collect()
        return len(self.stacks[0]._held)

    def post(self, data: bytes) -> None:
        """Sends it, and has it acknowledged, unread."""
        assert self.client.send_if_room(data) == len(data)
        while self.client.info.unacked or self.client.info.unsent:
            self.poll()

    def read(self, size: int) -> bytes:
        arrived = bytearray()
        while len(arrived) < size:
            got = self.server.recv_into_if_any(buffer := bytearray(size - len(arrived)))
            assert got != 0
            arrived += buffer[: got or 0]
            if got is None:
                self.poll()
        return bytes(arrived)
