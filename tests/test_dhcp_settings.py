"""lwipy.services.dhcp.settings: every argument is checked, and the bad one named."""

from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest

from lwipy.services.dhcp.settings import Settings

OWN = IPv4Interface("10.0.0.1/24")
DEFAULTS: dict[str, Any] = {
    "pool": None,
    "router": "self",
    "dns": "self",
    "domain": "lwipy",
    "mtu": 1500,
    "lease_time": 3600.0,
    "static": None,
}


def check(own: IPv4Interface | None = OWN, **changes: Any) -> Settings:
    return Settings.check(own, **{**DEFAULTS, **changes})


def test_by_default_the_whole_subnet_is_given_and_we_are_everything() -> None:
    settings = check()
    assert (str(settings.first), str(settings.last)) == ("10.0.0.1", "10.0.0.254")
    assert settings.routers == settings.dns == (OWN.ip,)
    assert settings.reserved == {OWN.ip}


def test_routers_servers_and_static_addresses_are_reserved() -> None:
    settings = check(router=["10.0.0.254"], dns=["self", "9.9.9.9"], static={"02:00:00:00:00:07": "10.0.0.7"})
    assert settings.reserved == {IPv4Address(a) for a in ("10.0.0.1", "10.0.0.254", "9.9.9.9", "10.0.0.7")}
    assert settings.static == {b"\x01\x02\0\0\0\0\x07": IPv4Address("10.0.0.7")}


def test_owns_the_hosts_of_the_subnet() -> None:
    settings = check()
    assert settings.owns(IPv4Address("10.0.0.254"))
    assert not any(settings.owns(IPv4Address(a)) for a in ("10.0.0.0", "10.0.0.255", "10.0.1.1", "0.0.0.0"))


def test_a_domain_is_normalized() -> None:
    assert check(domain="Lab.Example.").domain == "lab.example"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"own": None}, ["IPv4 address"]),
        ({"own": IPv4Interface("10.0.0.1/31")}, ["10.0.0.1/31"]),
        ({"own": IPv4Interface("10.0.0.1/32")}, ["10.0.0.1/32"]),
        ({"pool": ("10.0.1.5", "10.0.1.9")}, ["range", "10.0.1.5", "10.0.0.0/24"]),
        ({"pool": ("10.0.0.5", "10.0.0.255")}, ["range", "10.0.0.255"]),
        ({"pool": ("10.0.0.0", "10.0.0.9")}, ["range", "10.0.0.0"]),
        ({"pool": ("10.0.0.9", "10.0.0.5")}, ["range", "10.0.0.9", "10.0.0.5"]),
        ({"pool": ("nine", "10.0.0.5")}, ["range", "'nine'"]),
        ({"router": "fd00::1"}, ["router", "'fd00::1'"]),
        ({"dns": ["self", "10.0.0.256"]}, ["dns", "'10.0.0.256'"]),
        ({"domain": "no spaces"}, ["domain", "'no spaces'"]),
        ({"domain": ""}, ["domain", "''"]),
        ({"domain": "a..b"}, ["domain", "'a..b'"]),
        ({"domain": "x" * 64}, ["domain", "x" * 64]),
        ({"domain": ".".join(["x" * 60] * 4)}, ["domain"]),
        ({"mtu": 67}, ["mtu", "67"]),
        ({"mtu": 65536}, ["mtu", "65536"]),
        ({"lease_time": 0}, ["lease_time", "0"]),
        ({"lease_time": -5.0}, ["lease_time", "-5.0"]),
        ({"lease_time": float("nan")}, ["lease_time", "nan"]),
        ({"lease_time": float("inf")}, ["lease_time", "inf"]),
        ({"static": {"02:00:00:00:00": "10.0.0.7"}}, ["'02:00:00:00:00'"]),
        ({"static": {"03:00:00:00:00:01": "10.0.0.7"}}, ["'03:00:00:00:00:01'"]),
        ({"static": {b"": "10.0.0.7"}}, ["static", "empty"]),
        ({"static": {"02:00:00:00:00:07": "10.0.0.1"}}, ["static", "10.0.0.1"]),
        ({"static": {"02:00:00:00:00:07": "10.0.1.7"}}, ["static", "10.0.1.7"]),
        ({"static": {"02:00:00:00:00:07": "10.0.0.7", b"x": "10.0.0.7"}}, ["static", "10.0.0.7", "two"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=" ") as caught:
        check(**changes)
    assert all(word in str(caught.value) for word in words), caught.value
