"""An asyncio loop that drives stacks: no thread, no polling, one wake-up for all that is ready.

Theory of operation. The loop watches the core's own descriptor, which is readable when frames or wake-ups came, keeps
at most one timer for the deadline that :meth:`Stack.poll` returned, and is asked for one more turn (`call_soon`) when
an operation left something to do. Each of the three ends in :meth:`LoopDriver._serve`, which polls the stack once:
frames, timers, and then the events of every endpoint. A loop without readers (Windows) gets a small thread that runs
the core and asks for a turn when Python is needed.

Invariants:

1. The stack's callbacks run in the loop's thread, inside :meth:`LoopDriver._serve` and nowhere else.
2. An idle stack costs nothing: no turn of the loop is asked for, and a stack without deadline has no timer.
3. At most one turn is asked for at a time (`_scheduled`); it is cleared before the poll, so no wake-up is lost.
4. The timer is never later than the deadline by more than :data:`SLACK`. It may be earlier, once.
5. The driver holds the core for as long as the loop may call it, so the descriptor outlives its reader.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from lwipy._driver import Driver
from lwipy._native import lib
from lwipy.endpoints import Endpoint, Event
from lwipy.errors import StackError

if TYPE_CHECKING:
    from lwipy.stack import Stack

#: How much later than the deadline a timer may fire, seconds; it spares a new timer for every poll.
SLACK: Final = 0.001
_DEADLINE: Final[int] = lib.LWIPY_HAS_DEADLINE


class LoopDriver(Driver):
    """Drives one stack in a running loop. Made by :func:`driving`, or by the first use of lwipy.aio with the stack."""

    def __init__(self, stack: Stack, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(stack)
        if not can_drive(stack, loop):
            raise ValueError("the stack's clock is not the loop's: give Stack(clock=loop.time), or call poll() by hand")
        self.loop: asyncio.AbstractEventLoop = loop
        self.uses = 1
        self.serving = False
        self._core: Any = stack._core
        self._attention: Any = stack._attention
        self._context = contextvars.copy_context()
        self._thread = threading.get_ident()
        self._scheduled = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = -1
        self._watcher: Watcher | None = None

    def __repr__(self) -> str:
        return f"<LoopDriver {'stopped' if self._stopped else 'of'} {self.stack!r}>"

    # -- Life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.stack._drive(self)
        self._descriptor = lib.lwipy_wake_fd(self._core)
        try:
            if self._descriptor < 0:
                raise NotImplementedError
            self.loop.add_reader(self._descriptor, self._serve)
            lib.lwipy_wake_clear(self._core)  # what may be left of a driver before this one
        except NotImplementedError:
            self._descriptor = -1
            self._watcher = Watcher(self._core, self.loop, self._serve_if_asked)
        self._ask()

    def stop(self) -> None:
        """Gives the stack back; from any thread."""
        if self._stopped:
            return
        self._stopped = True
        if self.stack._driver is self:
            self.stack._drive(None)
        if not self._is_own_thread():
            try:
                self.loop.call_soon_threadsafe(self._leave)
                return
            except RuntimeError:
                pass  # closed, so there is nothing to leave but the watcher
        self._leave()

    def _leave(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
        if not self.loop.is_closed():
            self._set_timer(None)
            if self._descriptor >= 0:
                self.loop.remove_reader(self._descriptor)

    # -- What the stack calls --------------------------------------------------------------------------------------

    def kick(self) -> None:
        news = self._attention[0]
        if not news or self._scheduled:
            return
        if self._is_own_thread():
            if self.serving:
                return
            if news == _DEADLINE and (delay := lib.lwipy_deadline(self._core)) > 0:
                self._sleep(delay / 1e6)  # an earlier one than the timer's: a turn of the loop would find no more
                return
        self._ask()

    def kick_timer(self) -> None:
        if not self._scheduled and not (self.serving and self._is_own_thread()):
            self._ask()

    def wait(self, lock: threading.Lock, deadline: float | None) -> bool:
        if self._is_own_thread():
            raise RuntimeError("cannot block in the thread of the event loop that drives the stack")
        left = -1 if deadline is None else max(0.0, deadline - self.stack.time())
        return lock.acquire(timeout=left)

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread

    # -- What the loop calls ---------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """One more turn, soon."""
        self._scheduled = True
        call = self.loop.call_soon if self._is_own_thread() else self.loop.call_soon_threadsafe
        try:
            call(self._serve_if_asked, context=self._context)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            self.stop()

    def _serve_if_asked(self) -> None:
        if self._scheduled or self._watcher is not None:
            self._serve()

    def _ring(self) -> None:
        self._timer = None
        self._serve()

    def _serve(self) -> None:
        if self._stopped:
            return
        self._thread = threading.get_ident()
        self._scheduled = False
        self.serving = True
        delay: float | None = 0.0
        try:
            delay = self.stack.poll()
        except StackError as error:
            if not self.stack.closed:
                self._failed(error)
        except Exception as error:
            self._report(error, "a callback of the stack failed")
        finally:
            self.serving = False
            if not self._stopped:
                self._sleep(delay)

    def _sleep(self, delay: float | None) -> None:
        if delay is None:
            self._set_timer(None)
        elif delay <= 0:
            self._ask()
        else:
            when = self.loop.time() + delay
            if self._timer is None or self._timer.when() > when + SLACK:
                self._set_timer(when)

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self.loop.call_at(when, self._ring, context=self._context)

    def _report(self, error: Exception, message: str) -> None:
        self.loop.call_exception_handler({"message": message, "exception": error, "stack": self.stack})

    def _failed(self, error: StackError) -> None:
        """lwIP is dead: everyone who waits shall hear of it, for no further event will come."""
        self._report(error, "the stack has failed")
        self.stop()
        self.stack._dispatcher.tell_failure()


class Watcher:
    """Runs the core in a thread until Python is needed, for a loop that cannot watch a descriptor."""

    def __init__(self, core: Any, loop: asyncio.AbstractEventLoop, serve: Callable[[], None]) -> None:
        self._core = core
        self._loop = loop
        self._serve = serve
        self._stopping = False
        self._served = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lwipy-watcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            result = lib.lwipy_run(self._core, -1)
            # What Python has to do stays to be done until the loop has served; to run on before that would spin.
            self._served.clear()
            if self._stopping:
                return
            try:
                self._loop.call_soon_threadsafe(self._relay)
            except RuntimeError:
                return
            self._served.wait()
            if result < 0:
                return  # the core has failed, and the loop knows

    def _relay(self) -> None:
        try:
            self._serve()
        finally:
            self._served.set()

    def stop(self) -> None:
        self._stopping = True
        self._served.set()
        lib.lwipy_wake(self._core)
        self._thread.join()


# -- Who drives ------------------------------------------------------------------------------------------------------


def can_drive(stack: Stack, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop's timers and the stack's deadlines are of one clock."""
    return stack._clock is None or stack._clock == loop.time


