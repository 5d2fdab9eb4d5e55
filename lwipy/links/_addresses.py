"""Where an emulator is met: a path for a unix socket, or a host and a port.

Text with a colon before a number at its end is a host and a port (``127.0.0.1:5555``, ``[::1]:5555``), unless there is
a slash in it; all other text is a path. An empty host is the loopback.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from lwipy.addresses import parse_port

SocketAddress: TypeAlias = str | os.PathLike[str] | tuple[str, int]

#: Asked for, bytes; systems allow less. A burst that does not fit is lost.
_DGRAM_BUFFER: Final = 4 << 20

_HOST_AND_PORT = re.compile(r"(?:\[(?P<six>[^]/]*)\]|(?P<host>[^:/]*)):(?P<port>\d+)")


@dataclass(frozen=True)
class Meeting:
    """An address of the host's: `family` as the socket module has it, `address` as its sockets take it."""

    family: int
    address: Any

    @property
    def path(self) -> str | None:
        return self.address if self.family == socket.AF_UNIX else None

    @property
    def public(self) -> str | tuple[str, int]:
        """As users have it: the path, or host and port."""
        if self.family == socket.AF_UNIX:
            return str(self.address)
        return str(self.address[0]), int(self.address[1])

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return str(self.address)
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def bound(self, sock: socket.socket) -> Meeting:
        """The same after bind(), which chose the port if it was 0."""
        return self if self.family == socket.AF_UNIX else Meeting(self.family, sock.getsockname())


def parse_meeting(where: SocketAddress) -> Meeting:
    """ValueError and TypeError name what is wrong; OSError (gaierror) for a host that is not known."""
    if isinstance(where, tuple):
        return _internet(where[0], parse_port(where[1]))
    text = os.fspath(where)
    if not isinstance(text, str):
        raise TypeError(f"{where!r} is not an address: expected a path, 'host:port' or (host, port)")
    if isinstance(where, str) and (match := _HOST_AND_PORT.fullmatch(text)):
        return _internet(match["six"] or match["host"] or "", parse_port(int(match["port"])))
    if not text or "\0" in text:
        raise ValueError(f"{where!r} is not a path for a unix socket")
    if len(os.fsencode(text)) > 107:
        raise ValueError(f"{text!r} is too long for a unix socket: expected at most 107 bytes")
    return Meeting(socket.AF_UNIX, text)


def _internet(host: str, port: int) -> Meeting:
    found = socket.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    return Meeting(family, address)


class BoundSocket:
    """A socket bound to a :class:`Meeting`, which takes its file away when it is closed.

    A unix socket's file is open to its owner only. One that is there already is replaced if nobody listens on it, as a
    program that was killed leaves it behind; OSError EADDRINUSE otherwise.
    """

    def __init__(self, where: Meeting, kind: socket.SocketKind) -> None:
        self._file: tuple[int, int] | None = None
        self.socket = socket.socket(where.family, kind)
        try:
            self.socket.setblocking(False)
            if where.path is not None:
                _remove_stale(where.path, kind)
                os.fchmod(self.socket.fileno(), 0o600)  # Linux makes the file with this mode
            elif kind == socket.SOCK_STREAM:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                for_frames(self.socket)  # what it accepts inherits it
            if kind == socket.SOCK_DGRAM:
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    self.socket.setsockopt(socket.SOL_SOCKET, option, _DGRAM_BUFFER)
            self.socket.bind(where.address)
            if where.path is not None:
                Path(where.path).chmod(0o600)
                self._file = _identity(where.path)
            if kind == socket.SOCK_STREAM:
                self.socket.listen(8)
        except OSError as error:
            self.socket.close()
            raise type(error)(error.errno, f"{error.strerror}: {where}") from None
        self.where = where.bound(self.socket)

    def close(self) -> None:
        """The socket, unless it was detached, and its file if it is still ours."""
        self.socket.close()
        self.forget()

    def forget(self) -> None:
        """Takes the file away."""
        path, self._file, file = self.where.path, None, self._file
        if path is not None and file is not None and _identity(path) == file:
            Path(path).unlink(missing_ok=True)


def for_frames(sock: socket.socket) -> None:
    """Has a TCP socket that is not yet connected carry frames: at once, and without pacing.

    A kernel set to BBR paces even its loopback, which costs several times what the frames do.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: str, kind: socket.SocketKind) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "There is a file, and it is no socket")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:
            return  # somebody is there: bind() will say so
