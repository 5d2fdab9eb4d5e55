"""TCP over a bad network: every byte in any weather, and the same again from the same seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict
from typing import Any

import pytest
from pairs import PORT, VirtualPair, Waiting, threaded_pair

from lwipy.links import Impair

MEGABYTES = random.Random(1).randbytes(3_000_000)


WEATHERS: dict[str, dict[str, Any]] = {
    "loss": {"loss": 0.02},
    "loss on a long way": {"loss": 0.01, "delay": 0.02},
    "reordering": {"reorder": 0.1},
    "duplicates": {"duplicate": 0.1},
    "corruption": {"corrupt": 0.02},
    "jitter": {"delay": 0.01, "jitter": 0.01},
    "a slow line with a short queue": {"rate": 20e6, "queue": 20},
    "all at once": {
        "loss": 0.01, "reorder": 0.05, "duplicate": 0.03, "corrupt": 0.01, "delay": 0.005, "jitter": 0.002,
    },
}  # fmt: skip


def run(weather: dict[str, Any], seed: int, host: str = "10.0.0.2") -> tuple[str, dict[str, Any]]:
    """One transfer of three megabytes each way: the sums' hex digest, and all that was counted."""
    impair = Impair(None, seed=seed, **weather)
    pair = VirtualPair(impair)
    pair.nic_a.add_neighbour("fd00::2", pair.nic_b.mac)
    pair.nic_b.add_neighbour("fd00::1", pair.nic_a.mac)
    client, server = pair.connect(host)
    digest = hashlib.sha256(pair.transfer(MEGABYTES, client, server))
    digest.update(pair.transfer(MEGABYTES[::-1], server, client))
    counted = {
        "out": asdict(impair.stage.outgoing_counters),
        "in": asdict(impair.stage.incoming_counters),
        "seconds": round(pair.now, 6),
        "frames": asdict(pair.nic_b.counters),
    }
    pair.close()
    return digest.hexdigest(), counted


RIGHT = hashlib.sha256(MEGABYTES + MEGABYTES[::-1]).hexdigest()


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("weather", WEATHERS)
def test_tcp_delivers_every_byte_in_any_weather(weather: str, seed: int) -> None:
    digest, counted = run(WEATHERS[weather], seed)
    assert digest == RIGHT
    for name, field in [("loss", "lost"), ("reorder", "reordered"), ("duplicate", "duplicated")]:
        if name in WEATHERS[weather]:
            assert counted["out"][field] > 0
            assert counted["in"][field] > 0


def test_the_same_over_ipv6() -> None:
    assert run(WEATHERS["all at once"], 4, "fd00::2")[0] == RIGHT


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    first, again, other = (run(WEATHERS["all at once"], seed) for seed in (11, 11, 12))
    assert first == again
    assert first[1] != other[1]


def test_tcp_over_a_bad_wire_between_two_threads() -> None:
    with threaded_pair(Impair(None, seed=5, loss=0.01, reorder=0.03, duplicate=0.03, corrupt=0.01)) as pair:
        listening = pair.b.tcp()
        listening.bind(("10.0.0.2", PORT))
        listening.listen()
        listener, client = Waiting(listening), Waiting(pair.a.tcp())
        client.endpoint.connect(("10.0.0.2", PORT))
        server = Waiting(listener(listening.accept))

        view, arrived = memoryview(MEGABYTES), bytearray()
        while view or len(arrived) < len(MEGABYTES):
            if view:
                view = view[client(lambda: client.endpoint.send(view[:65536])) :]  # noqa: B023
            try:
                arrived += server.endpoint.recv(1 << 20)
            except BlockingIOError:
                if not view:
                    arrived += server(lambda: server.endpoint.recv(1 << 20))
        assert hashlib.sha256(arrived).digest() == hashlib.sha256(MEGABYTES).digest()
