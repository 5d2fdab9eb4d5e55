"""The relay for emulators in a browser, with real WebSocket clients as guests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from links import BROADCAST, eventually
from relays import frame, guest, send_and_check, serve_sums
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import lwipy
from lwipy import aio
from lwipy.links import Impair, Pcap, Switch, WebSocketRelay
from lwipy.links.websocket import GuestCounters, RelayCounters, WebSocketGuest


def relays_since(before: list[threading.Thread]) -> int:
    """How many threads of relays run that were not there before."""
    return sum(thread.name == "lwipy-websocket" and thread not in before for thread in threading.enumerate())


# -- Frames ------------------------------------------------------------------------------------------------------


def test_one_binary_message_is_one_frame(relay: WebSocketRelay, client: ClientConnection) -> None:
    request = bytes.fromhex("ffffffffffff 020000000105 0806 0001 0800 06 04 0001 020000000105 0a000005") + bytes(6)
    client.send(request + bytes([10, 0, 0, 1]))
    while True:
        answer = client.recv(20)
        assert isinstance(answer, bytes)
        if answer[12:14] == b"\x08\x06" and answer[20:22] == b"\0\2":
            break
    assert answer[:14] == bytes.fromhex("020000000105 020000000001 0806")
    assert answer[28:32] == bytes([10, 0, 0, 1])


def test_no_extension_and_no_subprotocol_whatever_the_client_offers(relay: WebSocketRelay) -> None:
    with connect(relay.url + "any/path?at=all", compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert client.subprotocol is None
        eventually(lambda: [guest.path for guest in relay.guests] == ["/any/path?at=all"])


def test_a_guest_talks_tcp_with_the_interface(stack: lwipy.Stack, relay: WebSocketRelay) -> None:
    with guest(relay, "10.0.0.2/24") as one:
        serving = serve_sums(stack, "10.0.0.1")
        send_and_check(one, "10.0.0.1")
        serving.join()
        serving = serve_sums(one, "10.0.0.2")
        send_and_check(stack, "10.0.0.2")
        serving.join()
        counters = relay.guests[0].counters
        assert counters.rx_frames > 130
        assert counters.tx_frames > 130
        assert (counters.rx_dropped, counters.tx_dropped) == (0, 0)


def test_two_guests_are_on_one_switch(relay: WebSocketRelay) -> None:
    with guest(relay, "10.0.0.2/24") as one, guest(relay, "10.0.0.3/24") as two:
        serving = serve_sums(one, "10.0.0.2")
        send_and_check(two, "10.0.0.2")
        serving.join()
        assert len(relay.switch.plugs) == 3
        assert relay.switch.counters.forwarded > 200
    eventually(lambda: len(relay.switch.plugs) == 1)


def test_a_guest_cannot_claim_the_interfaces_address(relay: WebSocketRelay, client: ClientConnection) -> None:
    with connect(relay.url) as victim:
        eventually(lambda: len(relay.guests) == 2)
        client.send(BROADCAST + bytes.fromhex("020000000001") + bytes(60))
        client.send(frame(BROADCAST, 7))
        while (got := victim.recv(20)) != frame(BROADCAST, 7):
            assert got[6:12] != bytes.fromhex("020000000001") or got[14:] != bytes(60)
    assert relay.switch.counters.spoofed == 1


def test_guests_join_a_switch_that_others_are_on(stack: lwipy.Stack) -> None:
    switch = Switch()
    relay = WebSocketRelay(switch=switch)
    stack.add_interface(relay, ipv4="10.0.0.1/24")
    with lwipy.Stack() as other:
        other.add_interface(switch.port(), ipv4="10.0.0.9/24")
        with guest(relay, "10.0.0.2/24") as one:
            serving = serve_sums(other, "10.0.0.9")
            send_and_check(one, "10.0.0.9", 50_000)
            serving.join()


def test_each_guest_may_have_an_interface_of_its_own(stack: lwipy.Stack) -> None:
    threads, gone = [], []

    def welcome(guest: WebSocketGuest) -> None:
        threads.append(threading.current_thread().name)
        number = len(threads)
        stack.add_interface(guest, ipv4=f"10.0.{number}.1/24", name=f"guest{number}")
        guest.on_close = lambda: gone.append((number, threading.current_thread().name))

    with WebSocketRelay(on_guest=welcome, stack=stack) as relay:
        with guest(relay, "10.0.1.2/24") as one:
            eventually(lambda: len(threads) == 1)
            with guest(relay, "10.0.2.2/24") as two:
                eventually(lambda: len(threads) == 2)
                for host, address in ((one, "10.0.1.1"), (two, "10.0.2.1")):
                    serving = serve_sums(stack, address)
                    send_and_check(host, address, 100_000)
                    serving.join()
                assert sorted(stack.interfaces) == ["guest1", "guest2"]
            eventually(lambda: sorted(stack.interfaces) == ["guest1"])
        eventually(lambda: not stack.interfaces)
        assert [number for number, _ in gone] == [2, 1]
        assert set(threads) == {name for _, name in gone} == {"lwipy"}


def test_frames_that_come_before_the_guest_has_an_interface_are_not_lost(stack: lwipy.Stack) -> None:
    waiting: list[WebSocketGuest] = []
    with WebSocketRelay(on_guest=waiting.append, queue=100) as relay, connect(relay.url) as client:
        eventually(lambda: waiting)
        for _ in range(150):
            client.send(frame(BROADCAST, 5))
        eventually(lambda: waiting[0].counters.rx_dropped == 50)  # a frame is counted before it is put there
        assert waiting[0].counters.rx_frames == 150
        nic = stack.add_interface(waiting[0], ipv4="10.0.0.1/24")
        eventually(lambda: nic.counters.rx_frames == 100)
        assert waiting[0].counters.rx_dropped == 50


def test_a_failing_on_guest_sends_the_guest_away(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(guest: WebSocketGuest) -> None:
        raise LookupError("no room at the inn")

    with WebSocketRelay(on_guest=refuse) as relay, connect(relay.url) as client:
        with pytest.raises(ConnectionClosed):
            client.recv(20)
        eventually(lambda: not relay.guests)
    assert "no room at the inn" in caplog.text


def test_removing_the_interface_closes_the_guests_connection(stack: lwipy.Stack) -> None:
    guests: list[WebSocketGuest] = []
    with WebSocketRelay(on_guest=guests.append) as relay, connect(relay.url) as client:
        eventually(lambda: guests)
        nic = stack.add_interface(Pcap(guests[0], os.devnull), ipv4="10.0.0.1/24")
        with pytest.raises(ValueError, match="is in use already"):
            stack.add_interface(guests[0])
        nic.remove()
        with pytest.raises(ConnectionClosed):
            while True:
                client.recv(20)
        eventually(lambda: not guests[0].connected)
        with pytest.raises(OSError, match="has gone"):
            stack.add_interface(guests[0])


# -- Whatever drives the stack -----------------------------------------------------------------------------------


def test_by_hand_frames_are_received_by_poll() -> None:
    relay = WebSocketRelay()
    with contextlib.closing(lwipy.Stack()) as stack:
        nic = stack.add_interface(relay, ipv4="10.0.0.1/24")
        with connect(relay.url) as client:
            eventually(lambda: relay.guests)
            client.send(frame(BROADCAST, 5))
            eventually(lambda: relay.guests[0].counters.rx_frames == 1)
            assert nic.counters.rx_frames == 0
            # The guest counts a frame before it hands it over.
            eventually(lambda: (stack.poll(), nic.counters.rx_frames)[1])
            assert nic.counters.rx_frames == 1


def test_a_blocking_call_by_hand_is_woken_by_frames() -> None:
    relay = WebSocketRelay()
    with contextlib.closing(lwipy.Stack()) as stack:
        stack.add_interface(relay, ipv4="10.0.0.1/24")
        with guest(relay, "10.0.0.2/24") as one:
            serving = serve_sums(one, "10.0.0.2")
            send_and_check(stack, "10.0.0.2", 100_000)
            serving.join()


def test_in_an_asyncio_loop() -> None:
    async def upload(relay: WebSocketRelay, stack: lwipy.Stack) -> None:
        reader, writer = await aio.open_connection(stack, "10.0.0.2", 80)
        data = os.urandom(300_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == hashlib.sha256(data).digest()
        writer.close()

    async def main() -> None:
        stack, relay = lwipy.Stack(), WebSocketRelay()
        async with aio.driving(stack):
            stack.add_interface(relay, ipv4="10.0.0.1/24")
            with guest(relay, "10.0.0.2/24") as one:
                serving = serve_sums(one, "10.0.0.2")
                await upload(relay, stack)
                await asyncio.to_thread(serving.join)
            stack.close()

    asyncio.run(main())


def test_inside_wrappers(stack: lwipy.Stack) -> None:
    relay = WebSocketRelay()
    impair = Impair(relay, loss=0.01, seed=3)
    stack.add_interface(impair, ipv4="10.0.0.1/24")
    with guest(relay, "10.0.0.2/24") as one:
        serving = serve_sums(stack, "10.0.0.1")
        send_and_check(one, "10.0.0.1", 300_000)
        serving.join()
    assert impair.stage.incoming_counters.lost > 0


# -- Life --------------------------------------------------------------------------------------------------------


def test_an_address_in_use_is_told_at_the_call(relay: WebSocketRelay) -> None:
    with lwipy.Stack() as other:
        with pytest.raises(OSError, match="address already in use"):
            other.add_interface(WebSocketRelay(*relay.address))
        assert not other.interfaces


def test_it_closes_with_its_interface_and_can_be_opened_again(stack: lwipy.Stack) -> None:
    before = threading.enumerate()
    relay = WebSocketRelay()
    nic = stack.add_interface(relay, ipv4="10.0.0.1/24")
    address, url = relay.address, relay.url
    with connect(url) as client:
        eventually(lambda: relay.guests)
        nic.remove()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                client.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address)
    with pytest.raises(RuntimeError, match="listens once it is attached"):
        _ = relay.address
    stack.add_interface(relay, ipv4="10.0.0.1/24")
    with connect(relay.url):
        eventually(lambda: relay.guests)
        assert relays_since(before) == 1


def test_closing_the_stack_closes_the_relay() -> None:
    before = threading.enumerate()
    with lwipy.Stack() as stack:
        relay = WebSocketRelay()
        stack.add_interface(relay)
        address = relay.address
    assert relays_since(before) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address)


def test_a_relay_of_separate_guests_is_no_link_itself(stack: lwipy.Stack) -> None:
    with pytest.raises(ValueError, match="interfaces of their own"):
        stack.add_interface(WebSocketRelay(on_guest=lambda guest: None))
    assert not stack.interfaces


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_guests": 0}, "max_guests 0 is out of range"),
        ({"queue": 0}, "queue 0 is out of range"),
        ({"keepalive": 0}, "keepalive 0 is out of range"),
        ({"origins": ["example.org"]}, "'example.org' is not an origin"),
        ({"origins": "https://example.org/page"}, "'https://example.org/page' is not an origin"),
        ({"switch": Switch(), "on_guest": print}, "not both"),
    ],
)
def test_a_bad_value_is_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WebSocketRelay(**arguments)


def test_without_the_library_the_extra_is_named() -> None:
    program = "import sys; sys.modules['websockets'] = None\nimport lwipy.links\nlwipy.links.WebSocketRelay"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1
    assert "pip install 'lwipy[websocket]'" in run.stderr


def test_counters_begin_at_zero() -> None:
    """Where no stack is behind the relay, which would introduce itself."""
    with WebSocketRelay(on_guest=lambda guest: None) as relay, connect(relay.url):
        eventually(lambda: relay.guests)
        assert relay.counters == RelayCounters(accepted=1)
        assert relay.guests[0].counters == GuestCounters()
        logging.getLogger("lwipy.links.websocket").debug("%r %r", relay, relay.guests)
