"""What all stages share: an interface, a number, an end.

A stage object outlives its stage in the core: once that has ended (removed, or gone with its interface or
stack), the object still tells its last counters, and everything that would change it does nothing or raises
``OSError`` ENODEV.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from lwipy._native import check, lib

if TYPE_CHECKING:
    from lwipy.interface import Interface


class Stage:
    """A stage of an interface; :attr:`interface` is None before it is in place and after it has ended."""

    def __init__(self) -> None:
        self.interface: Interface | None = None
        self._number = 0

    def place(self, interface: Interface) -> None:
        """Puts the stage in place, nearest the stack unless its kind says otherwise.

        OSError: ENODEV (the interface was removed), ENOBUFS.
        """
        raise NotImplementedError

    def _place(self, interface: Interface, number: int) -> None:
        """The core has made the stage and gave it `number`, or an error."""
        if number == lib.LWIPY_ENODEV:
            raise OSError(errno.ENODEV, f"interface {interface.name} was removed")
        self._number = check(interface.stack._core, number, interface.name)
        self.interface = interface
        interface._stages.append(self)
        interface.stack._after()

    @property
    def _where(self) -> tuple[Any, int, int]:
        """Core, interface and stage, as the border wants them."""
        if self.interface is None:
            raise OSError(errno.ENODEV, f"the {type(self).__name__} is not in place (any more)")
        return self.interface.stack._core, self.interface.number, self._number

    def _check(self, result: int) -> int:
        return check(self._where[0], result)

    def remove(self) -> None:
        """Ends the stage; frames that it keeps go on at once. Removing twice is allowed."""
        interface, number = self.interface, self._number
        if interface is not None:
            self._retire()
            # The only error there can be: the stack has failed, and nothing is left to pass on.
            if lib.lwipy_stage_remove(interface.stack._core, interface.number, number) == 0:
                interface.stack._after()

    def _retire(self) -> None:
        """The stage is about to end in the core: the last look at it."""
        interface = self.interface
        if interface is not None:
            try:
                self._remember()
            except OSError:
                pass  # the stack has failed; what was known before stays
            self.interface = None
            interface._stages.remove(self)

    def _remember(self) -> None:
        """Keeps what shall still be known afterwards."""
        raise NotImplementedError

    def _look_for_trouble(self) -> None:
        """The core says that some stage ended by itself."""
