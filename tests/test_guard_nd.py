"""Neighbor Discovery that lwIP 2.2.1 must not see (csrc/guard.c): a test for each weakness, failing without the guard.

Frames whose length is a multiple of eight fill their block of memory to the last byte, so that the address sanitizer
sees a read beyond them.
"""

from __future__ import annotations

import socket

import pytest
from attacker import (
    ATTACKER,
    ATTACKER_MAC,
    LINK_LOCAL,
    TARGET,
    UDP,
    Ether,
    IPv6,
    Packet,
    Target,
    addresses,
    advertisement,
    icmp6,
    ip,
)
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
)


def solicitation(options: bytes) -> Packet:
    header = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, TARGET[6])
    return icmp6(ip(6, hlim=255), header + options)


def test_neighbor_discovery_with_sound_options_is_answered(target: Target) -> None:
    target.inject(solicitation(bytes([1, 1]) + bytes(6)))
    assert target.answers(ICMPv6ND_NA)


@pytest.mark.parametrize(
    "options",
    [bytes([1, 0]) + bytes(6), bytes([1, 2]) + bytes(6), bytes([1]), bytes([1, 1]), bytes([1, 255]) + bytes(38),
     bytes([1, 1]) + bytes(6) + bytes([14, 0])],
    ids=["length zero", "beyond the packet", "type only", "no address", "2040 bytes", "second of length zero"],
)  # fmt: skip
def test_options_of_neighbor_discovery_must_fit(target: Target, options: bytes) -> None:
    target.inject(solicitation(options))
    assert target.answers(ICMPv6ND_NA) == []
    assert target.statistics().guard_nd_options == 1
    target.assert_unharmed()


@pytest.mark.parametrize("kind", [133, 134, 135, 136, 137])
@pytest.mark.parametrize("length", [1, 4, 7, 8, 15, 16, 23, 24, 39, 40])
def test_messages_of_neighbor_discovery_must_be_whole(router: Target, kind: int, length: int) -> None:
    whole = {133: 8, 134: 16, 135: 24, 136: 24, 137: 40}[kind]
    router.inject(icmp6(IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255), (bytes([kind]) + bytes(60))[:length]))
    assert router.statistics().guard_nd_options == (length != whole)


@pytest.mark.parametrize("option", [bytes([3, 1]) + bytes(6), bytes([3, 3]) + bytes(22), bytes([5, 2]) + bytes(14)])
def test_structures_in_options_have_their_size(router: Target, option: bytes) -> None:
    body = bytes([134, 0, 0, 0, 64, 0, 0, 60]) + bytes(8) + option
    router.inject(icmp6(IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255), body))
    assert router.statistics().guard_nd_options == 1


def live_on(target: Target) -> None:
    """Hours pass, with some traffic in each ten minutes: a stack left alone does not count them."""
    for _ in range(20):
        target.time.run(limit=590)
        target.talk(6, amount=10)


def test_a_router_is_believed_when_autoconfiguration_was_asked_for(router: Target) -> None:
    router.inject(advertisement(prefix="fd01::", validlifetime=9000, preferredlifetime=9000))
    assert any(address.startswith("fd01::") for address in addresses(router))


def test_a_router_is_not_believed_otherwise(target: Target) -> None:
    """Not even about the lifetime of addresses that the user gave, which lwIP would let end after two hours."""
    target.inject(advertisement(prefix="fd00::", validlifetime=1, preferredlifetime=0))
    assert target.statistics().guard_nd_unasked == 1
    live_on(target)
    assert "fd00::1" in addresses(target)


def test_a_believed_router_has_no_say_in_the_users_addresses(router: Target) -> None:
    router.inject(advertisement(prefix="fd00::", validlifetime=1, preferredlifetime=0))
    live_on(router)
    assert "fd00::1" in addresses(router)


def test_a_redirect_is_not_believed_unasked(target: Target) -> None:
    udp = target.stack.udp(6)
    udp.send(b"first", (ATTACKER[6], 9))
    redirect = ICMPv6ND_Redirect(tgt="fe80::77", dst=ATTACKER[6]) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:77")
    target.inject(IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255) / redirect)
    target.out.clear()
    udp.send(b"second", (ATTACKER[6], 9))
    (packet,) = target.answers(UDP)
    assert packet[Ether].dst == ATTACKER_MAC


def test_an_address_in_use_cannot_be_called_a_duplicate(target: Target) -> None:
    """RFC 4862 5.4.5 wants that of tentative addresses only; lwIP gives any address up."""
    option = ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC)
    target.inject(ip(6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=TARGET[6], O=1) / option)
    target.assert_unharmed()


def test_an_address_still_being_tested_can(router: Target) -> None:
    router.inject(advertisement(prefix="fd01::", validlifetime=9000, preferredlifetime=9000))
    (mine,) = (address for address in addresses(router) if address.startswith("fd01::"))
    option = ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC)
    router.inject(IPv6(src=mine, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=mine, O=1) / option)
    router.time.run(limit=30)
    router.inject(IPv6(src=LINK_LOCAL, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=mine))
    assert router.answers(ICMPv6ND_NA) == []
