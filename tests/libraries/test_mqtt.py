"""paho-mqtt in threads and aiomqtt in asyncio, against Debian's mosquitto behind a TAP."""

from __future__ import annotations

import queue
from contextlib import closing
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import lwipy

from .conftest import NAME, Tls, blocking, plain_and_tls, run
from .real_server import ADDRESS, real_server


@plain_and_tls
def test_mqtt(tls: Tls, secure: bool, tmp_path: Path) -> None:
    settings = f"listener 1883 {ADDRESS}\nallow_anonymous true\nuser root\nlog_type error\n"
    if secure:
        settings += f"certfile {tls.certificate}\nkeyfile {tls.key}\n"
    (tmp_path / "settings").write_text(settings)
    context = tls.client if secure else None

    async def by_aiomqtt() -> None:
        async with aiomqtt.Client(NAME, 1883, tls_context=context) as client:
            await client.subscribe("rooms/+")
            await client.publish("rooms/one", b"by aiomqtt")
            async for message in client.messages:
                assert (str(message.topic), message.payload) == ("rooms/one", b"by aiomqtt")
                break

    def by_paho() -> None:
        came: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        client = Client(CallbackAPIVersion.VERSION2)
        if context is not None:
            client.tls_set_context(context)

        def subscribed(*_: Any) -> None:
            client.publish("rooms/two", b"by paho")

        def arrived(_: Any, __: Any, message: Any) -> None:
            came.put((message.topic, message.payload))

        client.on_subscribe, client.on_message = subscribed, arrived
        client.connect(NAME, 1883)
        client.loop_start()
        client.subscribe("rooms/+")
        assert came.get(timeout=30) == ("rooms/two", b"by paho")
        client.disconnect()
        client.loop_stop()

    with closing(lwipy.Stack()) as stack:
        stack.hosts[NAME] = [ADDRESS]
        with real_server(stack, "mosquitto", "-c", str(tmp_path / "settings"), port=1883):
            run(stack, by_aiomqtt)
            with blocking(stack):
                by_paho()
