"""dnspython: a resolver over UDP, TCP and TLS, blocking and asynchronous, against a small server of its messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncquery
import dns.asyncresolver
import dns.flags
import dns.message
import dns.query
import dns.resolver
import dns.rrset

from .conftest import HOST, NAME, Ends, Tls, blocking, run, serving


def answer(wire: bytes, longest: int) -> bytes:
    """Every name has forty addresses; what is too long for a datagram is cut."""
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query)
    addresses = [f"192.0.2.{number}" for number in range(40)]
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *addresses))
    if len(response.to_wire()) > longest:
        response.answer.clear()
        response.flags |= dns.flags.TC
    return response.to_wire()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(answer(data, 512), address)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    response = answer(wire, 65535)
    writer.write(len(response).to_bytes(2, "big") + response)
    writer.close()
    with contextlib.suppress(ConnectionError):  # clients hang up on TLS without a goodbye
        await writer.wait_closed()


def test_dnspython(ends: Ends, tls: Tls) -> None:
    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, (HOST, 53))
        async with await asyncio.start_server(stream, HOST, 53):
            async with await asyncio.start_server(stream, HOST, 853, ssl=tls.server):
                yield
        transport.close()

    question = dns.message.make_query("many.test", "A")

    def check(response: dns.message.Message) -> None:
        assert [len(rrset) for rrset in response.answer] == [40]

    async def client() -> None:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [HOST]
        assert len(await resolver.resolve("many.test")) == 40
        assert (await dns.asyncquery.udp(question, HOST, timeout=30)).flags & dns.flags.TC
        check(await dns.asyncquery.tcp(question, HOST, timeout=30))
        check(await dns.asyncquery.tls(question, HOST, 30, ssl_context=tls.client, server_hostname=NAME))

    with serving(ends.server, server):
        run(ends.client, client)
        with blocking(ends.client):
            assert dns.query.udp(question, HOST, timeout=30).flags & dns.flags.TC
            check(dns.query.tcp(question, HOST, timeout=30))
            check(dns.query.tls(question, HOST, 30, ssl_context=tls.client, server_hostname=NAME))
            resolver = dns.resolver.Resolver(configure=False)
            resolver.nameservers = [HOST]
            assert len(resolver.resolve("many.test")) == 40
