"""Links to QEMU: `-netdev stream` and `socket` over a stream, `-netdev dgram` over datagrams; both on this machine.

Theory of operation. :class:`QemuStream` listens (the guest's QEMU connects) or connects. Once there is a connection,
its descriptor goes to the core, which moves the frames (``csrc/link_stream.c``); Python only accepts, connects again
and tells. A guest that is started again is served again: the listener takes the next connection, the connecting side
tries again, at first after 0.1 seconds, then ever more seldom up to every 2 seconds. :class:`QemuDgram` has no
connection; its peer is where datagrams go to.

Invariants:

1. One connection at a time, as a NIC has one cable. While its other end is there, another is refused (and logged);
   once that is gone the newer one takes over, even if the loss of the older has not been told yet.
2. Each `on_connect` is followed by one `on_disconnect`, both in the thread that drives the stack; the last one, when
   the link is detached, in the thread that does so.
3. The interface's link is up while a QemuStream is connected, and always for a QemuDgram.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lwipy._native import lib
from lwipy.links._addresses import BoundSocket, Meeting, SocketAddress, for_frames, parse_meeting
from lwipy.links.descriptor import DescriptorLink

if TYPE_CHECKING:
    from lwipy._timers import Timer
    from lwipy.interface import Interface

_log = logging.getLogger("lwipy.links.qemu")

_FIRST_RETRY: Final = 0.1
_LAST_RETRY: Final = 2.0


class _QemuLink(DescriptorLink):
    """What both have: who comes and goes, and the words that QEMU is started with."""

    def __init__(self) -> None:
        super().__init__()
        #: Called when the emulator is there, and when it is gone (with the reason, or None for an orderly end).
        self.on_connect: Callable[[], None] | None = None
        self.on_disconnect: Callable[[OSError | None], None] | None = None
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether an emulator is at the other end."""
        return self._connected

    def _came(self, who: str) -> None:
        self._connected = True
        _log.info("%r: %s is there", self, who)
        if self.on_connect is not None:
            self.on_connect()

    def _left(self, reason: OSError | None) -> None:
        if not self._connected:
            return
        self._connected = False
        _log.info("%r: gone (%s)", self, reason or "orderly")
        if self.on_disconnect is not None:
            self.on_disconnect(reason)

    def netdev(self, id: str = "net0", *, legacy: bool = False) -> str:
        """The value of QEMU's option `-netdev`; `legacy` for the older `socket` instead of `stream` or `dgram`."""
        kind, options = self._netdev(legacy)
        return ",".join([kind, f"id={id}", *(f"{name}={value.replace(',', ',,')}" for name, value in options)])

    def qemu_arguments(
        self, id: str = "net0", *, device: str = "virtio-net-pci", mac: str | None = None, legacy: bool = False
    ) -> str:
        """What QEMU is to be started with, as text for a shell; `shlex.split` makes a list of it."""
        nic = f"{device},netdev={id}" + (f",mac={mac}" if mac else "")
        return shlex.join([*self._beside(id), "-netdev", self.netdev(id, legacy=legacy), "-device", nic])

    def _beside(self, id: str) -> list[str]:
        """What QEMU needs besides the two."""
        return []

    def _netdev(self, legacy: bool) -> tuple[str, list[tuple[str, str]]]:
        raise NotImplementedError


