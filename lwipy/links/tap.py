"""Links to the machine's own kernel: a TAP device (Ethernet) or a TUN device (IP), Linux only.

Theory of operation. The device is the kernel's end of a cable whose other end is the stack's interface. It is made, or
one that is there is taken, when the object is made; what the kernel does with its end (addresses, a bridge, a
namespace) is the user's business, by `ip`. Frames pass in C: behind virtio-net headers where the kernel has them
(``csrc/link_vnet.c``), and then it sums up and cuts what TCP sends, and leaves whole what its own TCP has not cut;
one by one where not (``csrc/link_tun.c``).

Invariants:

1. The descriptor is this object's until attach(), the core's from then on.
2. Nothing is asked of the device that it has not agreed to (``offload`` is what it has).
3. A device that is not persistent goes when the link is detached, the last one of several queues; the interface's link
   goes down if the device goes.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import re
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lwipy._native import check, lib
from lwipy.links.descriptor import DescriptorLink

if TYPE_CHECKING:
    from typing import Self

    from lwipy.interface import Interface

_log = logging.getLogger("lwipy.links.tap")

# linux/if_tun.h
_DEVICE: Final = "/dev/net/tun"
_WRITE: Final = 0x80000000 if platform.machine().startswith(("mips", "ppc", "sparc", "alpha")) else 0x40000000
_TUNSETIFF: Final = _WRITE | 0x454CA
_TUNSETPERSIST: Final = _WRITE | 0x454CB
_IFF_TUN: Final = 0x0001
_IFF_TAP: Final = 0x0002
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUNGETFEATURES: Final = (_WRITE >> 1 if _WRITE == 0x80000000 else 0x80000000) | 0x454CF
_TUNSETOFFLOAD: Final = _WRITE | 0x454D0
_TUNSETVNETHDRSZ: Final = _WRITE | 0x454D8
_VNET_HEADER: Final = 10  # bytes
# TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6; the core's bits are the same
_OFFLOADS: Final = (1 | 2 | 4, 1)
# Since when the kernel has IPv4 packets beyond 64 KB, and a TUN device's memory for frames of that length.
_LONG_FRAMES_SINCE: Final = (6, 6)
_IFREQ: Final = struct.Struct("16sH22x")

_LONGEST_NAME: Final = 15


class Tun(DescriptorLink):
    """A TUN device: IP packets to and from the kernel.

    `name` is the device's, made if it is not there; without it the kernel chooses one (see :attr:`name`).
    `persistent` has it stay when the link is gone. `offload` leaves TCP's checksums and segments to the kernel as far
    as it will have them (see :attr:`offload`), and only while the interface has no capture and no other stage: those
    see real frames. With `queue` the link has one of several queues of the device (see :meth:`queues`). OSError:
    PermissionError without CAP_NET_ADMIN for a device that is not this user's own; FileNotFoundError where the kernel
    has no such devices; EBUSY when another program has it; EINVAL when it is of another kind. ValueError for what
    cannot be a name.
    """

    layer: int | None = 3
    _kind = "tun"
    _flag = _IFF_TUN

    def __init__(
        self, name: str | None = None, *, persistent: bool = False, offload: bool = True, queue: bool = False
    ) -> None:
        super().__init__()
        self._fd = -1
        self._queue = _IFF_MULTI_QUEUE if queue else 0
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOTSUP, f"{type(self).__name__} is Linux's: this system has no {_DEVICE}")
        wanted = _checked(name or f"{self._kind}%d", name)
        self._fd = self._device()
        try:
            self._headers = offload and self._has_headers()
            self.name = self._claim(wanted)
            self._offloads = self._negotiate() if self._headers else 0
            if persistent:
                fcntl.ioctl(self._fd, _TUNSETPERSIST, 1)
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            raise self._explained(error, name) from None
        #: Called when the device has vanished, in the thread that drives the stack.
        self.on_lost: Callable[[OSError | None], None] | None = None

    @classmethod
    def queues(
        cls, count: int, name: str | None = None, *, persistent: bool = False, offload: bool = True
    ) -> list[Self]:
        """`count` queues of one device, each a link: one for each stack of a :class:`lwipy.StackGroup`.

        The kernel brings a flow's frames to the queue that the flow's answers came from, while it remembers. OSError as
        above; EINVAL for a device that was made without `multi_queue`, E2BIG for more queues than it can have.
        """
        if count < 1:
            raise ValueError(f"{count} queues are out of range: expected at least 1")
        made: list[Self] = []
        try:
            for _ in range(count):
                made.append(cls(name, persistent=persistent, offload=offload, queue=True))
                name = made[0].name
        except BaseException:
            for link in made:
                link.detach()
            raise
        return made

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    # -- The device ------------------------------------------------------------------------------------------------

    def _device(self) -> int:
        try:
            return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            text = "the kernel has no TUN/TAP devices: try `modprobe tun`"
            raise FileNotFoundError(errno.ENOENT, text, _DEVICE) from None

    def _claim(self, name: str) -> str:
        headers = _IFF_VNET_HDR if self._headers else 0
        request = _IFREQ.pack(name.encode(), self._flag | self._queue | _IFF_NO_PI | headers)
        answer = fcntl.ioctl(self._fd, _TUNSETIFF, request)
        device: bytes = _IFREQ.unpack(answer)[0]
        return device.partition(b"\0")[0].decode()

    def _has_headers(self) -> bool:
        try:
            (features,) = struct.unpack("=I", fcntl.ioctl(self._fd, _TUNGETFEATURES, bytes(4)))
        except OSError:
            return False
        return bool(features & _IFF_VNET_HDR)

    def _negotiate(self) -> int:
        """What the device will do: all, or checksums alone, or nothing."""
        fcntl.ioctl(self._fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HEADER))
        for offloads in _OFFLOADS:
            try:
                fcntl.ioctl(self._fd, _TUNSETOFFLOAD, offloads)
            except OSError:
                continue
            is_all = offloads == _OFFLOADS[0]
            return offloads | lib.LWIPY_OFFLOAD_LONG if is_all and _kernel() >= _LONG_FRAMES_SINCE else offloads
        return 0

    @property
    def offload(self) -> bool:
        """Whether the kernel cuts and sums up for this link's TCP."""
        return self._offloads & _OFFLOADS[0] == _OFFLOADS[0]

    def _explained(self, error: OSError, name: str | None) -> OSError:
        what = name or f"a new {self._kind.upper()} device"
        if error.errno == errno.EPERM:
            several = " multi_queue" if self._queue else ""
            make = f"ip tuntap add dev {name or 'NAME'} mode {self._kind} user $USER{several}"
            text = f"{what} needs CAP_NET_ADMIN, or a device that root made for you: `{make}`"
            return PermissionError(errno.EPERM, text)
        number = error.errno or errno.EIO
        kind = f"it is there and is no {self._kind.upper()} device{' with several queues' if self._queue else ''}"
        reason = {errno.EBUSY: "another program has it", errno.EINVAL: kind}.get(number, "TUNSETIFF")
        return OSError(number, f"{os.strerror(number)}: {what}: {reason}")

    # -- The link --------------------------------------------------------------------------------------------------

    def attach(self, interface: Interface) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, f"{self!r} was detached before")
        super().attach(interface)
        try:
            self._open(lib.LWIPY_LINK_VNET if self._headers else lib.LWIPY_LINK_TUN, self._fd)
        except BaseException:
            super().detach()
            raise
        self._fd = -1
        if self._headers:
            check(self._core, lib.lwipy_link_set_offload(self._core, interface.number, self._offloads), repr(self))

    def detach(self) -> None:
        super().detach()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _on_lost(self, reason: OSError | None) -> None:
        _log.warning("%r has vanished (%s)", self, reason or "end")
        if self.on_lost is not None:
            self.on_lost(reason)


class Tap(Tun):
    """A TAP device: Ethernet frames to and from the kernel. Otherwise as :class:`Tun`."""

    layer = 2
    _kind = "tap"
    _flag = _IFF_TAP


def _kernel() -> tuple[int, ...]:
    """The kernel's version, as far as it is known: (6, 12)."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return tuple(map(int, found.groups())) if found else (0, 0)


def _checked(wanted: str, name: str | None) -> str:
    """`wanted`, if the kernel can call a device so; a template of ours may have its %d."""
    if len(wanted.encode()) > _LONGEST_NAME or wanted in (".", "..") or any(c in "/:" or c.isspace() for c in wanted):
        expected = f"expected up to {_LONGEST_NAME} bytes without '/', ':' and spaces"
        raise ValueError(f"{name!r} cannot name a device: {expected}")
    if name is not None and "%" in name:
        raise ValueError(f"{name!r} is a template: leave the name out and the kernel chooses one")
    return wanted


__all__ = ["Tap", "Tun"]
