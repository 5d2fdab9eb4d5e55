"""BBR's model and its pace, over a line in virtual time: nothing depends on how fast this machine is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pairs import VirtualPair

from lwipy import Option, TcpEndpoint
from lwipy.links import Impair

BLOCK = bytes(1 << 17)
LINE = 100e6  # bits a second


class Stream:
    """One end sends without pause, the other reads. `late`: seconds by which whoever drives the stacks wakes late."""

    def __init__(self, network: VirtualPair, late: float = 0.0) -> None:
        self.network, self.late = network, late
        self.client, self.server = network.connect()
        self.received = 0

    def run(self, seconds: float) -> float:
        """Mbit/s of what arrived."""
        before, end = self.received, self.network.now + seconds
        while self.network.now < end:
            self._send()
            self._receive()
            delay = self.network.time.settle()
            self.network.time.now += max(delay or 0.0, 1e-6) + self.late
        return (self.received - before) * 8 / seconds / 1e6

    def offer(self, size: int, every: float) -> None:
        """For three seconds so many bytes with each call, as far as there is room."""
        end = self.network.now + 3
        while self.network.now < end:
            with suppress(BlockingIOError):
                self.client.send(bytes(size))
            self.network.run(every)
            self._receive()

    def _send(self) -> None:
        try:
            while True:
                self.client.send(BLOCK)
        except BlockingIOError:
            pass

    def _receive(self) -> None:
        try:
            while True:
                self.received += len(self.server.recv(1 << 20))
        except BlockingIOError:
            pass


@contextmanager
def stream(round_trip: float, controller: str, late: float = 0.0) -> Iterator[tuple[Stream, TcpEndpoint, Impair]]:
    link = Impair(seed=1, delay=round_trip / 2)
    network = VirtualPair(link, seed=1)
    try:
        made = Stream(network, late)
        made.client.congestion = controller
        link.set("out", delay=round_trip / 2, rate=LINE, queue=200)
        yield made, made.client, link
    finally:
        network.close()


def test_a_pace_is_kept_by_a_driver_that_wakes_late() -> None:
    """What a timer's delay has cost is made up for, up to two milliseconds."""
    with stream(0.005, "cubic", late=0.002) as (way, client, _):
        client.set_option(Option.MAX_PACING_RATE, 5_000_000)
        way.run(0.5)
        assert 36 < way.run(1.0) <= 40


def test_a_short_way_is_filled_by_a_driver_that_wakes_late() -> None:
    """The window has room for what stands still while nobody looks."""
    with stream(0.001, "bbr", late=0.0004) as (way, _, _link):
        way.run(0.5)
        assert way.run(1.0) > 85


def test_the_first_pace_follows_the_first_round_trip() -> None:
    with stream(0.1, "bbr") as (way, client, _):
        way.run(0.15)
        assert 0 < client.info.pacing_rate < 3 * client.info.congestion_window / 0.1


def test_a_send_buffer_that_limits_is_not_taken_for_an_idle_application() -> None:
    """The beginning ends, though the application's bytes never fill the line: nothing more is to be found."""
    with stream(0.1, "bbr") as (way, client, _):
        client.set_option(Option.SNDBUF, 200_000)
        way.run(3)
        rate = client.info.pacing_rate
        assert rate < 1.3 * 200_000 / 0.1


def test_pauses_between_an_applications_calls_do_not_prolong_the_beginning() -> None:
    """Each call's bytes leave at once; but it is back soon, and the line, not the application, is the limit."""
    with stream(0.1, "bbr") as (way, client, _):
        way.offer(5_000, every=0.0004)
        assert client.info.pacing_rate < 1.3 * LINE / 8


def test_pauses_of_an_application_do_not_end_the_beginning() -> None:
    """What a third of the line's rate tells is not how much the line carries."""
    with stream(0.1, "bbr") as (way, client, _):
        way.offer(4_000, every=0.001)
        assert client.info.pacing_rate > 2 * 32e6 / 8


def test_losses_on_a_long_way_leave_the_line_full() -> None:
    with stream(0.1, "bbr") as (way, _, link):
        link.set("out", loss=0.01)
        way.run(2)
        assert way.run(1) > 75


def test_losses_by_chance_do_not_keep_the_rate_from_doubling() -> None:
    with stream(0.2, "bbr") as (way, _, link):
        link.set("out", loss=0.03)
        assert way.run(4.0) > 20
