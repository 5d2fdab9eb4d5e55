"""QEMU's datagram links."""

from __future__ import annotations

import socket
import struct
import threading

from links import arp_request, eventually, free_udp_port, is_arp_reply, is_udp, wakeups

import lwipy
from lwipy.links import QemuDgram


def test_a_datagram_is_a_frame_and_its_sender_is_who_came(host: lwipy.Stack, path: str) -> None:
    link = QemuDgram(path)
    told: list[str] = []
    link.on_connect = lambda: told.append(f"came {link.peer}")
    link.on_disconnect = lambda reason: told.append("left")
    nic = host.add_interface(link, ipv4="10.0.0.1/24")
    assert nic.link_up
    assert not link.connected
    for name in ("one", "two"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(f"{path}.{name}")
            peer.settimeout(20)
            peer.sendto(arp_request("10.0.0.1"), path)
            while not is_arp_reply(peer.recv(2000)):
                pass
            eventually(lambda name=name: told[-1:] == [f"came {path}.{name}"])  # type: ignore[misc]
            assert link.connected
        nic.add_neighbour("10.0.0.99", "02:00:00:00:00:63")
        with host.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"into the void", ("10.0.0.99", 9))
        eventually(lambda: told[-1:] == ["left"])
        assert not link.connected
    assert nic.counters.tx_error >= 2
    assert told == [f"came {path}.one", "left", f"came {path}.two", "left"]


def test_a_datagram_guest_that_does_not_read_is_waited_for(host: lwipy.Stack, path: str) -> None:
    """The kernel says of such a socket that it is writable, though the receiver's queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer, host.socket(type=socket.SOCK_DGRAM) as sock:
        peer.bind(path + ".guest")
        peer.settimeout(20)
        nic = host.add_interface(QemuDgram(path, path + ".guest"), ipv4="10.0.0.1/24")
        nic.add_neighbour("10.0.0.99", "02:00:00:00:00:63")
        for number in range(1000):
            sock.sendto(struct.pack("!I", number), ("10.0.0.99", 9))
        before = wakeups()
        threading.Event().wait(0.5)
        assert wakeups() - before < 20
        numbers: list[int] = []
        while len(numbers) < 1000:
            frame = peer.recv(2000)
            if is_udp(frame):
                numbers.append(struct.unpack("!I", frame[42:46])[0])
        assert numbers == list(range(1000))
    assert nic.counters.tx_full == nic.counters.tx_error == 0


def test_a_datagram_longer_than_the_interface_takes_is_dropped_and_counted(host: lwipy.Stack, path: str) -> None:
    nic = host.add_interface(QemuDgram(path), ipv4="10.0.0.1/24")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(path + ".guest")
        peer.settimeout(20)
        for size in (1519, 65000, 14, 0):
            peer.sendto(bytes(size), path)
        peer.sendto(arp_request("10.0.0.1"), path)
        while not is_arp_reply(peer.recv(2000)):
            pass
    assert nic.counters.rx_malformed == 4


def test_udp_datagrams_of_strangers_are_not_heard(host: lwipy.Stack) -> None:
    ours, theirs = free_udp_port(), free_udp_port()
    nic = host.add_interface(QemuDgram(("127.0.0.1", ours), ("127.0.0.1", theirs)), ipv4="10.0.0.1/24")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        peer.bind(("127.0.0.1", theirs))
        peer.settimeout(20)
        stranger.sendto(arp_request("10.0.0.1", bytes.fromhex("020000000066")), ("127.0.0.1", ours))
        peer.sendto(arp_request("10.0.0.1"), ("127.0.0.1", ours))
        while not is_arp_reply(peer.recv(2000)):
            pass
    assert nic.counters.rx_frames == 1
