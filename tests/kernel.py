"""This machine's own kernel as the peer: a network namespace of the test's, which leaves nothing behind.

A thread enters a fresh namespace (namespaces are a thread's) and makes there whatever the test asks for; sockets and
TAP devices stay in the namespace they were made in, whichever thread uses them later. Needs root, no tools.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, Self, TypeAlias, TypeVar

import pytest

T = TypeVar("T")
Sock: TypeAlias = socket.socket
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

# linux/rtnetlink.h, linux/if_addr.h
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR = 16, 17, 20
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE = 1, 4, 0x400
_NLMSG_ERROR = 2
_IFA_F_NODAD = 2


def _missing(what: str) -> NoReturn:
    """On a machine that runs all tests it is a failure, elsewhere a test less."""
    if os.environ.get("CI"):
        pytest.fail(f"this test needs {what}")
    pytest.skip(f"needs {what}")


def _enter_namespace() -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Kernel:
    """A namespace of its own with `lo`; use it in a `with` statement."""

    def __init__(self) -> None:
        if not Path("/dev/net/tun").exists():
            _missing("/dev/net/tun")
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        try:
            self.run(_enter_namespace)
        except PermissionError:
            self._thread.shutdown()
            _missing("root, to make a network namespace")
        self.up("lo")
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.shutdown()

    def run(self, what: Callable[[], T]) -> T:
        """Has the namespace's thread do it."""
        return self._thread.submit(what).result()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Sock:
        sock = self.run(lambda: socket.socket(family, kind, protocol))
        sock.settimeout(30)
        return sock

    def listener(self, host: str, port: int = 0) -> Sock:
        sock = self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.bind((host, port))
        sock.listen(256)
        return sock

    def connect(self, host: str, port: int) -> Sock:
        sock = self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    # -- Devices ----------------------------------------------------------------------------------------------------

    def up(self, device: str, *addresses: str) -> None:
        """Gives a device its addresses with prefixes and takes it into use."""
        index = self.run(lambda: socket.if_nametoindex(device))
        for text in addresses:
            interface = ipaddress.ip_interface(text)
            family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
            raw = interface.ip.packed
            head = struct.pack("=BBBBI", family, interface.network.prefixlen, _IFA_F_NODAD, 0, index)
            attributes = b"".join(struct.pack("=HH", 4 + len(raw), kind) + raw for kind in (1, 2))
            self._netlink(_RTM_NEWADDR, head + attributes)
        self._netlink(_RTM_NEWLINK, struct.pack("=BxHiII", 0, 0, index, 1, 1))

    def down(self, device: str) -> None:
        index = self.run(lambda: socket.if_nametoindex(device))
        self._netlink(_RTM_NEWLINK, struct.pack("=BxHiII", 0, 0, index, 0, 1))

    def delete(self, device: str) -> None:
        """As `ip link delete` does."""
        index = self.run(lambda: socket.if_nametoindex(device))
        self._netlink(_RTM_DELLINK, struct.pack("=BxHiII", 0, 0, index, 0, 0))

    def devices(self) -> list[str]:
        return self.run(lambda: [name for _, name in socket.if_nameindex()])

    def _netlink(self, kind: int, body: bytes) -> None:
        flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE
        with self.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
            sock.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
            answer = sock.recv(65536)
        (code,) = struct.unpack_from("=i", answer, 16)
        assert struct.unpack_from("=H", answer, 4)[0] == _NLMSG_ERROR
        if code:
            raise OSError(-code, os.strerror(-code))

    # -- Ping -------------------------------------------------------------------------------------------------------

    def ping(self, host: str, size: int = 56) -> bytes:
        """Sends an echo request with `size` random bytes and returns the data of its answer."""
        six = ":" in host
        family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)
        request = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 7, 1) + os.urandom(size)
        if not six:  # for IPv6 the kernel makes the sum
            request = request[:2] + struct.pack("!H", _checksum(request)) + request[4:]
        with self.socket(family, socket.SOCK_RAW, protocol) as sock:
            sock.sendto(request, (host, 0))
            while True:
                answer = sock.recv(65535)
                message = answer if six else answer[(answer[0] & 15) * 4 :]
                if message[0] == (129 if six else 0):
                    assert message[8:] == request[8:]
                    return message[8:]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (
        data[-1] << 8 if len(data) & 1 else 0
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def without_privileges(what: Callable[[], Any]) -> Any:
    """Has a thread without any capability do it (capabilities are a thread's)."""

    def bare() -> Any:
        header = struct.pack("=Ii", 0x20080522, 0)
        if _libc.capset(header, bytes(24)) != 0:
            raise OSError(errno.EPERM, "capset")
        return what()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(bare).result()
