"""Time under the test's control: stacks that share a clock which only moves when nothing is left to do.

Theory of operation. :meth:`VirtualTime.run` polls every stack; when none has anything due, the clock jumps to the
earliest deadline. An hour of retransmissions takes milliseconds, and a run with seeds can be repeated exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lwipy.stack import Stack

if TYPE_CHECKING:
    from typing import Self


class VirtualTime:
    """A clock and the stacks that live by it. A context manager that closes them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stacks: list[Stack] = []

    def stack(self, **arguments: Any) -> Stack:
        """A stack on this clock; arguments as for :class:`lwipy.Stack`."""
        made = Stack(clock=lambda: self.now, **arguments)
        self.stacks.append(made)
        return made

    def settle(self, rounds: int = 1000) -> float | None:
        """Runs all that is due now; seconds until the next deadline of any stack, None for none."""
        delay: float | None = 0.0
        for _ in range(rounds):
            delays = [stack.poll() for stack in self.stacks if not stack.closed]
            # A later stack's poll may have given an earlier one work.
            delays += [stack._deadline() for stack in self.stacks if not stack.closed]
            due = [delay for delay in delays if delay is not None]
            delay = min(due) if due else None
            if delay is None or delay > 0:
                return delay
        return delay

    def run(self, until: Callable[[], object] | None = None, limit: float = 60.0) -> float:
        """Lets time pass until `until()` is true; virtual seconds it took.

        Without `until`, exactly `limit` seconds pass. TimeoutError when `until` stays false for `limit` seconds.
        """
        started = self.now
        while True:
            delay = self.settle()
            if until is not None and until():
                return self.now - started
            left = started + limit - self.now
            if left <= 0:
                break
            # A microsecond more than told: the core counts in whole ones.
            self.now += left if delay is None else min(max(delay, 1e-6), left)
        if until is not None:
            raise TimeoutError(f"not so after {limit} seconds of virtual time")
        return self.now - started

    def close(self) -> None:
        for stack in self.stacks:
            stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
