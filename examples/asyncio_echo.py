"""asyncio: an echo server and its client, two stacks on one loop."""

import asyncio

import lwipy
from lwipy import aio


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def main() -> None:
    server, client = lwipy.Stack(), lwipy.Stack()
    lwipy.wire(server.add_interface(ipv6="fd00::1/64"), client.add_interface(ipv6="fd00::2/64"))
    async with aio.driving(server), aio.driving(client):
        listener = await aio.start_server(server, echo, "fd00::1", 7)
        reader, writer = await aio.open_connection(client, "fd00::1", 7)
        writer.write(b"every stack has its own network")
        writer.write_eof()
        print(await reader.read())
        writer.close()
        listener.close()
    server.close()
    client.close()


asyncio.run(main())
