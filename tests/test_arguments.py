"""Wrong arguments raise at the call, and the text names the value."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lwipy
from lwipy import Option
from lwipy.endpoints import Lookup


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    made = lwipy.Stack()
    made.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", ipv6="fd00::1/64", name="here")
    yield made
    made.close()


@pytest.fixture
def elsewhere() -> Iterator[lwipy.Interface]:
    """An interface of another stack."""
    other = lwipy.Stack()
    yield other.add_interface(name="elsewhere")
    other.close()


def names(value: object) -> str:
    """A pattern for a text with `value` in it."""
    return re.escape(str(value) if isinstance(value, int | float) else repr(value))


# -- Interfaces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("mac", ["x", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:1g", "01:00:00:00:00:01",
                 "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", b"12345", 5]),
        ("ipv4", ["not-an-ip", "10.0.0.1/33", "10.0.0.300/24", "fd00::1/64", "224.0.0.1/24", "255.255.255.255/8",
                  "10.0.0.255/24", "127.0.0.1/8", "0.0.0.0/0", 5]),
        ("ipv6", ["not-an-ip", "fd00::1/129", "10.0.0.1/24", "ff02::1/64", "::1/128", "::/64"]),
        ("gateway", ["not-an-ip", "10.0.0.1/24"]),
        ("mtu", [67, 65536, 0, -1]),
        ("layer", [0, 1, 4]),
        ("name", ["", "5", "a%b", "here"]),
    ],
)  # fmt: skip
def test_an_interface_that_cannot_be(stack: lwipy.Stack, argument: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=names(value)):
            stack.add_interface(**{argument: value})
    assert list(stack.interfaces) == ["here"]


@pytest.mark.parametrize(("argument", "value"), [("mtu", "1500"), ("mtu", 1500.5), ("name", 5), ("link", 5)])
def test_an_interface_of_the_wrong_types(stack: lwipy.Stack, argument: str, value: object) -> None:
    with pytest.raises(TypeError, match=re.escape(repr(value))):
        stack.add_interface(**{argument: value})  # type: ignore[arg-type]
    assert list(stack.interfaces) == ["here"]


def test_a_point_to_point_interface_has_no_hardware(stack: lwipy.Stack) -> None:
    with pytest.raises(ValueError, match="02:00:00:00:00:09"):
        stack.add_interface(layer=3, mac="02:00:00:00:00:09")
    nic = stack.add_interface(layer=3, name="tunnel")
    calls: tuple[Callable[[], object], ...] = (
        nic.start_dhcp, lambda: nic.add_neighbour("10.0.0.5", "02:00:00:00:00:05"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(OSError, match=r"tunnel|10\.0\.0\.5") as info:
            call()
        assert info.value.errno == errno.ENOPROTOOPT


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("mac", "01:00:00:00:00:01"), ("mtu", 67), ("mtu", 65536), ("ipv4", "10.0.0.300/24"), ("gateway", "fd00::9/64")],
)
def test_changes_that_cannot_be(stack: lwipy.Stack, attribute: str, value: object) -> None:
    nic = stack.interfaces["here"]
    before = getattr(nic, attribute)
    with pytest.raises(ValueError, match=names(value)):
        setattr(nic, attribute, value)
    assert getattr(nic, attribute) == before


def test_addresses_that_are_there_or_are_not(stack: lwipy.Stack) -> None:
    nic = stack.interfaces["here"]
    calls: tuple[tuple[Callable[[str], object], str, int], ...] = (
        (nic.add_ipv6, "fd00::1/64", errno.EADDRINUSE),
        (nic.remove_ipv6, "fd00::9", errno.EADDRNOTAVAIL),
        (nic.remove_neighbour, "10.0.0.9", errno.EADDRNOTAVAIL),
        (nic.remove_neighbour, "fd00::9", errno.EADDRNOTAVAIL),
        (lambda value: nic.add_neighbour(value, "02:00:00:00:00:09"), "99.0.0.9", errno.EHOSTUNREACH),
    )
    for call, value, number in calls:
        with pytest.raises(OSError, match=re.escape(value)) as info:
            call(value)
        assert info.value.errno == number


@pytest.mark.parametrize("name", ["h" * 64, "h\0", "höst"])
def test_host_names_that_dhcp_cannot_carry(stack: lwipy.Stack, name: str) -> None:
    with pytest.raises(ValueError, match=names(name)):
        stack.interfaces["here"].start_dhcp(name)


def test_a_removed_interface_says_its_name(stack: lwipy.Stack) -> None:
    nic = stack.add_interface(name="gone")
    other = stack.add_interface(name="other")
    nic.remove()
    nic.remove()
    udp = stack.udp()
    calls: list[Callable[[], object]] = [
        lambda: nic.receive(b""), nic.frames, lambda: nic.ipv4, lambda: setattr(nic, "up", True),
        lambda: setattr(nic, "mtu", 1400), lambda: nic.counters, lambda: lwipy.wire(nic, other),
        lambda: lwipy.wire(other, nic), lambda: udp.send(b"x", ("10.0.0.2", 9), interface=nic),
        lambda: udp.bind_interface(nic), lambda: udp.join("224.0.0.5", nic),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(OSError, match="gone") as info:
            call()
        assert info.value.errno == errno.ENODEV


def test_wires_that_cannot_be(stack: lwipy.Stack) -> None:
    nic, tunnel = stack.interfaces["here"], stack.add_interface(layer=3, name="tunnel")
    with pytest.raises(ValueError, match="here"):
        lwipy.wire(nic, nic)
    with pytest.raises(ValueError, match="tunnel"):
        lwipy.wire(nic, tunnel)
    with pytest.raises(TypeError, match="None"):
        lwipy.wire(nic, None)  # type: ignore[arg-type]


def test_frames_are_bytes(stack: lwipy.Stack) -> None:
    nic = stack.interfaces["here"]
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            nic.receive(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            nic.receive_many([b"", wrong])  # type: ignore[list-item]
    nic.receive_many([memoryview(bytearray(60)).cast("I"), bytearray(60), b""])
    assert nic.counters.rx_bytes == 120


# -- Endpoints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("address", "error"),
    [
        (("not-an-ip", 80), ValueError), (("10.0.0.300", 80), ValueError), ((None, 80), ValueError),
        ((5, 80), ValueError), (("fd00::1", 80), ValueError), (("10.0.0.1", 70000), OverflowError),
        (("10.0.0.1", -1), OverflowError),
    ],
)  # fmt: skip
def test_addresses_that_cannot_be(stack: lwipy.Stack, kind: str, address: Any, error: type[Exception]) -> None:
    end = getattr(stack, kind)(4)
    wrong = address[0] if error is ValueError else address[1]
    for call in (end.bind, end.connect):
        with pytest.raises(error, match=re.escape(str(wrong))):
            call(address)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["10.0.0.1", ("10.0.0.1",), 5, ("10.0.0.1", "80"), ("10.0.0.1", True)])
def test_addresses_of_the_wrong_shape(stack: lwipy.Stack, kind: str, address: Any) -> None:
    end = getattr(stack, kind)(4)
    for call in (end.bind, end.connect):
        with pytest.raises(TypeError):
            call(address)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_places_that_are_not_ours_or_taken(stack: lwipy.Stack, kind: str) -> None:
    make = getattr(stack, kind)
    for address, number in ((("99.0.0.1", 80), errno.EADDRNOTAVAIL), (("10.0.0.2", 80), errno.EADDRNOTAVAIL)):
        with pytest.raises(OSError, match=re.escape(f"{address[0]}:80")) as info:
            make(4).bind(address)
        assert info.value.errno == number
    first = make(4)
    first.bind(("10.0.0.1", 80))
    for end, number in ((make(4), errno.EADDRINUSE), (first, errno.EINVAL)):
        with pytest.raises(OSError, match=re.escape("10.0.0.1:80")) as info:
            end.bind(("10.0.0.1", 80))
        assert info.value.errno == number
    with pytest.raises(ValueError, match="nowhere"):
        make(6).bind(("fe80::1%nowhere", 80))


@pytest.mark.parametrize("address", ["255.255.255.255", "10.0.0.255", "224.0.0.1", "ff02::1", "99.0.0.1"])
def test_nobody_can_be_connected_to_there(stack: lwipy.Stack, address: str) -> None:
    with pytest.raises(OSError, match=re.escape(address)) as info:
        stack.tcp(0).connect((address, 80))
    assert info.value.errno == errno.EHOSTUNREACH


def test_the_two_families_do_not_mix(stack: lwipy.Stack, elsewhere: lwipy.Interface) -> None:
    for bound, other in (("10.0.0.1", "fd00::2"), ("fd00::1", "10.0.0.2")):
        end = stack.tcp(0)
        end.bind((bound, 0))
        with pytest.raises(OSError, match=re.escape(other)) as info:
            end.connect((other, 80))
        assert info.value.errno == errno.EINVAL
        with pytest.raises(ValueError, match=re.escape(bound)):
            stack.udp(0).send(b"x", (other, 9), source=bound)
    with pytest.raises(ValueError, match="ff02::5"):
        stack.udp(4).join("ff02::5")
    end = stack.tcp(6)
    end.bind(("fd00::1", 0))
    with pytest.raises(OSError, match="V6ONLY") as info:
        end.set_option(Option.V6ONLY, 0)
    assert info.value.errno == errno.EINVAL


def test_another_stacks_interface(stack: lwipy.Stack, elsewhere: lwipy.Interface) -> None:
    udp = stack.udp()
    calls: list[Callable[[], object]] = [
        lambda: udp.bind(("", 7), elsewhere), lambda: udp.bind_interface(elsewhere),
        lambda: udp.send(b"x", ("10.0.0.2", 9), interface=elsewhere), lambda: udp.join("224.0.0.5", elsewhere),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match="elsewhere"):
            call()


@pytest.mark.parametrize("option", list(Option))
def test_options_have_their_range(stack: lwipy.Stack, option: Option) -> None:
    for end in (stack.tcp(), stack.udp()):
        for value in (-1, 1 << 31, 1 << 40):
            with pytest.raises(ValueError, match=f"{option.name}.*{value}"):
                end.set_option(option, value)
        with pytest.raises(TypeError, match=f"{option.name}.*'1'"):
            end.set_option(option, "1")  # type: ignore[arg-type]


def test_options_nobody_has(stack: lwipy.Stack) -> None:
    with pytest.raises(ValueError, match="99"):
        stack.tcp().set_option(99, 1)  # type: ignore[arg-type]
    for option, value in ((Option.TTL, 256), (Option.KEEPCNT, 128), (Option.KEEPIDLE, 32768), (Option.TTL, 0)):
        with pytest.raises(ValueError, match=f"{option.name}.*{value}"):
            stack.tcp().set_option(option, value)


def test_datagrams_that_cannot_be_sent(stack: lwipy.Stack) -> None:
    udp = stack.udp(0)
    for arguments, number in (
        ((b"x",), errno.EDESTADDRREQ),
        ((bytes(65508), ("10.0.0.2", 9)), errno.EMSGSIZE),
        ((bytes(65488), ("fd00::2", 9)), errno.EMSGSIZE),
        ((b"x", ("10.0.0.255", 9)), errno.EACCES),
        ((b"x", ("99.0.0.1", 9)), errno.EHOSTUNREACH),
    ):
        with pytest.raises(OSError, match=str(arguments[1][0]) if len(arguments) > 1 else "address") as info:
            udp.send(*arguments)
        assert info.value.errno == number
    with pytest.raises(TypeError):
        udp.send("text", ("10.0.0.2", 9))  # type: ignore[arg-type]
    raw = stack.raw(58, 6)
    for size in range(4):
        with pytest.raises(OSError, match="fd00::2") as info:
            raw.send(bytes(size), ("fd00::2", 0))  # no room for the sum, which lwIP asserts
        assert info.value.errno == errno.EINVAL
    raw.send(bytes(4), ("fd00::2", 0))


@pytest.mark.parametrize("group", ["10.0.0.1", "not-an-ip", "fd00::1"])
def test_groups_that_are_none(stack: lwipy.Stack, group: str) -> None:
    with pytest.raises(ValueError, match=names(group)):
        stack.udp().join(group)


def test_protocols_families_and_sizes(stack: lwipy.Stack) -> None:
    for protocol in (-1, 256):
        with pytest.raises(ValueError, match=str(protocol)):
            stack.raw(protocol)
    for make in (stack.tcp, stack.udp):
        for family in (5, "4", None):
            with pytest.raises(ValueError, match=re.escape(repr(family))):
                make(family)  # type: ignore[arg-type]
    for read in (stack.tcp().recv, stack.udp().receive):
        with pytest.raises(ValueError, match="-1"):
            read(-1)


def test_a_closed_endpoint_says_what_it_was(stack: lwipy.Stack) -> None:
    for end, calls in (
        (stack.tcp(), ("listen", "accept", "shutdown", "linger", "ready")),
        (stack.udp(), ("receive", "ready")),
    ):
        end.close()
        end.close()
        for name in calls:
            with pytest.raises(OSError, match=type(end).__name__) as info:
                getattr(end, name)()
            assert info.value.errno == errno.EBADF
        with pytest.raises(OSError, match=type(end).__name__):
            end.bind(("10.0.0.1", 80))


def test_connections_that_are_none_or_others(stack: lwipy.Stack) -> None:
    end = stack.tcp()
    with pytest.raises(OSError) as info:  # noqa: PT011
        end.recv(1)
    assert info.value.errno == errno.ENOTCONN
    with pytest.raises(BrokenPipeError):
        end.send(b"x")
    with pytest.raises(OSError, match="Invalid") as info:
        end.accept()
    end.connect(("10.0.0.2", 80))
    with pytest.raises(OSError, match=re.escape("10.0.0.3:80")) as info:
        end.connect(("10.0.0.3", 80))
    assert info.value.errno == errno.EALREADY
    with pytest.raises(OSError, match="cannot listen") as info:
        end.listen()
    assert info.value.errno == errno.EINVAL


# -- Stack ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{"memory": 5}, {"seed": 0}, {"seed": -1}, {"seed": 1 << 64}], ids=lambda arguments: str(arguments)
)
def test_stacks_that_cannot_be(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        lwipy.Stack(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("delay", [float("nan"), float("inf")])
def test_timers_wait_for_a_time(stack: lwipy.Stack, delay: float) -> None:
    with pytest.raises(ValueError, match=str(delay)):
        stack.call_later(delay, lambda: None)


def test_name_servers_are_addresses(stack: lwipy.Stack) -> None:
    with pytest.raises(ValueError, match="'not-an-ip'"):
        stack.dns_servers = ["not-an-ip"]
    with pytest.raises(ValueError, match="4 DNS servers"):
        stack.dns_servers = ["10.0.0.1"] * 4
    with pytest.raises(TypeError, match=re.escape("'10.0.0.1'")):
        stack.dns_servers = "10.0.0.1"
    with pytest.raises(ValueError, match="'not-an-ip'"):
        stack.hosts["name"] = ["not-an-ip"]


@pytest.mark.parametrize("name", ["", ".", "a..b", ".a", "a" * 64, "a." * 130, "a\0b", "ü" * 70])
def test_names_that_cannot_be_asked_for(stack: lwipy.Stack, name: str) -> None:
    stack.dns_servers = ["10.0.0.2"]
    with pytest.raises(socket.gaierror, match=names(name)) as info:
        Lookup(stack, name, [4, 6], lambda found: None)
    assert info.value.errno == socket.EAI_NONAME
    assert stack.statistics.endpoints == 0


def test_a_closed_stack_takes_nothing_more(stack: lwipy.Stack) -> None:
    udp = stack.udp()
    stack.close()
    calls: list[Callable[[], object]] = [
        stack.poll, stack.tcp, stack.udp, stack.add_interface, lambda: stack.statistics, stack.__enter__,
        lambda: stack.call_later(1, lambda: None), lambda: udp.send(b"x", ("10.0.0.2", 9)),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(lwipy.StackClosedError, match="closed"):
            call()
    udp.close()
    stack.close()