def _living_driver(stack: Stack) -> Driver | None:
    """What drives the stack; None when it is nobody, or a loop that has been closed."""
    driver = stack._driver
    if isinstance(driver, LoopDriver) and driver.loop.is_closed():
        driver.stop()
    return None if type(stack._driver) is Driver else stack._driver


@asynccontextmanager
async def driving(stack: Stack) -> AsyncIterator[Stack]:
    """Drives the stack in the running loop: ``async with driving(stack): ...``. May be nested, in one loop.

    On leaving the stack is given back, open: what it still had to send waits for whoever drives it next.
    RuntimeError when a thread or another loop drives it; ValueError when its clock is not the loop's.
    """
    loop = asyncio.get_running_loop()
    driver = _living_driver(stack)
    if driver is None:
        driver = LoopDriver(stack, loop)
        driver.start()
    elif isinstance(driver, LoopDriver) and driver.loop is loop:
        driver.uses += 1
    else:
        raise RuntimeError(f"the stack is driven already, by {driver!r}")
    try:
        yield stack
    finally:
        driver.uses -= 1
        if driver.uses == 0:
            driver.stop()


def ensure_driven(stack: Stack, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Has the loop (the running one) drive the stack, until one of them is closed, unless something drives it already.

    A stack with a clock of its own is left to its owner's poll().
    """
    loop = loop or asyncio.get_running_loop()
    if stack._driver.loop is not loop and _living_driver(stack) is None and can_drive(stack, loop):
        LoopDriver(stack, loop).start()


def deliver(endpoint: Endpoint, loop: asyncio.AbstractEventLoop, handler: Callable[[Event], object]) -> None:
    """Has an endpoint's events handled in the loop's thread, in a copy of the present context, whoever drives.

    At once where the loop itself drives the stack; by way of the loop's queue where a thread does, or another loop.
    """
    # A closure would be six objects more for the garbage collector, for each connection.
    endpoint.on_event = functools.partial(_on_event, endpoint, loop, contextvars.copy_context(), handler)


def is_told_by(endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is the loop itself that hands out the endpoint's events: they may be handled at once."""
    driver = endpoint._stack._driver
    return driver.loop is loop and driver.serving


def _on_event(
    endpoint: Endpoint,
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    handler: Callable[[Event], object],
    event: Event,
) -> None:
    if is_told_by(endpoint, loop):
        context.run(handler, event)
    else:
        pass_on(endpoint, loop, context, handler, event)


def pass_on(
    endpoint: Endpoint,
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    handler: Callable[[Event], object],
    event: Event,
) -> None:
    """Has an event handled that another than the loop hands out."""
    handle: Callable[[], object] = functools.partial(handler, event)
    if not loop.is_running():
        # As with a selector, what the loop is given before it runs again goes first.
        handle = functools.partial(loop.call_soon, handle, context=context)
    try:
        loop.call_soon_threadsafe(handle, context=context)
    except RuntimeError:
        if not loop.is_closed():
            raise
        endpoint.close()  # nobody is left who could
