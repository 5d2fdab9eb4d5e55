"""A capture around a link."""

from __future__ import annotations

from lwipy.links.base import Link
from lwipy.links.wrapper import Wrapper
from lwipy.stages.capture import GREATEST_SNAPLEN, Capture, Target


class Pcap(Wrapper):
    """Writes what passes between an interface and `link` to a file that Wireshark reads, in C.

    `target` is a path, a descriptor or an open file; it is opened when the link is attached, and complete
    when the interface is removed or the stack closed. Directly around a link it records what that link sees
    (behind the burst limit of :attr:`Interface.pacing`); around another wrapper, what that one sees.
    `snaplen` and `start` as in :class:`lwipy.stages.Capture`.
    """

    stage: Capture

    def __init__(
        self,
        link: Link | None,
        target: Target,
        *,
        snaplen: int = GREATEST_SNAPLEN,
        start: float | None = None,
    ) -> None:
        nested = isinstance(link, Wrapper)
        super().__init__(link, Capture(target, snaplen=snaplen, at="stack" if nested else "wire", start=start))
