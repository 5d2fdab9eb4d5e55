"""Offloads with the kernel on the other side of the TAP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kernel_peer import Namespace, namespace, need
from links import eventually, exchange

import lwipy
from lwipy._native import lib
from lwipy.links import Pcap, Tap, Tun

MEGABYTE = 1 << 20
OURS = {4: "10.0.0.1", 6: "fd00::1"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KIND = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture
def kernel() -> Iterator[Namespace]:
    need()
    with namespace() as kernel:
        yield kernel


def exchanged(kernel: Namespace, stack: lwipy.Stack, family: int, size: int = 4 * MEGABYTE, **options: int) -> None:
    with (
        stack.create_server((OURS[family], 80), family=KIND[family]) as server,
        kernel.socket(KIND[family]) as there,
    ):
        for name, value in options.items():
            level = socket.IPPROTO_TCP if name.startswith("TCP") else socket.SOL_SOCKET
            there.setsockopt(level, getattr(socket, name), value)
        there.connect((OURS[family], 80))
        here, _ = server.accept()
        with here:
            exchange(here, there, size)


@FAMILIES
@pytest.mark.parametrize("make", [Tap, Tun])
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
def test_every_byte_both_ways(kernel: Namespace, make: type[Tun], offload: bool, family: int) -> None:
    link = kernel.inside(lambda: make(offload=offload))
    assert link.offload == offload
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.Stack() as stack:
        nic = stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        exchanged(kernel, stack, family)
        counters = nic.counters
        assert counters.rx_malformed == counters.rx_nomem == counters.rx_offload == counters.tx_full == 0
        if offload:
            assert counters.rx_frames < 4 * MEGABYTE // 1460, "the kernel cut what it could have left whole"
        assert stack.statistics.tcp_chkerr == 0


@pytest.mark.parametrize(("release", "takes"), [("6.5.13-arch", 0), ("6.6.0", lib.LWIPY_OFFLOAD_LONG), ("unknown", 0)])
def test_only_a_kernel_that_has_them_is_given_long_frames(
    kernel: Namespace, monkeypatch: pytest.MonkeyPatch, release: str, takes: int
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    link = kernel.inside(Tap)
    assert link.offload
    assert link._offloads & lib.LWIPY_OFFLOAD_LONG == takes
    link.detach()


@FAMILIES
@pytest.mark.parametrize("off", [("tso", "gso", "gro"), ("tx",), ("sg",)], ids="-".join)
def test_whatever_the_kernel_leaves_to_its_device(kernel: Namespace, off: tuple[str, ...], family: int) -> None:
    link = kernel.inside(Tap)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.Stack() as stack:
        stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        kernel.ethtool(link.name, **dict.fromkeys(off, False))
        exchanged(kernel, stack, family)
        assert stack.statistics.tcp_chkerr == 0


@FAMILIES
@pytest.mark.parametrize("options", [{"TCP_MAXSEG": 536}, {"SO_RCVBUF": 4096}, {"TCP_MAXSEG": 88, "SO_SNDBUF": 4096}])
def test_peers_with_small_segments_and_windows(kernel: Namespace, options: dict[str, int], family: int) -> None:
    link = kernel.inside(Tap)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.Stack() as stack:
        stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        exchanged(kernel, stack, family, MEGABYTE // 2, **options)


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
def test_what_the_kernel_passes_on_it_cuts_to_what_the_next_device_takes(kernel: Namespace, offload: bool) -> None:
    """Frames beyond 64 KB included, for which no device asks."""
    links = kernel.inside(Tap), kernel.inside(lambda: Tap(offload=offload))
    kernel.ip("link", "add", "bridge", "type", "bridge")
    kernel.set_up("bridge")
    for link in links:
        kernel.ip("link", "set", link.name, "master", "bridge")
        kernel.set_up(link.name)
    with lwipy.Stack() as near, lwipy.Stack() as far:
        near.add_interface(links[0], ipv4="10.0.0.1/24")
        far.add_interface(links[1], ipv4="10.0.0.2/24")
        with far.create_server(("10.0.0.2", 80)) as server, near.create_connection(("10.0.0.2", 80), 20) as here:
            there, _ = server.accept()
            with there:
                exchange(here, there, 8 * MEGABYTE)
        assert near.statistics.tcp_chkerr == far.statistics.tcp_chkerr == 0


def test_a_line_that_loses(kernel: Namespace) -> None:
    """The kernel's own queue drops what is beyond its rate: its sender and our receiver recover."""
    link = kernel.inside(Tap)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    kernel.tc("qdisc", "add", "dev", link.name, "root", "tbf", "rate", "200mbit", "burst", "80k", "limit", "100k")
    with lwipy.Stack() as stack:
        stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        exchanged(kernel, stack, 4)


def test_eight_streams_at_once(kernel: Namespace) -> None:
    link = kernel.inside(Tap)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.Stack() as stack, ThreadPoolExecutor(8) as pool:
        stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        pairs = []
        with stack.create_server((OURS[4], 80)) as server:
            for _ in range(8):
                there = kernel.socket()
                there.connect((OURS[4], 80))
                pairs.append((server.accept()[0], there))
        try:
            list(pool.map(lambda ends: exchange(ends[0], ends[1], 2 * MEGABYTE), pairs))
        finally:
            for here, there in pairs:
                here.close()
                there.close()


def test_a_device_that_disappears_in_mid_transfer(kernel: Namespace) -> None:
    link = kernel.inside(Tap)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    lost: list[OSError | None] = []
    link.on_lost = lost.append
    with lwipy.Stack() as stack:
        nic = stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        with stack.create_server((OURS[4], 80)) as server, kernel.socket() as there:
            there.connect((OURS[4], 80))
            here, _ = server.accept()
            with here:
                here.sendall(bytes(100_000))
                kernel.ip("link", "delete", link.name)
                eventually(lambda: lost)
                assert not nic.link_up
                here.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    here.recv(1)
    assert len(lost) == 1


def test_captures_and_offload_exclude_each_other(kernel: Namespace, tmp_path: object) -> None:
    link = kernel.inside(Tap)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.Stack() as stack:
        nic = stack.add_interface(Pcap(link, f"{tmp_path}/tap.pcap"), ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        exchanged(kernel, stack, 4, MEGABYTE)
        counters = nic.counters
        assert counters.rx_malformed == counters.rx_offload == 0
        assert counters.rx_frames >= MEGABYTE // 1460
