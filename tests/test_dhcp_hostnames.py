"""lwipy.services.hostnames: what guests call themselves, and what we call them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwipy.services.hostnames import domain_from, hostname_from


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"debian", "debian"),
        (b"Debian", "debian"),
        (b"web.example.org", "web"),
        (b"guest\0\0", "guest"),
        (b"Ann's phone", "ann-s-phone"),
        (b"my_box", "my-box"),
        (b"-edge-", "edge"),
        ("caf\u00e9".encode(), "caf"),
        (b"xn--caf-dma", "xn--caf-dma"),
        (b"n" * 70, "n" * 63),
        (b"n" * 62 + b"!nn", "n" * 62),
        (b"7", "7"),
        (b"", None),
        (b"...", None),
        (b"\xff\xfe", None),
        (b"(none)", None),
        (b"localhost", None),
        (b"WPAD", None),
        (b"isatap.corp", None),
    ],
)
def test_a_guests_claim_becomes_a_label(raw: bytes, name: str | None) -> None:
    assert hostname_from(raw) == name


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_whatever_a_guest_claims_it_is_a_label_or_nothing(raw: bytes) -> None:
    name = hostname_from(raw)
    assert name is None or re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_a_label_stays_what_it_is(raw: bytes) -> None:
    name = hostname_from(raw)
    assert name is None or hostname_from(name.encode()) in (name, None)


def test_domains() -> None:
    assert domain_from("LWIPY") == "lwipy"
    assert domain_from("a.b.example.") == "a.b.example"
    for bad in ("", ".", "a b", "-a", "a-", "a..b", "x" * 64, "\u00e9", "a_b"):
        with pytest.raises(ValueError, match=re.escape(repr(bad))):
            domain_from(bad)
