"""What a link is: it moves frames between an interface and the world outside.

A link is given to :meth:`Stack.add_interface`, which attaches it. A link may wrap another (a capture, an
impairment); it then passes on what it does not change. Links that have a descriptor move frames in C; the
others get batches of frames here, from whatever drives the stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lwipy.interface import Interface


class Link:
    """The contract.

    `layer` is 2 for Ethernet frames, 3 for IP packets, None for whatever the interface is told to be.
    `takes_frames` says that :meth:`transmit` wants the frames for the wire; not so where they are moved in C.
    """

    layer: int | None = 2
    takes_frames: bool = True

    def attach(self, interface: Interface) -> None:
        """Starts to carry frames for `interface`. Called once, before the first frame."""
        raise NotImplementedError

    def detach(self) -> None:
        """Stops, and gives back descriptors and threads. Called once; no frame is transmitted after it."""
        raise NotImplementedError

    def transmit(self, frames: list[bytes]) -> None:
        """Frames for the wire. Never blocks: what cannot be carried now is dropped and counted."""
        raise NotImplementedError
