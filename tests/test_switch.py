"""The learning switch: frames go where their address was heard, and no guest can fill or steal another's place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lwipy
from lwipy.links import Switch
from lwipy.links.switch import Plug, SwitchCounters
from lwipy.testing import VirtualTime

BROADCAST = b"\xff" * 6
A, B, C = (bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 3))


def frame(target: bytes, source: bytes, payload: bytes = b"x" * 46) -> bytes:
    return target + source + b"\x08\x00" + payload


class Bench:
    """A switch with three devices that keep what they are given."""

    def __init__(self, **arguments: float) -> None:
        self.now = 0.0
        self.switch = Switch(clock=lambda: self.now, **arguments)  # type: ignore[arg-type]
        self.got: list[list[bytes]] = [[], [], []]
        self.plugs = [self.switch.join(got.extend, name=f"p{number}") for number, got in enumerate(self.got)]

    def taken(self) -> list[list[bytes]]:
        taken = [list(got) for got in self.got]
        for got in self.got:
            got.clear()
        return taken


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_unknown_address_is_flooded_and_never_goes_back(bench: Bench) -> None:
    asked = frame(B, A)
    bench.plugs[0].receive([asked])
    assert bench.taken() == [[], [asked], [asked]]
    assert bench.switch.counters == SwitchCounters(flooded=1)


def test_a_known_address_gets_its_frames_alone(bench: Bench) -> None:
    bench.plugs[1].receive([frame(A, B)])
    bench.taken()
    sent = [frame(B, A, b"1"), frame(B, A, b"2")]
    bench.plugs[0].receive(sent)
    assert bench.taken() == [[], sent, []]
    assert bench.switch.counters == SwitchCounters(flooded=1, forwarded=2)
    assert bench.plugs[1].addresses == ["02:00:00:00:00:02"]


def test_groups_are_flooded_even_from_addresses_that_are_known(bench: Bench) -> None:
    for target in (BROADCAST, bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")):
        bench.plugs[2].receive([frame(target, C)])
        assert bench.taken() == [[frame(target, C)], [frame(target, C)], []]


def test_frames_for_a_device_on_the_same_plug_stay_there(bench: Bench) -> None:
    bench.plugs[0].receive([frame(BROADCAST, A), frame(BROADCAST, B)])
    bench.taken()
    bench.plugs[0].receive([frame(A, B)])
    assert bench.taken() == [[], [], []]
    assert bench.switch.counters.filtered == 1


def test_frames_for_bridges_are_not_passed_on(bench: Bench) -> None:
    bench.plugs[0].receive([frame(bytes.fromhex("0180c2000000"), A)])
    assert bench.taken() == [[], [], []]
    bench.plugs[0].receive([frame(bytes.fromhex("0180c2000010"), A)])
    assert bench.taken()[1] != []


def test_an_address_that_moves_is_found_at_its_new_place(bench: Bench) -> None:
    bench.plugs[1].receive([frame(BROADCAST, B)])
    bench.plugs[2].receive([frame(BROADCAST, B)])
    bench.taken()
    bench.plugs[0].receive([frame(B, A)])
    assert bench.taken() == [[], [], [frame(B, A)]]
    assert bench.switch.counters.moved == 1
    assert bench.plugs[1].addresses == []


def test_an_address_unheard_of_for_300_seconds_is_forgotten(bench: Bench) -> None:
    bench.plugs[1].receive([frame(BROADCAST, B)])
    bench.now = 200
    bench.plugs[1].receive([frame(BROADCAST, B)])
    bench.now = 499
    bench.taken()
    bench.plugs[0].receive([frame(B, A)])
    assert bench.taken()[2] == []
    bench.now = 500
    bench.plugs[0].receive([frame(B, A)])
    assert bench.taken() == [[], [frame(B, A)], [frame(B, A)]]


def test_a_device_that_leaves_is_forgotten(bench: Bench) -> None:
    bench.plugs[1].receive([frame(BROADCAST, B)])
    bench.taken()
    bench.plugs[1].leave()
    bench.plugs[1].leave()
    bench.plugs[0].receive([frame(B, A)])
    assert bench.taken() == [[], [], [frame(B, A)]]
    bench.plugs[1].receive([frame(BROADCAST, B)])
    assert bench.taken() == [[], [], []]
    assert [plug.name for plug in bench.switch.plugs] == ["p0", "p2"]


# -- Hostile guests ----------------------------------------------------------------------------------------------


def test_frames_without_a_proper_header_are_dropped_and_counted(bench: Bench) -> None:
    bench.plugs[0].receive([b"", b"x" * 13, frame(B, b"\x01\0\0\0\0\1"), frame(B, BROADCAST), frame(B, bytes(6))])
    assert bench.taken() == [[], [], []]
    assert bench.switch.counters == SwitchCounters(short=2, bad_source=3)


def test_a_guest_that_invents_addresses_fills_its_own_share_only() -> None:
    bench = Bench(limit=10)
    bench.plugs[1].receive([frame(BROADCAST, B)])
    for number in range(1000):
        bench.plugs[0].receive([frame(BROADCAST, b"\x02\xff" + number.to_bytes(4, "big"))])
    assert len(bench.plugs[0].addresses) == 10
    assert bench.switch.counters.unlearned == 990
    assert bench.switch.counters.flooded == 1001
    bench.taken()
    bench.plugs[0].receive([frame(B, A)])
    assert bench.taken() == [[], [frame(B, A)], []]


def test_its_share_becomes_free_as_addresses_age() -> None:
    bench = Bench(limit=2, ageing=100)
    bench.plugs[0].receive([frame(BROADCAST, A), frame(BROADCAST, B), frame(BROADCAST, C)])
    assert bench.plugs[0].addresses == ["02:00:00:00:00:01", "02:00:00:00:00:02"]
    bench.now = 60
    bench.plugs[0].receive([frame(BROADCAST, A)])
    bench.now = 110
    bench.plugs[0].receive([frame(BROADCAST, C)])
    assert bench.plugs[0].addresses == ["02:00:00:00:00:01", "02:00:00:00:00:03"]


def test_a_pinned_address_cannot_be_claimed_by_another(bench: Bench) -> None:
    got: list[bytes] = []
    bench.switch.join(got.extend, name="gateway", mac="02:00:00:00:00:09")
    gateway = bytes.fromhex("020000000009")
    bench.plugs[0].receive([frame(BROADCAST, gateway), frame(gateway, A)])
    assert got == [frame(gateway, A)]
    assert bench.taken() == [[], [], []]
    assert bench.switch.counters == SwitchCounters(spoofed=1, forwarded=1)
    bench.now = 10_000
    bench.plugs[0].receive([frame(gateway, A)])
    assert len(got) == 2
    with pytest.raises(ValueError, match="is the address of gateway on this switch already"):
        bench.switch.join(got.extend, mac="02:00:00:00:00:09")


@pytest.mark.parametrize(("arguments", "said"), [({"ageing": 0}, "ageing 0"), ({"limit": 0}, "limit 0")])
def test_a_bad_value_is_named(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said} is out of range"):
        Switch(**arguments)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=30)), max_size=50))
def test_any_bytes_go_somewhere_or_are_counted(frames: list[tuple[int, bytes]]) -> None:
    bench = Bench(limit=3)
    for number, raw in frames:
        bench.plugs[number].receive([raw])
        assert bench.taken()[number] == []
    counters = bench.switch.counters
    ways = (counters.forwarded, counters.flooded, counters.filtered, counters.short, counters.bad_source)
    assert sum(ways) == len(frames)
    assert all(len(plug.addresses) <= 3 for plug in bench.plugs)


# -- Interfaces on a switch --------------------------------------------------------------------------------------


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with VirtualTime() as time:
        yield time


def test_interfaces_of_several_stacks_are_on_one_network(time: VirtualTime) -> None:
    switch = Switch()
    stacks = [time.stack() for _ in range(4)]
    for number, stack in enumerate(stacks):
        stack.add_interface(switch.port(), ipv4=f"10.0.0.{number + 1}/24", name=f"host{number}")
    assert [plug.name for plug in switch.plugs] == ["host0", "host1", "host2", "host3"]
    receivers = [stack.udp() for stack in stacks]
    for number, receiver in enumerate(receivers):
        receiver.bind((f"10.0.0.{number + 1}", 9))
    for number in range(4):
        receivers[number].send(bytes([number]), (f"10.0.0.{(number + 1) % 4 + 1}", 9))
    time.run(limit=2)
    for number, receiver in enumerate(receivers):
        assert receiver.receive().data == bytes([(number - 1) % 4])
    assert switch.counters.forwarded > 0


def test_a_removed_interface_leaves_the_switch(time: VirtualTime) -> None:
    switch = Switch()
    nic = time.stack().add_interface(switch.port(), ipv4="10.0.0.1/24")
    time.stack().add_interface(switch.port(), ipv4="10.0.0.2/24")
    nic.remove()
    assert len(switch.plugs) == 1
    time.run(limit=1)


def test_tcp_across_the_switch_between_threads() -> None:
    switch = Switch()
    data = bytes(range(256)) * 4000
    with lwipy.Stack() as a, lwipy.Stack() as b:
        a.add_interface(switch.port(), ipv4="10.0.0.1/24")
        b.add_interface(switch.port(), ipv4="10.0.0.2/24")
        with b.create_server(("10.0.0.2", 80)) as server, a.create_connection(("10.0.0.2", 80)) as client:
            sending = threading.Thread(target=client.sendall, args=(data,))
            sending.start()
            accepted, _ = server.accept()
            arrived = bytearray()
            with accepted:
                while len(arrived) < len(data):
                    arrived += accepted.recv(65536)
            sending.join()
        assert arrived == data


def test_frames_that_a_stack_does_not_fetch_are_bounded(time: VirtualTime) -> None:
    switch = Switch()
    nic = time.stack().add_interface(switch.port(), ipv4="10.0.0.1/24")
    plug: Plug = switch.join(lambda frames: None)
    plug.receive(frame(BROADCAST, A) for _ in range(10_000))
    time.run(limit=1)
    assert nic.counters.rx_frames == 4096
