"""pymodbus: registers of a device, asynchronous and blocking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pymodbus.client import AsyncModbusTcpClient, AsyncModbusTlsClient, ModbusTcpClient
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer, ModbusTlsServer

from .conftest import HOST, NAME, Ends, Tls, blocking, plain_and_tls, run, serving


@plain_and_tls
def test_pymodbus(ends: Ends, tls: Tls, secure: bool) -> None:
    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        device = ModbusDeviceContext(hr=ModbusSequentialDataBlock(1, [11, 12, 13, 14]))
        context = ModbusServerContext(devices=device, single=True)
        server: ModbusTcpServer
        if secure:
            server = ModbusTlsServer(context, address=(HOST, 502), sslctx=tls.server)
        else:
            server = ModbusTcpServer(context, address=(HOST, 502))
        await server.serve_forever(background=True)
        yield
        await server.shutdown()

    async def client() -> None:
        client: AsyncModbusTcpClient
        if secure:
            client = AsyncModbusTlsClient(NAME, port=502, sslctx=tls.client)
        else:
            client = AsyncModbusTcpClient(NAME, port=502)
        async with client:
            await client.write_register(2, 99)
            answer = await client.read_holding_registers(0, count=4)
            assert answer.registers == [11, 12, 99, 14]

    with serving(ends.server, server):
        run(ends.client, client)
        if not secure:
            with blocking(ends.client), ModbusTcpClient(NAME, port=502) as modbus:
                assert modbus.read_holding_registers(0, count=4).registers == [11, 12, 99, 14]
