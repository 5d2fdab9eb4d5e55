"""A link to QEMU's `-netdev vhost-user`: the guest's own virtio rings, without root.

Theory of operation. QEMU hands the guest's memory and its rings over (``_vhost_protocol.py``), and the core becomes
the device behind them (``csrc/link_vhost.c``): a frame costs no system call, and the guest neither cuts nor sums up
what its TCP sends, as on a :class:`Tap`. Python hears only of what is set up and torn down: the guest's driver starts
and stops its device (a reset, a reboot), QEMU goes and comes back.

The guest is trusted with nothing, QEMU with little: it could clear O_NONBLOCK of an eventfd that we share and fill its
counter, and so have the thread that drives the stack wait; and it could take the huge pages away under memory of
theirs, which would end this process.

Invariants:

1. The core has its own copies of all descriptors; the session's stay the session's.
2. A session that has failed is closed; a master that connects again starts from nothing.
3. The interface's link is up while the guest's rings run, and no longer.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Final

from lwipy._native import check, ffi, lib
from lwipy.links import _vhost_protocol as protocol
from lwipy.links._vhost_protocol import Session
from lwipy.links.qemu import QemuStream

_log = logging.getLogger("lwipy.links.vhost")

_OFFERED: Final = protocol.VERSION_1 | protocol.MRG_RXBUF | protocol.EVENT_IDX
_OFFLOADS: Final = (
    protocol.CSUM | protocol.HOST_TSO4 | protocol.HOST_TSO6
    | protocol.GUEST_CSUM | protocol.GUEST_TSO4 | protocol.GUEST_TSO6
)  # fmt: skip
#: Why a ring is not to be trusted: LWIPY_VRING_... of csrc/vhost_ring.h.
_LIES: Final = {
    1: "an index jumps",
    2: "a descriptor's number is beyond the ring",
    3: "a chain of descriptors does not end",
    4: "a buffer is not in the guest's memory",
    5: "a descriptor is of the wrong kind",
}


class VhostUser(QemuStream):
    """The device behind a guest's virtio-net, on a unix socket at `path`; Linux only.

    QEMU must share the guest's memory: see :meth:`qemu_arguments`. With `listen` it waits for QEMU to connect, without
    it connects to QEMU's chardev (`server=on`). `offload` leaves checksums and segments to the guest's side as far as
    its driver has them. Memory that could be truncated is refused (memory-backend-memfd is sealed unless told
    otherwise): with `sealed` false it is taken, and whoever truncates it ends this process. OSError: ENOTSUP where the
    system has no such thing, and those of :class:`QemuStream`; ValueError for what is no path.
    """

    def __init__(
        self, path: str | os.PathLike[str], listen: bool = True, *, offload: bool = True, sealed: bool = True
    ) -> None:
        if not sys.platform.startswith("linux") or sys.byteorder != "little":
            raise OSError(errno.ENOTSUP, "VhostUser needs Linux on a little-endian machine")
        self._session: Session | None = None
        self._lock = threading.RLock()  # of the session: the interface may be removed by any thread
        self._features = _OFFERED | (_OFFLOADS if offload else 0)
        self._sealed = sealed
        super().__init__(Path(path), listen)

    def __repr__(self) -> str:
        return f"<VhostUser {'at' if self._listener else 'to'} {self._where}>"

    def _netdev(self, legacy: bool) -> tuple[str, list[tuple[str, str]]]:
        if legacy:
            raise ValueError("QEMU has no older form of vhost-user: expected legacy=False")
        return "vhost-user", [("chardev", "lwipy")]

    def _beside(self, id: str) -> list[str]:
        path = str(Path(str(self._where)).absolute()).replace(",", ",,")
        server = "reconnect=1" if self._listener else "server=on"
        return ["-chardev", f"socket,id=lwipy,path={path},{server}"]

    def qemu_arguments(
        self,
        id: str = "net0",
        *,
        device: str = "virtio-net-pci,vectors=0",
        mac: str | None = None,
        legacy: bool = False,
        memory: str = "512M",
    ) -> str:
        """As of :class:`QemuStream`, and the guest's memory, shared: so much of it, and without an `-m` of its own.

        `vectors=0` leaves MSI-X out of the device: QEMU 7.2 without KVM crashes when the guest sets it up.
        """
        shared = f"-m {memory} -object memory-backend-memfd,id=ram0,size={memory},share=on -machine memory-backend=ram0"
        return f"{shared} {super().qemu_arguments(id, device=device, mac=mac, legacy=legacy)}"

    # -- The session -------------------------------------------------------------------------------------------------

    def _adopt(self, sock: socket.socket) -> None:
        session = Session(sock, self, self._features, sealed=self._sealed)
        try:
            self._stack.watch(sock.fileno(), self._read)
        except BaseException:
            session.close()
            raise
        self._session = session
        self._came("an emulator")

    def _is_alive(self) -> bool:
        if self._session is None:
            return False
        try:
            return self._session.socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _read(self) -> None:
        try:
            with self._lock:
                if self._session is not None:
                    self._session.read()
        except EOFError:
            self._over(None)
        except (OSError, ValueError) as error:
            _log.error("%r: the connection with the master ends (%s)", self, error)
            self._over(error if isinstance(error, OSError) else OSError(errno.EPROTO, str(error)))

    def _over(self, reason: OSError | None) -> None:
        """The session ends, and with it the rings; if it was ours to connect, it is tried again."""
        if self._session is not None:
            self._close()
            # Its frames know the core, which whoever keeps the reason would keep alive.
            self._on_lost(reason and reason.with_traceback(None))

    def _end_session(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                self._stack.unwatch(session.socket.fileno())
                session.close()

    def _close(self) -> None:
        self._end_session()
        super()._close()

    def _on_news(self, news: int, reason: int, announced: int) -> None:
        if news & lib.LWIPY_LINK_LOST:
            text = _LIES.get(announced, "") if reason == errno.EBADMSG else os.strerror(reason)
            error = OSError(reason, f"the guest's rings cannot be trusted: {text}")
            _log.error("%r: %s", self, error)
            self._over(error)

    def detach(self) -> None:
        self._end_session()
        super().detach()

    # -- The rings ---------------------------------------------------------------------------------------------------

    def start(self, session: Session) -> None:
        """For the session. OSError: the core cannot use what it was told of."""
        device = ffi.new("lwipy_vhost_device *")
        features = session.features
        device.header = 12 if features & (protocol.VERSION_1 | protocol.MRG_RXBUF) else 10
        device.mergeable = bool(features & protocol.MRG_RXBUF)
        device.event_index = bool(features & protocol.EVENT_IDX)
        device.offload = _accepted(features)
        device.count = len(session.regions)
        for region, given in zip(device.regions, session.regions, strict=False):
            region.fd, region.guest, region.user = given.fd, given.guest, given.user
            region.size, region.offset = given.size, given.offset
        copies: list[int] = []
        try:
            for ring, said in zip(device.rings, session.rings, strict=True):
                ring.size, ring.base = said.size, said.base
                ring.descriptors, ring.available, ring.used = said.descriptors, said.available, said.used
                ring.kick, ring.call = _copy(said.kick, copies), _copy(said.call, copies)
            check(self._core, lib.lwipy_vhost_open(self._core, self.interface.number, device), "the guest's rings")
        except BaseException:
            for fd in copies:
                os.close(fd)
            raise
        _log.info("%r: the guest's device runs (features %#x)", self, features)
        self._stack._after()

    def stop(self) -> tuple[int, int]:
        """For the session: where each ring is to go on."""
        bases = ffi.new("uint32_t[2]")
        if lib.lwipy_vhost_bases(self._core, self.interface.number, bases) == 0:
            super()._close()
        _log.info("%r: the guest's device stands", self)
        return bases[0], bases[1]

    def set_call(self, ring: int, fd: int) -> None:
        """For the session."""
        copies: list[int] = []
        _copy(fd, copies)
        try:
            given = copies[0] if copies else -1
            check(self._core, lib.lwipy_vhost_set_call(self._core, self.interface.number, ring, given), "a call")
        except BaseException:
            for copy in copies:
                os.close(copy)
            raise


def _accepted(features: int) -> int:
    """What the guest's driver takes, as the core's bits."""
    if not features & protocol.GUEST_CSUM:
        return 0
    offload: Any = lib.LWIPY_OFFLOAD_CSUM
    if features & protocol.GUEST_TSO4:
        offload |= lib.LWIPY_OFFLOAD_TSO4
    if features & protocol.GUEST_TSO6:
        offload |= lib.LWIPY_OFFLOAD_TSO6
    return int(offload)


def _copy(fd: int, copies: list[int]) -> int:
    if fd < 0:
        return -1
    copies.append(os.dup(fd))
    return copies[-1]


__all__ = ["VhostUser"]
