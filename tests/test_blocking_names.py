"""The socket module's name functions on a stack."""

from __future__ import annotations

import socket

import pytest
from conftest import Pair

import lwipy


@pytest.fixture
def stack(hosts: Pair) -> lwipy.Stack:
    hosts.a.hosts["server.lab"] = ["10.0.0.7", "10.0.0.8", "fd00::7"]
    hosts.a.hosts["www.lab"] = ["10.0.0.7"]
    hosts.a.hosts["six.lab"] = ["fd00::6"]
    return hosts.a


def test_a_name_to_addresses(stack: lwipy.Stack) -> None:
    assert stack.gethostbyname("server.lab") == "10.0.0.7"
    assert stack.gethostbyname("10.1.2.3") == "10.1.2.3"
    assert stack.gethostbyname("<broadcast>") == "255.255.255.255"
    assert stack.gethostbyname_ex("SERVER.lab") == ("SERVER.lab", [], ["10.0.0.7", "10.0.0.8"])
    with pytest.raises(socket.gaierror):
        stack.gethostbyname("six.lab")


def test_an_address_to_names(stack: lwipy.Stack) -> None:
    assert stack.gethostbyaddr("10.0.0.7") == ("server.lab", ["www.lab"], ["10.0.0.7"])
    assert stack.gethostbyaddr("127.0.0.1")[0] == "localhost"
    assert stack.gethostbyaddr("six.lab") == ("six.lab", [], ["fd00::6"])
    with pytest.raises(socket.herror, match=r"10\.0\.0\.200"):
        stack.gethostbyaddr("10.0.0.200")


def test_getnameinfo(stack: lwipy.Stack) -> None:
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert stack.getnameinfo(("10.0.0.7", 80), numeric) == ("10.0.0.7", "80")
    assert stack.getnameinfo(("10.0.0.7", 80), 0) == ("server.lab", "http")
    assert stack.getnameinfo(("10.0.0.200", 4), numeric) == ("10.0.0.200", "4")
    number = stack.interfaces["a0"].number
    assert stack.getnameinfo(("fe80::1", 4, 0, number), numeric) == ("fe80::1%a0", "4")
    with pytest.raises(socket.gaierror):
        stack.getnameinfo(("10.0.0.200", 4), socket.NI_NAMEREQD)


def test_getaddrinfo_filters_by_family_type_and_protocol(stack: lwipy.Stack) -> None:
    found = stack.getaddrinfo("server.lab", "http", 0, socket.SOCK_STREAM)
    assert [(entry[0], entry[4]) for entry in found] == [
        (socket.AF_INET6, ("fd00::7", 80, 0, 0)),
        (socket.AF_INET, ("10.0.0.7", 80)),
        (socket.AF_INET, ("10.0.0.8", 80)),
    ]
    assert {entry[1:3] for entry in stack.getaddrinfo("10.0.0.1", 1)} == {
        (socket.SOCK_STREAM, socket.IPPROTO_TCP),
        (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        (socket.SOCK_RAW, 0),
    }
    named = stack.getaddrinfo("server.lab", 1, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
    assert [entry[3] for entry in named] == ["server.lab", ""]


def test_nobodys_address(stack: lwipy.Stack) -> None:
    for flags, answer in ((0, {"127.0.0.1", "::1"}), (socket.AI_PASSIVE, {"0.0.0.0", "::"})):
        assert {entry[4][0] for entry in stack.getaddrinfo(None, 80, flags=flags)} == answer


def test_mapped_addresses_only_when_asked_for(stack: lwipy.Stack) -> None:
    with pytest.raises(socket.gaierror):
        stack.getaddrinfo("www.lab", 80, socket.AF_INET6)
    mapped = stack.getaddrinfo("www.lab", 80, socket.AF_INET6, flags=socket.AI_V4MAPPED)
    assert mapped[0][4][0] == "::ffff:10.0.0.7"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((None, None), socket.EAI_NONAME),
        (("10.0.0.1", 70000), socket.EAI_SERVICE),
        (("10.0.0.1", "no such service"), socket.EAI_SERVICE),
        (("10.0.0.1", "http", 0, 0, 0, socket.AI_NUMERICSERV), socket.EAI_SERVICE),
        (("server.lab", 80, 0, 0, 0, socket.AI_NUMERICHOST), socket.EAI_NONAME),
        (("10.0.0.1", 80, socket.AF_UNIX), socket.EAI_FAMILY),
        (("10.0.0.1", 80, socket.AF_INET6), socket.EAI_ADDRFAMILY),
        (("10.0.0.1", 80, 0, 99), socket.EAI_SOCKTYPE),
        (("elsewhere.lab", 80), socket.EAI_AGAIN),
    ],
)
def test_what_cannot_be_answered(stack: lwipy.Stack, arguments: tuple[str, int], code: int) -> None:
    with pytest.raises(socket.gaierror) as info:
        stack.getaddrinfo(*arguments)
    assert info.value.errno == code
