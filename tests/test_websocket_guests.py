"""Who may come to a WebSocket relay, and what guests may do there that mean harm or vanish."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from links import BROADCAST, eventually
from relays import UPGRADE, frame, guest, send_and_check, serve_sums
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import lwipy
from lwipy.links import WebSocketRelay
from lwipy.links.websocket import RelayCounters

# -- Who may come ------------------------------------------------------------------------------------------------


def come(relay: WebSocketRelay, origin: str | None) -> bool:
    """Whether a page of `origin` is let in; a refusal has the status 403."""
    try:
        with connect(relay.url, origin=origin):  # type: ignore[arg-type]
            return True
    except InvalidStatus as error:
        return error.response.status_code != 403


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("https://127.0.0.1", True),
        ("http://127.8.9.1:1", True),
        ("http://[::1]:8080", True),
        ("http://v86.localhost", True),
        ("https://example.org", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://192.168.1.5", False),
        ("null", False),
        ("file://", False),
        ("http://[", False),
    ],
)
def test_without_origins_only_pages_of_this_machine(relay: WebSocketRelay, origin: str | None, welcome: bool) -> None:
    assert come(relay, origin) is welcome
    assert relay.counters.refused_origin == (not welcome)


def test_with_origins_exactly_those() -> None:
    with WebSocketRelay(on_guest=lambda guest: None, origins=["https://Copy.sh/", "null"]) as relay:
        assert come(relay, "https://copy.sh")
        assert come(relay, "null")
        assert come(relay, None)
        assert not come(relay, "http://copy.sh")
        assert not come(relay, "http://localhost")


def test_with_a_star_all() -> None:
    with WebSocketRelay(on_guest=lambda guest: None, origins="*") as relay:
        assert come(relay, "https://example.org")


def test_a_refusal_is_logged_once(relay: WebSocketRelay, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert not come(relay, "https://example.org")
    assert relay.counters.refused_origin == 3
    assert caplog.text.count("refused a page of https://example.org") == 1


def test_only_so_many_guests() -> None:
    with WebSocketRelay(on_guest=lambda guest: None, max_guests=2) as relay:
        with connect(relay.url), connect(relay.url):
            eventually(lambda: len(relay.guests) == 2)
            with pytest.raises(InvalidStatus) as refused, connect(relay.url):
                pass
            assert refused.value.response.status_code == 503
            assert relay.counters == RelayCounters(accepted=2, refused_full=1)
        eventually(lambda: not relay.guests)
        with connect(relay.url):
            eventually(lambda: len(relay.guests) == 1)


# -- Bad input ---------------------------------------------------------------------------------------------------


def test_text_is_ignored_and_counted(
    relay: WebSocketRelay, client: ClientConnection, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        client.send("hello")
    client.send(frame(BROADCAST, 5))
    eventually(lambda: relay.guests[0].counters.rx_frames == 1)
    assert relay.guests[0].counters.text == 3
    assert caplog.text.count("sent text") == 1


def test_a_message_that_is_too_long_ends_the_connection(relay: WebSocketRelay, client: ClientConnection) -> None:
    client.send(bytes(65553))
    client.send(bytes(65554))
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            client.recv(20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    eventually(lambda: relay.counters.too_long == 1)
    eventually(lambda: not relay.guests)


def test_frames_that_are_none_are_counted(relay: WebSocketRelay, client: ClientConnection) -> None:
    for junk in (b"", b"x", bytes(13), bytes(14), b"\xff" * 60):
        client.send(junk)
    eventually(lambda: relay.guests[0].counters.rx_frames == 5)
    counters = relay.switch.counters
    assert (counters.short, counters.bad_source) == (3, 2)


def test_what_is_no_websocket_at_all_does_no_harm(relay: WebSocketRelay) -> None:
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + os.urandom(100), os.urandom(20_000), b""):
        with socket.create_connection(relay.address) as raw:
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(20)
            with contextlib.suppress(ConnectionError):
                while raw.recv(4096):
                    pass
    with connect(relay.url):
        eventually(lambda: relay.guests)


def test_a_guest_that_vanishes_is_forgotten(relay: WebSocketRelay) -> None:
    with socket.create_connection(relay.address) as raw:
        raw.sendall(UPGRADE)
        eventually(lambda: relay.guests)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset instead of an end
    eventually(lambda: not relay.guests)
    eventually(lambda: len(relay.switch.plugs) == 1)


def test_a_guest_that_does_not_answer_pings_is_gone(stack: lwipy.Stack) -> None:
    relay = WebSocketRelay(keepalive=0.2)
    stack.add_interface(relay, ipv4="10.0.0.1/24")
    with socket.create_connection(relay.address) as raw:
        raw.sendall(UPGRADE)
        eventually(lambda: relay.counters.accepted == 1)
        eventually(lambda: not relay.guests)


def test_a_guest_that_does_not_read_loses_frames_and_holds_up_nobody(stack: lwipy.Stack) -> None:
    relay = WebSocketRelay(queue=50)
    nic = stack.add_interface(relay, ipv4="10.0.0.1/24")
    with connect(relay.url, close_timeout=0.1) as stuck:
        stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        eventually(lambda: relay.guests)
        (lazy,) = relay.guests
        with guest(relay, "10.0.0.3/24") as lively:
            udp = stack.udp()
            udp.set_option(lwipy.Option.BROADCAST, 1)

            def flood() -> bool:
                for _ in range(100):
                    udp.send(bytes(1400), ("10.0.0.255", 9))
                return lazy.counters.tx_dropped > 0

            # The library reads ahead on its own: so long until that is full, and the kernel's buffers are.
            eventually(flood, 60)
            serving = serve_sums(stack, "10.0.0.1")
            send_and_check(lively, "10.0.0.1", 100_000)
            serving.join()
        assert nic.counters.tx_full == 0
