"""The file of a link's unix socket."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path

import pytest
from links import Peer

import lwipy
from lwipy.links import QemuDgram, QemuStream


def test_the_socket_is_its_owners_alone_and_goes_with_the_interface(host: lwipy.Stack, path: str) -> None:
    link = QemuStream(path)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert link.address == path
    host.add_interface(link, ipv4="10.0.0.1/24").remove()
    assert not Path(path).exists()


def test_a_file_that_a_killed_program_left_is_replaced(host: lwipy.Stack, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    peer = Peer.connect(path)
    peer.arp()
    peer.close()


@pytest.mark.parametrize("make", [QemuStream, QemuDgram])
def test_an_address_in_use_is_refused_and_left_alone(path: str, make: type[QemuStream] | type[QemuDgram]) -> None:
    kind = socket.SOCK_STREAM if make is QemuStream else socket.SOCK_DGRAM
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(path)
        if kind == socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(OSError, match=path) as caught:
            make(path)
        assert caught.value.errno == errno.EADDRINUSE
        assert Path(path).exists()


def test_a_file_that_is_no_socket_is_never_removed(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        QemuStream(path)
    assert Path(path).read_text() == "precious"


def test_a_file_that_is_not_ours_any_more_stays(host: lwipy.Stack, path: str) -> None:
    nic = host.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    Path(path).unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        nic.remove()
        assert Path(path).exists()
