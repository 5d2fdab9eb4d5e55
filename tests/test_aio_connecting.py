"""Connecting streams: addresses, names, and giving up."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import closing, suppress
from typing import Any

import pytest
from aio_world import VirtualLoop, ended, nothing_left, reset, run, two_hosts

import lwipy
from lwipy.aio import create_connection, create_server, getaddrinfo, open_connection, start_server
from lwipy.blocking.race import in_turns
from lwipy.services.dns import DnsServer

HOSTS = pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"], ids=["ipv4", "ipv6"])


# -- Connecting ------------------------------------------------------------------------------------------------------


@HOSTS
def test_refused(host: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(ConnectionRefusedError, match=f"Connect call failed \\('{host}', 9") as caught:
                await open_connection(pair.a, host, 9)
            assert caught.value.errno == errno.ECONNREFUSED

    run(main)


def test_unreachable() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(OSError, match=r"Connect call failed \('192.0.2.1', 80\): No route to host") as caught:
                await open_connection(pair.a, "192.0.2.1", 80)
            assert caught.value.errno == errno.EHOSTUNREACH

    run(main)


def test_nobody_answers() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            with pytest.raises(TimeoutError, match="Connect call failed") as caught:
                await open_connection(pair.a, "10.0.0.99", 80)
            assert caught.value.errno == errno.ETIMEDOUT
            started = loop.time()
            with pytest.raises(TimeoutError, match=r"\('10.0.0.99', 80\): no connection within 2 s"):
                await open_connection(pair.a, "10.0.0.99", 80, timeout=2)
            assert loop.time() - started < 2.1

    run(main, VirtualLoop)


@pytest.mark.parametrize(
    ("host", "port", "error", "text"),
    [
        ("10.0.0.2", 70000, OverflowError, "port 70000 is out of range"),
        ("no such name", 80, socket.gaierror, "no such name"),
        ("10.0.0.2", "no-such-service", socket.gaierror, "no-such-service"),
    ],
)
def test_bad_arguments(host: str, port: Any, error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(error, match=text):
                await open_connection(pair.a, host, port)

    run(main)


def test_a_reset_reaches_reader_and_writer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        reset(writer.transport)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, refuse, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    run(main)


def test_data_and_end_that_came_before_a_reset_are_read_first() -> None:
    """The server answers and closes with our second line unread, which resets the connection (RFC 2525 2.17)."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"answer")
        await asyncio.sleep(0.01)
        reset(writer.transport)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, answer, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            assert await reader.readexactly(6) == b"answer"
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await ended(writer)

    run(main)


def test_the_local_address_can_be_chosen() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(repr(writer.get_extra_info("peername")).encode())
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, peer, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80, local_addr=("10.0.0.1", 5555))
            assert await reader.read() == b"('10.0.0.1', 5555)"
            await ended(writer)
            with pytest.raises(OSError, match=r"bind on address \('10.0.0.7', 5555\)") as caught:
                await open_connection(pair.a, "10.0.0.2", 80, local_addr=("10.0.0.7", 5555))
            assert caught.value.errno == errno.EADDRNOTAVAIL
            with pytest.raises(OSError, match="no local address of IPv4"):
                await open_connection(pair.a, "10.0.0.2", 80, local_addr=("fd00::1", 5555))

    run(main)


# -- Names -----------------------------------------------------------------------------------------------------------


def test_names_of_the_hosts_table() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, hello, "10.0.0.2", 80):
            # The first address refuses, the second answers.
            pair.a.hosts["there"] = ["fd00::2", "10.0.0.2"]
            reader, writer = await open_connection(pair.a, "there", 80)
            assert writer.get_extra_info("peername") == ("10.0.0.2", 80)
            assert await reader.read() == b"hello"
            await ended(writer)

    run(main)


def test_names_by_dns() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = DnsServer(pair.b)
            pair.b.hosts["printer.lwipy"] = ["10.0.0.7"]
            pair.a.dns_servers = ["10.0.0.2"]
            found = await getaddrinfo(pair.a, "printer.lwipy", 80, type=socket.SOCK_STREAM)
            assert found == [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("10.0.0.7", 80))]
            with pytest.raises(socket.gaierror, match=r"nobody\.lwipy"):
                await getaddrinfo(pair.a, "nobody.lwipy", 80)
            asking = asyncio.create_task(getaddrinfo(pair.a, "slow.lwipy", 80))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            server.close()

    run(main)


