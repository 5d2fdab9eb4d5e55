"""Frames beyond 64 KB, for a device that cuts them: what it makes of them is what lwIP sent."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import closing

import pytest
from vnet_device import CSUM, LONG, TSO4, TSO6, OffloadPair, bytes_of

import lwipy
from lwipy import FastPath, Option

ALL = CSUM | TSO4 | TSO6 | LONG
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
LONGEST = 192 << 10


@pytest.fixture(params=[FastPath(0), FastPath.LONG_FRAMES], ids=["with", "without"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FastPath:
    chosen: FastPath = request.param
    monkeypatch.setattr(lwipy.Stack, "default_without", chosen)
    return chosen


def connected(pair: OffloadPair, family: int = 4) -> tuple[lwipy.TcpEndpoint, lwipy.TcpEndpoint]:
    client, server = pair.connect(family)
    client.set_option(Option.SNDBUF, 1 << 20)
    return client, server


@FAMILIES
def test_only_ipv4_has_them_and_only_where_the_device_does(family: int, without: FastPath) -> None:
    for offloads in (ALL, ALL & ~LONG):
        with closing(OffloadPair(offloads)) as pair:
            client, server = connected(pair, family)
            pair.move(client, server, bytes_of(3_000_000))
            longest = max(pair.device.lengths)
            if offloads == ALL and family == 4 and not without:
                assert 2 * 65535 < longest <= LONGEST
            else:
                assert 60000 < longest <= 65535


def test_the_segments_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    courses = []
    for without in (FastPath(0), FastPath.LONG_FRAMES):
        monkeypatch.setattr(lwipy.Stack, "default_without", without)
        with closing(OffloadPair(ALL)) as pair:
            client, server = connected(pair)
            seen: list[bytes] = []
            take = pair.device.take
            pair.device.take = lambda take=take, seen=seen: [seen.append(f) or f for f in take()]  # type: ignore
            for size in (1, 100_000, 1_000_000, 65_535, 65_536):
                pair.move(client, server, bytes_of(size))
            numbers = [struct.unpack_from("!I", f, 38)[0] for f in seen if f[12:14] == b"\x08\x00"]
            assert numbers
            courses.append([((n - numbers[0]) & 0xFFFFFFFF, f[54:]) for n, f in zip(numbers, seen, strict=False)])
            identifications = [f[18:20] for f in seen if f[12:14] == b"\x08\x00"]
            assert len(set(identifications)) == len(identifications)
    assert courses[0] == courses[1]


@pytest.mark.usefixtures("without")
@FAMILIES
@pytest.mark.parametrize("controller", ["cubic", "bbr", "reno", "lwip"])
def test_every_byte_arrives_over_a_bad_line(family: int, controller: str) -> None:
    chance = random.Random(family)
    with closing(OffloadPair(ALL)) as pair:
        late: list[bytes] = []
        take = pair.device.take

        def spoiled() -> list[bytes]:
            found: list[bytes] = []
            for frame in take():
                fate = chance.random()
                if fate < 0.02:
                    late.extend([frame] if fate < 0.01 else [])
                    continue
                found += [frame] * (2 if fate < 0.03 else 1)
            if late and chance.random() < 0.5:
                found.append(late.pop(0))
            return found

        pair.device.take = spoiled  # type: ignore[method-assign]
        client, server = connected(pair, family)
        client.congestion = controller
        pair.move(client, server, bytes_of(1_000_000))
        assert pair.far.statistics.tcp_chkerr == 0


def test_a_device_that_refuses_one_is_given_no_more() -> None:
    with closing(OffloadPair(ALL)) as pair:
        ours = socket.socket(fileno=socket.dup(pair.device.fd))
        with ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60_000)  # of which Linux makes twice that
        client, server = connected(pair)
        pair.move(client, server, bytes_of(2_000_000))
        refused = pair.nic.counters.tx_error
        assert refused > 44, "what was refused is counted"
        pair.device.lengths.clear()
        pair.move(client, server, bytes_of(2_000_000))
        assert 60000 < max(pair.device.lengths) <= 65535
        assert pair.nic.counters.tx_error == refused


@pytest.mark.parametrize("chosen", [None, 100_000])
def test_there_is_room_for_the_next_ones_while_one_is_read(chosen: int | None, without: FastPath) -> None:
    with closing(OffloadPair(ALL)) as pair:
        client, server = pair.connect(4)
        if chosen is not None:
            client.set_option(Option.SNDBUF, chosen)
        before = client.get_option(Option.SNDBUF)
        pair.move(client, server, bytes_of(4_000_000))
        after = client.get_option(Option.SNDBUF)
        if chosen is None and not without:
            assert 4 * LONGEST < after <= 1 << 20
        else:
            assert after == before
