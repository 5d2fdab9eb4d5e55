"""A link around a link: whatever it does not change goes to the one inside.

Theory of operation. A wrapper that works in C puts a stage (``csrc/stage.h``) into its interface's chain when
it is attached, after the link inside, so that wrappers further out are nearer the stack: in
``Pcap(Impair(link), path)`` the capture sees what the stack sees, in ``Impair(Pcap(link, path))`` what the
link sees. Frames pass the stages in C on their way; a wrapper's transmit() is only the way to the link
inside.

Invariants:

1. The link inside is attached before and detached after the wrapper's own part; if that fails, it is detached
   again.
2. Without a link inside, an interface stays driven by hand or by a wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lwipy.links.base import Link

if TYPE_CHECKING:
    from lwipy.interface import Interface
    from lwipy.stages.base import Stage


class Wrapper(Link):
    """`link` is the one inside, or None. Subclasses say which :attr:`stage` they are."""

    def __init__(self, link: Link | None, stage: Stage) -> None:
        if link is not None and not isinstance(link, Link):
            raise TypeError(f"{type(self).__name__} wraps a Link or None, not {type(link).__name__}")
        self.link = link
        self.stage = stage
        self.layer = link.layer if link is not None else None
        self.takes_frames = link is not None and link.takes_frames

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.link!r}>"

    def attach(self, interface: Interface) -> None:
        if self.link is not None:
            self.link.attach(interface)
        try:
            self.stage.place(interface)
        except BaseException:
            if self.link is not None:
                self.link.detach()
            raise

    def detach(self) -> None:
        self.stage.remove()
        if self.link is not None:
            self.link.detach()

    def transmit(self, frames: list[bytes]) -> None:
        assert self.link is not None
        self.link.transmit(frames)
