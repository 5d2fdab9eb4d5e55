"""anyio: the same echo server and client on both of its backends. Needs lwipy[anyio], and trio for the second."""

import anyio
from anyio.abc import SocketStream

import lwipy
from lwipy.anyio import connect_tcp, create_tcp_listener, driving


async def echo(stream: SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data.upper())


async def main() -> None:
    server, client = lwipy.Stack(), lwipy.Stack()
    lwipy.wire(server.add_interface(ipv4="10.0.0.1/24"), client.add_interface(ipv4="10.0.0.2/24"))
    async with driving(server), driving(client), anyio.create_task_group() as tasks:
        listener = await create_tcp_listener(server, local_port=7)
        tasks.start_soon(listener.serve, echo)
        async with await connect_tcp(client, "10.0.0.1", 7) as stream:
            await stream.send(b"every stack has its own network")
            await stream.send_eof()
            async for data in stream:
                print(data)
        tasks.cancel_scope.cancel()
        await listener.aclose()
    server.close()
    client.close()


for backend in ("asyncio", "trio"):
    anyio.run(main, backend=backend)
