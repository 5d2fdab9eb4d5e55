"""A guest in QEMU, without KVM: a PC of 2009 with one serial port and one NIC.

The NIC's other end is any `-netdev` of QEMU's, given without its id: `user`, `stream,server=off,addr.type=unix,...`,
`dgram,...`, `socket,connect=...`.  `/dev/kvm` is never used: a test's outcome must not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .console import Guest
from .image import AMD64, KERNEL_OPTIONS, image


class QemuGuest(Guest):
    """Boots QEMU (init after 2 to 4 s) and runs `script` in the guest; see `Guest` for how to use it.

    netdev: QEMU's word for the far side of the NIC; nic: a device of QEMU's that the image has a driver for
    ("virtio-net-pci", "ne2k_pci", "e1000"); mac: the NIC's address; memory in MiB; extra: more options for QEMU.
    """

    def __init__(
        self,
        script: str,
        *,
        netdev: str,
        nic: str = "virtio-net-pci",
        mac: str = "52:54:00:12:34:56",
        memory: int = 192,
        extra: Sequence[str] = (),
    ) -> None:
        built = image(AMD64)
        kind, comma, options = netdev.partition(",")
        command = [
            *("qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-cpu", "max", "-m", str(memory)),
            *("-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"),
            *("-kernel", str(built.kernel), "-initrd", str(built.initrd), "-append", KERNEL_OPTIONS),
            *("-netdev", f"{kind},id=net0{comma}{options}", "-device", f"{nic},netdev=net0,mac={mac}"),
            *extra,
        ]
        super().__init__(command, f"nic\n{script}")
