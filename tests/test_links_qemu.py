"""Links to QEMU, on real sockets: two stacks with one between them, and a peer that speaks the framing by hand."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import socket
import struct
import threading
from pathlib import Path

import pytest
from links import LONGEST, Peer, arp_request, eventually, exchange, free_udp_port, is_arp_reply, is_udp

import lwipy
from lwipy.links import Link, QemuDgram, QemuStream


def pair_of_links(kind: str, path: str) -> tuple[Link, Link]:
    """The host's link and the guest's, joined."""
    if kind == "unix stream":
        return QemuStream(path), QemuStream(path, listen=False)
    if kind == "tcp stream":
        listening = QemuStream(("127.0.0.1", 0))
        return listening, QemuStream(listening.address, listen=False)
    if kind == "unix dgram":
        return QemuDgram(path, path + ".guest"), QemuDgram(path + ".guest", path)
    if kind == "unix dgram, learned":
        return QemuDgram(path), QemuDgram(path + ".guest", path)
    a, b = free_udp_port(), free_udp_port()
    return QemuDgram(("127.0.0.1", a), f"127.0.0.1:{b}"), QemuDgram(f":{b}", ("127.0.0.1", a))


# -- Two stacks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unix stream", "tcp stream", "unix dgram", "unix dgram, learned", "udp"])
def test_a_megabyte_each_way(host: lwipy.Stack, guest: lwipy.Stack, path: str, kind: str) -> None:
    ours, theirs = pair_of_links(kind, path)
    host_nic = host.add_interface(ours, ipv4="10.0.0.1/24")
    guest_nic = guest.add_interface(theirs, ipv4="10.0.0.2/24")
    eventually(lambda: host_nic.link_up and guest_nic.link_up)
    with (
        host.create_server(("10.0.0.1", 80)) as server,
        guest.create_connection(("10.0.0.1", 80), timeout=20) as there,
    ):
        here, address = server.accept()
        assert address[0] == "10.0.0.2"
        with here:
            exchange(here, there)
    for nic in (host_nic, guest_nic):
        counters = nic.counters
        assert counters.rx_bytes > 1 << 20
        assert counters.tx_bytes > 1 << 20
        assert counters.rx_malformed == counters.rx_down == counters.rx_nomem == counters.tx_full == 0


def test_frames_longer_than_a_page_cross_whole(host: lwipy.Stack, guest: lwipy.Stack, path: str) -> None:
    nic = host.add_interface(QemuStream(path), ipv4="10.0.0.1/24", mtu=LONGEST)
    guest.add_interface(QemuStream(path, listen=False), ipv4="10.0.0.2/24", mtu=LONGEST)
    eventually(lambda: nic.link_up)
    here, there = host.socket(type=socket.SOCK_DGRAM), guest.socket(type=socket.SOCK_DGRAM)
    with here, there:
        here.bind(("10.0.0.1", 53))
        here.settimeout(20)
        there.sendto(b"warm up", ("10.0.0.1", 53))
        assert here.recvfrom(100)[0] == b"warm up"
        data = os.urandom(LONGEST - 28)
        there.sendto(data, ("10.0.0.1", 53))
        assert here.recv(65535) == data


def test_a_stack_driven_by_hand_serves_its_link_in_poll(path: str) -> None:
    stack = lwipy.Stack()
    nic = stack.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    assert not nic.link_up
    stack.poll()
    assert nic.link_up
    peer.send(arp_request("10.0.0.1"))
    stack.poll()
    while not is_arp_reply(peer.receive()):
        pass
    peer.close()
    stack.poll()
    assert not nic.link_up
    stack.close()


# -- The framing ----------------------------------------------------------------------------------------------


def test_bytes_that_come_one_by_one_are_frames_all_the_same(host: lwipy.Stack, path: str) -> None:
    host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    frame = arp_request("10.0.0.1")
    for byte in struct.pack("!I", len(frame)) + frame:
        peer.socket.sendall(bytes([byte]))
    while not is_arp_reply(peer.receive()):
        pass
    peer.close()


def test_many_frames_in_one_write_all_arrive(host: lwipy.Stack, path: str) -> None:
    nic = host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    peer.send(*[arp_request("10.0.0.1")] * 5000)
    for _ in range(5000):
        while not is_arp_reply(peer.receive()):
            pass
    assert nic.counters.rx_frames == 5000
    peer.close()


@pytest.mark.parametrize("length", [0, 13, 65536 + 18, 0x80000000, 0xFFFFFFFF])
def test_a_length_that_lies_ends_the_connection_and_is_counted(
    host: lwipy.Stack, path: str, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    link = QemuStream(path)
    reasons: list[OSError | None] = []
    link.on_disconnect = reasons.append
    nic = host.add_interface(link, ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    peer.arp()
    with caplog.at_level(logging.INFO, "lwipy.links.qemu"):
        peer.socket.sendall(struct.pack("!I", length) + bytes(100))
        assert peer.at_end()
        eventually(lambda: reasons)
    assert not nic.link_up
    assert nic.counters.rx_malformed == 1
    assert isinstance(reasons[0], OSError)
    assert reasons[0].errno == errno.EPROTO
    assert f"{length} bytes" in str(reasons[0])
    assert f"{length} bytes" in caplog.text
    again = Peer.connect(path)
    again.arp()
    peer.close()
    again.close()


def test_a_frame_longer_than_the_interface_takes_is_dropped_and_counted(host: lwipy.Stack, path: str) -> None:
    nic = host.add_interface(QemuStream(path), ipv4="10.0.0.1/24", mtu=1500)
    peer = Peer.connect(path)
    peer.send(bytes(1519), bytes(65535 + 18), bytes(14))
    peer.arp()
    assert nic.counters.rx_malformed == 3
    peer.close()


def test_an_end_in_the_middle_of_a_frame_leaves_nothing_behind(host: lwipy.Stack, path: str) -> None:
    link = QemuStream(path)
    nic = host.add_interface(link, ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    peer.arp()
    peer.socket.sendall(struct.pack("!I", 1000) + bytes(500))
    peer.close()
    eventually(lambda: not link.connected)
    again = Peer.connect(path)
    again.arp()
    assert nic.counters.rx_malformed == 0
    again.close()


def test_a_peer_that_does_not_read_costs_frames_but_no_time_and_no_half_frame(host: lwipy.Stack, path: str) -> None:
    nic = host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    peer.arp()
    nic.add_neighbour("10.0.0.99", "02:00:00:00:00:63")
    with host.socket(type=socket.SOCK_DGRAM) as sock:
        for number in range(5000):
            sock.sendto(struct.pack("!I", number) + bytes(1400), ("10.0.0.99", 9))
    dropped = nic.counters.tx_full
    assert dropped > 0
    numbers = []
    peer.send(arp_request("10.0.0.1"))
    while not is_arp_reply(frame := peer.receive()):
        if is_udp(frame):
            numbers.append(struct.unpack("!I", frame[42:46])[0])
            assert len(frame) == 14 + 20 + 8 + 1404
    assert numbers == list(range(len(numbers)))
    assert len(numbers) + dropped >= 5000
    peer.close()


# -- Coming and going -------------------------------------------------------------------------------------------


def test_the_listener_serves_one_guest_after_the_other(host: lwipy.Stack, path: str) -> None:
    link = QemuStream(path)
    told: list[str] = []
    threads: set[str] = set()

    def tell(what: str) -> None:
        told.append(what)
        threads.add(threading.current_thread().name)

    link.on_connect = lambda: tell("came")
    link.on_disconnect = lambda reason: tell("left" if reason is None else str(reason))
    nic = host.add_interface(link, ipv4="10.0.0.1/24")
    assert not nic.link_up
    assert not link.connected
    for _ in range(3):
        peer = Peer.connect(path)
        peer.arp()
        assert nic.link_up
        assert link.connected
        peer.close()
        eventually(lambda: told[-1:] == ["left"])
        assert not link.connected
        assert not nic.link_up
    assert told == ["came", "left"] * 3
    assert threads == {"lwipy"}


def test_a_connection_that_is_reset_is_reported_as_such(host: lwipy.Stack) -> None:
    link = QemuStream("127.0.0.1:0")
    reasons: list[OSError | None] = []
    link.on_disconnect = reasons.append
    host.add_interface(link, ipv4="10.0.0.1/24")
    peer = Peer.connect(link.address)
    peer.arp()
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    eventually(lambda: reasons)
    assert isinstance(reasons[0], ConnectionResetError)


def test_a_second_guest_is_refused_while_the_first_is_alive(
    host: lwipy.Stack, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    first = Peer.connect(path)
    first.arp()
    second = Peer.connect(path)
    assert second.at_end()
    assert "second connection is refused" in caplog.text
    first.arp()
    first.close()
    second.close()


def test_a_guest_that_restarts_at_once_takes_over(path: str) -> None:
    """The new connection waits before the end of the old one was seen, with data still to be read before that end."""
    stack = lwipy.Stack()
    link = QemuStream(path)
    told: list[str] = []
    link.on_connect = lambda: told.append("came")
    link.on_disconnect = lambda reason: told.append("left")
    nic = stack.add_interface(link, ipv4="10.0.0.1/24")
    old = Peer.connect(path)
    stack.poll()
    old.send(*[arp_request("10.0.0.1")] * 10)
    old.close()
    new = Peer.connect(path)
    while told != ["came", "left", "came"]:
        stack.poll()
    assert nic.link_up
    new.send(arp_request("10.0.0.1"))
    stack.poll()
    while not is_arp_reply(new.receive()):
        pass
    stack.close()
    assert told == ["came", "left", "came", "left"]
    new.close()


def test_the_connecting_side_waits_for_qemu_and_comes_back_to_it(host: lwipy.Stack, path: str) -> None:
    link = QemuStream(path, listen=False)
    nic = host.add_interface(link, ipv4="10.0.0.1/24")
    for _ in range(2):
        assert not nic.link_up
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(20)
            accepted, _ = listener.accept()
            peer = Peer(accepted)
            peer.arp()
            assert nic.link_up
            peer.close()
        eventually(lambda: not link.connected)
        Path(path).unlink()


def test_the_connecting_side_over_tcp_survives_a_refusal(host: lwipy.Stack) -> None:
    port = free_udp_port()
    link = QemuStream(("127.0.0.1", port), listen=False)
    host.add_interface(link, ipv4="10.0.0.1/24")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        listener.settimeout(20)
        accepted, _ = listener.accept()
        peer = Peer(accepted)
        peer.arp()
        peer.close()


def test_connections_survive_the_guests_absence(host: lwipy.Stack, guest: lwipy.Stack, path: str) -> None:
    host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    first = guest.add_interface(QemuStream(path, listen=False), mac="02:00:00:00:00:02", ipv4="10.0.0.2/24")
    with (
        host.create_server(("10.0.0.1", 80)) as server,
        guest.create_connection(("10.0.0.1", 80), timeout=20) as there,
    ):
        here, _ = server.accept()
        with here:
            assert first.link is not None
            first.link.detach()
            here.sendall(b"said into the void")
            first._link = None
            again = QemuStream(path, listen=False)
            again.attach(first)
            first._link = again
            assert there.recv(100) == b"said into the void"


# -- Arguments ----------------------------------------------------------------------------------------------------


def test_the_words_that_qemu_is_started_with(path: str, tmp_path: Path) -> None:
    listening, connecting = QemuStream(path), QemuStream(str(tmp_path / "a,b c"), listen=False)
    assert listening.netdev() == f"stream,id=net0,server=off,addr.type=unix,addr.path={path}"
    assert connecting.netdev("lan") == f"stream,id=lan,server=on,addr.type=unix,addr.path={tmp_path}/a,,b c"
    assert shlex.split(connecting.qemu_arguments(mac="52:54:00:12:34:56")) == [
        "-netdev", f"stream,id=net0,server=on,addr.type=unix,addr.path={tmp_path}/a,,b c",
        "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56",
    ]  # fmt: skip
    tcp = QemuStream("127.0.0.1:5555", listen=False)
    assert tcp.netdev() == "stream,id=net0,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=5555"
    assert tcp.netdev(legacy=True) == "socket,id=net0,listen=127.0.0.1:5555"
    dgram = QemuDgram(path + ".d", path + ".q")
    assert dgram.netdev() == (
        f"dgram,id=net0,local.type=unix,local.path={path}.q,remote.type=unix,remote.path={path}.d"
    )
    udp = QemuDgram(":0", "127.0.0.1:5556")
    assert udp.netdev(legacy=True) == f"socket,id=net0,udp=127.0.0.1:{udp.address[1]},localaddr=127.0.0.1:5556"
    with pytest.raises(ValueError, match="expected an IPv4 host and port"):
        listening.netdev(legacy=True)
    for link in (listening, dgram, udp):
        link.detach()


@pytest.mark.parametrize("address", ["127.0.0.1:70000", ("127.0.0.1", -1), ("127.0.0.1", "80"), "", "a\0b", "x" * 200])
def test_what_is_no_address_is_refused_by_name(address: str | tuple[str, int]) -> None:
    with pytest.raises((ValueError, OverflowError, TypeError)):
        QemuStream(address)


def test_addresses_of_two_kinds_do_not_go_together(path: str) -> None:
    with pytest.raises(ValueError, match="not of one kind"):
        QemuDgram(path, "127.0.0.1:5555")


def test_a_link_serves_one_interface(host: lwipy.Stack, path: str) -> None:
    link = QemuStream(path)
    host.add_interface(link, name="one")
    with pytest.raises(OSError, match="attached to one already"):
        host.add_interface(link, name="two")
    assert list(host.interfaces) == ["one"]
