"""Links: where an interface's frames come from and go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lwipy.links.base import Link
from lwipy.links.impair import Impair
from lwipy.links.pcap import Pcap
from lwipy.stages.pacing import Pacing

if TYPE_CHECKING:
    from lwipy.links.qemu import QemuDgram, QemuStream
    from lwipy.links.switch import Switch
    from lwipy.links.tap import Tap, Tun
    from lwipy.links.vhost import VhostUser
    from lwipy.links.websocket import WebSocketRelay

__all__ = [
    "Impair", "Link", "Pacing", "Pcap", "QemuDgram", "QemuStream", "Switch", "Tap", "Tun", "VhostUser",
    "WebSocketRelay",
]  # fmt: skip

#: Loaded when first asked for: nobody needs all of them.
_HOMES = {
    "QemuDgram": "qemu",
    "QemuStream": "qemu",
    "Switch": "switch",
    "Tap": "tap",
    "Tun": "tap",
    "VhostUser": "vhost",
    "WebSocketRelay": "websocket",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
