"""trio: an echo server and its client, two stacks in one trio. Needs lwipy[trio]."""

import trio

import lwipy
from lwipy.trio import SocketStream, driving, open_tcp_stream, serve_tcp


async def echo(stream: SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data.upper())


async def main() -> None:
    server, client = lwipy.Stack(), lwipy.Stack()
    lwipy.wire(server.add_interface(ipv6="fd00::1/64"), client.add_interface(ipv6="fd00::2/64"))
    async with driving(server), driving(client), trio.open_nursery() as nursery:
        await nursery.start(serve_tcp, server, echo, 7)
        async with await open_tcp_stream(client, "fd00::1", 7) as stream:
            await stream.send_all(b"every stack has its own network")
            await stream.send_eof()
            async for data in stream:
                print(data)
        nursery.cancel_scope.cancel()
    server.close()
    client.close()


trio.run(main)