def test_a_stack_closed_while_a_name_is_asked_for() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            stack.add_interface(ipv4="10.0.0.1/24")
            stack.dns_servers = ["10.0.0.9"]
            asking = asyncio.create_task(getaddrinfo(stack, "slow.lwipy", 80))
            await asyncio.sleep(0.01)
            stack.close()
            with pytest.raises(lwipy.StackClosedError):
                await asking

    run(main)


def test_getaddrinfo_of_numbers_needs_nobody() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            assert await getaddrinfo(pair.a, "10.1.2.3", "80", type=socket.SOCK_DGRAM) == [
                (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP, "", ("10.1.2.3", 80))
            ]
            (info,) = await getaddrinfo(pair.a, "fe80::1%a0", 80, type=socket.SOCK_STREAM)
            assert info[4] == ("fe80::1", 80, 0, pair.nic_a.number)
            passive = await getaddrinfo(pair.a, None, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            assert [info[4][0] for info in passive] == ["::", "0.0.0.0"]
            with pytest.raises(socket.gaierror, match="not a numeric address"):
                await getaddrinfo(pair.a, "example", 80, flags=socket.AI_NUMERICHOST)

    run(main)


# -- Several addresses -----------------------------------------------------------------------------------------------


def test_happy_eyeballs_does_not_wait_for_the_dead_address() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80)
            pair.a.hosts["there"] = ["fd00::99", "10.0.0.2"]
            started = loop.time()
            transport, _ = await create_connection(pair.a, asyncio.Protocol, "there", 80, happy_eyeballs_delay=0.25)
            assert 0.25 <= loop.time() - started < 1
            assert transport.get_extra_info("peername") == ("10.0.0.2", 80)
            transport.close()
            server.close()

    run(main, VirtualLoop)


def test_when_no_address_answers_all_errors_are_told() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.hosts["there"] = ["10.0.0.2", "192.0.2.1"]
            with pytest.raises(OSError, match=r"Multiple exceptions: .*10\.0\.0\.2.*refused.*192\.0\.2\.1.*No route"):
                await open_connection(pair.a, "there", 9)
            with pytest.raises(ExceptionGroup) as caught:
                await open_connection(pair.a, "there", 9, all_errors=True)
            assert [error.errno for error in caught.value.exceptions if isinstance(error, OSError)] == [
                errno.ECONNREFUSED,
                errno.EHOSTUNREACH,
            ]

    run(main)


def test_interleaving_takes_the_families_in_turns() -> None:
    def info(host: str) -> Any:
        return (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 80))

    def order(hosts: list[str], first: int) -> list[str]:
        return [str(entry[4][0]) for entry in in_turns([info(host) for host in hosts], first)]

    hosts = ["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]
    assert order(hosts, 1) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert order(hosts, 2) == ["::1", "::2", "1.1.1.1", "::3", "2.2.2.2"]


# -- Cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(12))
def test_cancelled_at_any_turn_a_connection_leaves_nothing(turns: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80)
            connecting = asyncio.create_task(create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80))
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            with suppress(asyncio.CancelledError):
                transport, _ = await connecting
                transport.close()
            server.close()
            await nothing_left(pair)

    run(main)


def test_a_losing_attempt_is_given_up() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            pair.a.hosts["there"] = ["10.0.0.98", "10.0.0.99"]
            connecting = asyncio.create_task(
                create_connection(pair.a, asyncio.Protocol, "there", 80, happy_eyeballs_delay=0.25)
            )
            await asyncio.sleep(1)
            assert pair.a.statistics.endpoints == 2
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert pair.a.statistics.endpoints == 0

    run(main, VirtualLoop)


def test_a_factory_that_fails_leaves_nothing() -> None:
    def fail() -> asyncio.Protocol:
        raise KeyError("the factory")

    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80)
            with pytest.raises(KeyError, match="the factory"):
                await create_connection(pair.a, fail, "10.0.0.2", 80)
            server.close()

    run(main)
