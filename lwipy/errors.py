"""What lwipy raises beyond the exceptions of the standard library."""

from __future__ import annotations

import errno


class StackError(OSError):
    """An assertion inside lwIP failed, or the stack was used after it was closed.

    The text is lwIP's own, with file and line. The stack cannot be used any more, except to be closed; other stacks
    and the process go on.
    """

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOTRECOVERABLE, message)


class StackClosedError(StackError):
    """The stack has been closed."""

    def __init__(self) -> None:
        super().__init__("the stack is closed")
