"""A trio task that drives a stack: no thread, no polling, one wake-up for all that is ready.

Theory of operation. The task polls the stack and sleeps until the core's own descriptor is readable, which it is when
frames came and when any operation, of any task or thread, left something to do; or until the deadline that
:meth:`Stack.poll` returned. It is a system task, so it belongs to no nursery of the program's, and whoever entered
:func:`driving` first may leave it first.

Invariants:

1. The stack's callbacks run in this task, inside :meth:`Stack.poll` and nowhere else.
2. An idle stack costs nothing: without a deadline the task sleeps until the descriptor is readable.
3. What fails (a callback, lwIP itself) ends the task, cancels every ``driving`` block of the stack and is raised there.
4. The task holds the core while it runs, so the descriptor outlives its waiting; ``driving`` returns after its end.
"""

from __future__ import annotations

import contextvars
import math
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from lwipy._driver import Driver
from lwipy._native import lib
from lwipy.endpoints import Endpoint, Event
from lwipy.errors import StackError

if TYPE_CHECKING:
    from lwipy.stack import Stack


class TrioDriver(Driver):
    """Drives one stack in the running trio. Made by :func:`driving`."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        if stack._clock is not None and stack._clock != trio.current_time:
            raise ValueError("the stack's clock is not trio's: give Stack(clock=trio.current_time), or call poll()")
        self.token = trio.lowlevel.current_trio_token()
        self.scopes: set[trio.CancelScope] = set()
        self.serving = False
        self.failure: Exception | None = None
        self.ended = trio.Event()
        self._core: Any = stack._core
        self._thread = threading.get_ident()
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<TrioDriver {'stopped' if self._scope.cancel_called else 'of'} {self.stack!r}>"

    def start(self) -> None:
        descriptor = lib.lwipy_wake_fd(self._core)
        if descriptor < 0:
            raise NotImplementedError("trio cannot watch a stack on this system: drive it by a thread, `with stack:`")
        self.stack._drive(self)
        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(self._run, descriptor, name=repr(self), context=context)

    def stop(self) -> None:
        """Gives the stack back; from any thread."""
        if self.stack._driver is self:
            self.stack._drive(None)
        if self._is_own_thread():
            self._scope.cancel()
            return
        try:
            self.token.run_sync_soon(self._scope.cancel, idempotent=True)
        except trio.RunFinishedError:
            pass  # and with it the task

    # -- What the stack calls ------------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Nothing to do: the core makes its descriptor readable by itself."""

    def kick_timer(self) -> None:
        if not (self.serving and self._is_own_thread()):
            lib.lwipy_wake(self._core)

    def wait(self, lock: threading.Lock, deadline: float | None) -> bool:
        if self._is_own_thread():
            raise RuntimeError("cannot block in the thread of the trio that drives the stack")
        return lock.acquire(timeout=-1 if deadline is None else max(0.0, deadline - self.stack.time()))

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread

    # -- The task ------------------------------------------------------------------------------------------------------

    async def _run(self, descriptor: int) -> None:
        try:
            with self._scope:
                while not self._scope.cancel_called:
                    await self._sleep(descriptor, self._serve())
        except Exception as error:
            self.stop()
            self.failure = error
            for scope in self.scopes:
                scope.cancel()
            if isinstance(error, StackError):
                self.stack._dispatcher.tell_failure()
        finally:
            self.stop()
            self.ended.set()

    def _serve(self) -> float | None:
        lib.lwipy_wake_clear(self._core)
        self.serving = True
        try:
            return self.stack.poll()
        except StackError:
            if self.stack.closed:
                return None  # by a callback, or another thread, which has told this driver to stop
            raise
        finally:
            self.serving = False

    async def _sleep(self, descriptor: int, delay: float | None) -> None:
        if delay is not None and delay <= 0:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(deadline=math.inf if delay is None else trio.current_time() + delay):
            await trio.lowlevel.wait_readable(descriptor)


@asynccontextmanager
async def driving(stack: Stack) -> AsyncIterator[Stack]:
    """Drives the stack in the running trio: ``async with driving(stack): ...``. May be nested, and in several tasks.

    On leaving the stack is given back, open: what it still had to send waits for whoever drives it next. What a
    callback of the stack raises, and lwIP's own failure (:class:`lwipy.StackError`), cancels the block and is raised
    from it. RuntimeError when a thread or an event loop drives it; ValueError when its clock is not trio's.
    """
    driver = stack._driver
    if type(driver) is Driver:
        driver = TrioDriver(stack)
        driver.start()
    elif not isinstance(driver, TrioDriver) or driver.token is not trio.lowlevel.current_trio_token():
        raise RuntimeError(f"the stack is driven already, by {driver!r}")
    try:
        with trio.CancelScope() as scope:
            driver.scopes.add(scope)
            yield stack
    finally:
        driver.scopes.discard(scope)
        if not driver.scopes:
            driver.stop()
            with trio.CancelScope(shield=True):
                await driver.ended.wait()
        if driver.failure is not None:
            _raise_or_note(driver.failure)


def _raise_or_note(failure: Exception) -> None:
    """Raises what ended the driver, unless the program's own error is on its way already: that one tells of it."""
    error = sys.exception()
    if isinstance(error, Exception):
        error.add_note(f"what drives the stack had failed before: {failure!r}")
    else:
        raise failure


def check_driven(stack: Stack) -> None:
    """RuntimeError when nothing drives the stack, so nobody would ever be woken.

    A stack with a clock of its own is left to its owner's poll().
    """
    if type(stack._driver) is Driver and stack._clock is None and not stack.closed:
        raise RuntimeError("nothing drives the stack: use `async with lwipy.trio.driving(stack)`, or `with stack:`")


def deliver(endpoint: Endpoint, handler: Callable[[], object]) -> None:
    """Has `handler` called in this trio's thread when something happened to an endpoint, whoever drives its stack."""
    stack = endpoint.stack
    token = trio.lowlevel.current_trio_token()

    def on_event(_: Event) -> None:
        driver = stack._driver
        if isinstance(driver, TrioDriver) and driver.serving and driver.token is token:
            handler()
            return
        try:
            token.run_sync_soon(handler, idempotent=True)
        except trio.RunFinishedError:
            endpoint.close()  # nobody is left who could

    endpoint.on_event = on_event
