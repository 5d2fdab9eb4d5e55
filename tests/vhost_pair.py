"""A stack behind VhostUser with a test in QEMU's place, and another stack that is the guest's."""

from __future__ import annotations

from collections.abc import Callable

import vhost_master as vm
from links import arp_request, is_arp_reply
from vhost_master import SIZE, Master
from vnet_device import OffloadPair

import lwipy
from lwipy.links import VhostUser


def turns(stack: lwipy.Stack) -> Callable[[], None]:
    """A connection may have to be accepted before it is read."""

    def run() -> None:
        for _ in range(3):
            stack.poll()

    return run


class VhostPair(OffloadPair):
    """The device is a guest's."""

    def __init__(self, path: str, features: int = vm.ALL, buffers: int = SIZE, *, start: bool = True) -> None:
        self.path, self.features, self.buffers, self.starts = path, features, buffers, start
        self.gone: list[OSError | None] = []
        super().__init__()
        if start:
            self.device.start(features, buffers)
            assert self.nic.link_up

    device: Master

    def plug(self, offloads: int) -> tuple[Master, VhostUser]:
        link = VhostUser(self.path)
        link.on_disconnect = self.gone.append
        return Master(self.path, self.near_poll), link

    def near_poll(self) -> None:
        turns(self.near)()

    def arp(self) -> None:
        """The link works both ways."""
        self.device.give(arp_request("10.0.0.1"))
        for _ in range(10):
            self.near.poll()
            if any(is_arp_reply(frame) for frame in self.device.take()):
                return
        raise AssertionError("no answer")
