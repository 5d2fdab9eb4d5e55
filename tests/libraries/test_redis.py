"""redis-py, blocking and asynchronous, against Debian's redis-server behind a TAP."""

from __future__ import annotations

from contextlib import closing

import redis
import redis.asyncio

import lwipy

from .conftest import CONTENT, blocking, run
from .real_server import ADDRESS, real_server


def test_redis() -> None:
    async def client() -> None:
        async with redis.asyncio.Redis(host=ADDRESS) as database:
            assert await database.get("content") == CONTENT
            async with database.pubsub() as channel:
                await channel.subscribe("news")
                assert (await channel.get_message(timeout=30))["type"] == "subscribe"
                await database.publish("news", "hello")
                assert (await channel.get_message(timeout=30))["data"] == b"hello"

    with closing(lwipy.Stack()) as stack:
        options = ["--bind", ADDRESS, "--protected-mode", "no", "--save", "", "--dir", "/tmp"]
        with real_server(stack, "redis-server", *options, port=6379):
            with blocking(stack), redis.Redis(host=ADDRESS) as database:
                database.set("content", CONTENT)
                with database.pipeline() as pipeline:
                    for _ in range(1000):
                        pipeline.incr("counter")
                    assert pipeline.execute()[-1] == 1000
            run(stack, client)