class QemuStream(_QemuLink):
    """A link over a stream socket: `address` is a path, `(host, port)` or "host:port".

    With `listen` it waits for QEMU to connect (its file is then open to this user only, and is removed in the end),
    without it connects to QEMU's own listener, as often as it takes. OSError: EADDRINUSE, EACCES and others of bind();
    ValueError for what is no address.
    """

    def __init__(self, address: SocketAddress, listen: bool = True) -> None:
        super().__init__()
        self._where = parse_meeting(address)
        self._listener: BoundSocket | None = None
        self._connecting: socket.socket | None = None
        self._timer: Timer | None = None
        self._delay = _FIRST_RETRY
        self._complaint = 0
        if listen:
            self._listener = BoundSocket(self._where, socket.SOCK_STREAM)
            self._where = self._listener.where

    def __repr__(self) -> str:
        return f"<QemuStream {'at' if self._listener else 'to'} {self._where}>"

    @property
    def address(self) -> str | tuple[str, int]:
        """The path, or host and port (the one that was chosen, if it was 0)."""
        return self._where.public

    def _netdev(self, legacy: bool) -> tuple[str, list[tuple[str, str]]]:
        if legacy:
            return "socket", [("connect" if self._listener else "listen", _legacy(self._where))]
        return "stream", [("server", "off" if self._listener else "on"), *_addr("addr", self._where)]

    # -- Life ----------------------------------------------------------------------------------------------------

    def attach(self, interface: Interface) -> None:
        super().attach(interface)
        if self._listener is not None:
            self._watch_listener()
        else:
            self._connect()

    def detach(self) -> None:
        if self._interface is not None:
            if self._listener is not None:
                self._stack.unwatch(self._listener.socket.fileno())
            self._give_up_connecting()
        super().detach()
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.close()
        self._left(None)

    def _on_lost(self, reason: OSError | None) -> None:
        self._left(reason)
        if self._listener is None and self._interface is not None:
            self._retry()

    def _is_alive(self) -> bool:
        status = self._status()
        return status.open and not status.hung_up

    def _adopt(self, sock: socket.socket) -> None:
        """A connection is there: the core has it from now on."""
        try:
            self._open(lib.LWIPY_LINK_STREAM, sock.fileno())
        except BaseException:
            sock.close()
            raise
        sock.detach()
        self._came("an emulator")

    # -- Listening -----------------------------------------------------------------------------------------------

    def _watch_listener(self) -> None:
        if self._listener is not None and self._interface is not None:
            self._stack.watch(self._listener.socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if self._interface is not None:  # else it was closed by another thread
                _log.error("%r: cannot accept (%s); trying again in a second", self, error)
                self._stack.unwatch(self._listener.socket.fileno())
                self._timer = self._stack.call_later(1.0, self._watch_listener)
            return
        if self._connected:
            if self._is_alive():
                _log.warning("%r: a second connection is refused, the first is alive", self)
                sock.close()
                return
            self._close()
            self._left(None)
        self._adopt(sock)

    # -- Connecting ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._interface is None:
            return
        self._connecting = sock = socket.socket(self._where.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if self._where.path is None:
            for_frames(sock)
        result = sock.connect_ex(self._where.address)
        if result == errno.EINPROGRESS:
            self._stack.watch(sock.fileno(), self._connection_decided, write=True)
        else:
            self._connection_result(result)

    def _connection_decided(self) -> None:
        if self._connecting is not None:
            self._stack.unwatch(self._connecting.fileno())
            self._connection_result(self._connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _connection_result(self, result: int) -> None:
        sock, self._connecting = self._connecting, None
        assert sock is not None
        if result == 0:
            self._delay, self._complaint = _FIRST_RETRY, 0
            self._adopt(sock)
            return
        sock.close()
        if result != self._complaint:
            self._complaint = result
            _log.info("%r: nobody there yet (%s); trying on", self, os.strerror(result))
        self._retry()

    def _retry(self) -> None:
        self._timer = self._stack.call_later(self._delay, self._connect)
        self._delay = min(self._delay * 2, _LAST_RETRY)

    def _give_up_connecting(self) -> None:
        sock, self._connecting = self._connecting, None
        if sock is not None:
            self._stack.unwatch(sock.fileno())
            sock.close()


class QemuDgram(_QemuLink):
    """A link over datagrams: `local` is ours, `remote` QEMU's; both paths, or both `(host, port)` or "host:port".

    Without `remote`, frames go to whoever sent the last one. OSError: those of bind(); ValueError for what is no
    address.
    """

    def __init__(self, local: SocketAddress, remote: SocketAddress | None = None) -> None:
        super().__init__()
        where = parse_meeting(local)
        self._remote = parse_meeting(remote) if remote is not None else None
        if self._remote is not None and self._remote.family != where.family:
            raise ValueError(f"{local!r} and {remote!r} are not of one kind: expected two paths, or two of one family")
        self._socket = BoundSocket(where, socket.SOCK_DGRAM)
        if self._remote is not None and self._remote.path is None:
            self._socket.socket.connect(self._remote.address)

    def __repr__(self) -> str:
        return f"<QemuDgram {self._socket.where} to {self._remote or 'whoever sends'}>"

    @property
    def address(self) -> str | tuple[str, int]:
        """Ours: the path, or host and port (the one that was chosen, if it was 0)."""
        return self._socket.where.public

    @property
    def peer(self) -> str:
        """Where frames go, as text; "" as long as that is not known."""
        return self._status().peer or (str(self._remote) if self._remote else "")

    def _netdev(self, legacy: bool) -> tuple[str, list[tuple[str, str]]]:
        if self._remote is None:
            raise ValueError(f"{self!r} was not told QEMU's own address: expected `remote`")
        if legacy:
            return "socket", [("udp", _legacy(self._socket.where)), ("localaddr", _legacy(self._remote))]
        return "dgram", [*_addr("local", self._remote), *_addr("remote", self._socket.where)]

    def attach(self, interface: Interface) -> None:
        super().attach(interface)
        path = self._remote.path if self._remote is not None else None
        self._open(lib.LWIPY_LINK_DGRAM, self._socket.socket.fileno(), path or "")
        self._socket.socket.detach()

    def detach(self) -> None:
        super().detach()
        self._socket.close()
        self._left(None)

    def _on_heard(self) -> None:
        self._came(self.peer or "an emulator")

    def _on_refused(self, reason: OSError) -> None:
        self._left(reason)


def _legacy(where: Meeting) -> str:
    if where.family != socket.AF_INET:
        raise ValueError(f"QEMU's -netdev socket knows no {where}: expected an IPv4 host and port")
    return str(where)


def _addr(name: str, where: Meeting) -> list[tuple[str, str]]:
    if where.path is not None:
        return [(f"{name}.type", "unix"), (f"{name}.path", str(Path(where.path).absolute()))]
    host, port = where.address[:2]
    return [(f"{name}.type", "inet"), (f"{name}.host", host), (f"{name}.port", str(port))]


__all__ = ["QemuDgram", "QemuStream"]
