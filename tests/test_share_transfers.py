"""The events of a share: what a program shows while files move."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from share_server import eventually, form, serving

from lwipy.services import share
from lwipy.services.share import Event, Finished, Progress, Started


def moves(events: list[Event]) -> list[tuple[Started, list[Progress], Finished]]:
    """The events by transfer; the order within each is checked."""
    found = []
    for number in sorted({event.transfer for event in events}):
        own = [event for event in events if event.transfer == number]
        started, *progress, finished = own
        assert isinstance(started, Started)
        assert isinstance(finished, Finished)
        steps = [event for event in progress if isinstance(event, Progress)]
        assert len(steps) == len(progress)
        assert all(a.moved < b.moved for a, b in itertools.pairwise(steps))
        assert finished.moved == (steps[-1].moved if steps else 0)
        found.append((started, steps, finished))
    return found


def test_a_download_and_an_upload_are_told_from_start_to_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    with serving(tmp_path, writable=True) as served:
        served.get("/file")
        served.get("/file", range="bytes=100-199")
        served.ask("PUT", "/up", bytes(1_000_000))
        served.ask("PUT", "/chunked", iter([b"a", b"b"]), encode_chunked=True)
        served.ask("POST", "/", *form(("f", "one", b"1"), ("f", "two", b"22")))
        assert eventually(lambda: len([e for e in served.events if isinstance(e, Finished)]) == 6)
    told = moves(served.events)
    assert [(s.method, s.path, s.total, s.upload) for s, _, _ in told] == [
        ("GET", "/file", 2_000_000, False), ("GET", "/file", 100, False), ("PUT", "/up", 1_000_000, True),
        ("PUT", "/chunked", None, True), ("POST", "/one", None, True), ("POST", "/two", None, True),
    ]  # fmt: skip
    assert [f.moved for _, _, f in told] == [2_000_000, 100, 1_000_000, 2, 1, 2]
    assert all(f.ok and s.peer == "127.0.0.1" for s, _, f in told)
    assert len(told[0][1]) > 1, "a large file is told of on the way"


def test_what_moves_no_file_is_no_transfer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with serving(tmp_path, writable=True) as served:
        tag = served.ask("HEAD", "/file").headers["ETag"]
        served.get("/"), served.get("/missing"), served.get("/file", if_none_match=tag)
        served.ask("MKCOL", "/d"), served.ask("DELETE", "/d")
    assert served.events == []


def test_a_failure_says_why(tmp_path: Path) -> None:
    def first_bytes() -> int:
        return len([event for event in served.events if isinstance(event, Progress) and event.moved == 1])

    (tmp_path / "d").mkdir()
    with serving(tmp_path, writable=True, max_bytes=10) as served:
        served.ask("PUT", "/d", b"x")
        served.ask("PUT", "/large", iter([b"123456"] * 2), encode_chunked=True)
        with served.connect() as guest:
            guest.sendall(b"PUT /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
            assert eventually(lambda: first_bytes() == 1)
        assert eventually(lambda: len([event for event in served.events if isinstance(event, Finished)]) == 3)
        guest = served.connect()
        guest.sendall(b"PUT /stopped HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        assert eventually(lambda: first_bytes() == 2)
    guest.close()
    errors = [finished.error or "" for _, _, finished in moves(served.events)]
    for error, text in zip(errors, ["Is a directory", "10 bytes", "connection lost", "stopped"], strict=True):
        assert text in error


def test_a_path_is_told_as_text_that_is_safe_to_print(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\n").write_bytes(b"")
    (tmp_path / os.fsdecode(b"\xe9 \xc3\xa9")).write_bytes(b"")
    with serving(tmp_path) as served:
        served.get("/a%1b[31m%0a"), served.get("/%e9%20%c3%a9")
        assert eventually(lambda: len(served.events) == 4)
    assert [started.path for started, _, _ in moves(served.events)] == ["/a\\x1b[31m\\n", "/\\udce9 é"]


def test_an_observer_that_fails_breaks_no_transfer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise ZeroDivisionError

    (tmp_path / "file").write_bytes(b"content")
    with (
        caplog.at_level(logging.ERROR, "lwipy.share"),
        serving(tmp_path, writable=True, observer=fail) as served,
    ):
        assert served.get("/file").body == b"content"
        assert served.ask("PUT", "/up", b"x").status == 201
    assert "the observer failed" in caplog.text


def test_many_transfers_at_once_are_told_apart(tmp_path: Path) -> None:
    """By aiohttp's own client, whose forms and streams are another implementation than the other tests'."""
    events: list[Event] = []
    contents = {f"file{n}": os.urandom(300_000 + n) for n in range(10)}

    async def one(client: TestClient[aiohttp.web.Request, aiohttp.web.Application], name: str, content: bytes) -> None:
        async with client.put(f"/{name}", data=content) as answer:
            assert answer.status == 201
        data = aiohttp.FormData()
        data.add_field("file", content, filename=f"form-{name}")
        async with client.post("/", data=data, allow_redirects=True) as answer:
            assert f"form-{name}" in await answer.text()
        for path in (f"/{name}", f"/form-{name}"):
            async with client.get(path) as answer:
                assert await answer.read() == content

    async def main() -> None:
        server = TestServer(share.application(tmp_path, writable=True, observer=events.append))
        async with TestClient(server) as client:
            await asyncio.gather(*(one(client, name, content) for name, content in contents.items()))

    asyncio.run(main())
    told = moves(events)
    assert len(told) == 40
    assert all(f.ok and f.moved == len(contents[s.path.split("-")[-1].strip("/")]) for s, _, f in told)
