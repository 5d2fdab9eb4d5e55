"""The shared folder over HTTP: what a guest may rely on when it lists and downloads."""

import email.utils
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from share_server import Served, read_all, serving

from lwipy.services import share


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Served]:
    """A share that guests may only read."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Served]:
    """A share that guests may change."""
    with serving(tmp_path, writable=True) as served:
        yield served


class Links(HTMLParser):
    """The links of a page, as a browser resolves them, and their text."""

    def __init__(self, answer: str, base: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._base, self._href = base, ""
        self.feed(answer)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._href = urljoin(self._base, dict(attrs)["href"] or "")

    def handle_data(self, data: str) -> None:
        if self._href:
            self.found[data] = self._href
            self._href = ""


class TestListing:
    def test_directories_come_first_then_names_in_order(self, reading: Served) -> None:
        for name in ("b.txt", "A.txt", "c.txt"):
            (reading.root / name).write_text("x")
        (reading.root / "zoo").mkdir()
        assert list(Links(reading.get("/").text, "/").found) == ["zoo/", "A.txt", "b.txt", "c.txt"]

    @pytest.mark.parametrize(
        "name",
        [b"plain", b"two words", b"100%25", b"a&b<c>\"d'", b"a:b", b"?#;", b"\xc3\xa9\xe4\xb8\xad",
         b"latin-\xe9", b"\\", b"~+=@", b"tab\there", b"..."],
    )  # fmt: skip
    def test_every_name_has_a_link_that_leads_to_it(self, reading: Served, name: bytes) -> None:
        (reading.root / os.fsdecode(name)).write_bytes(name)
        (href,) = Links(reading.get("/").text, "http://share/").found.values()
        assert href.startswith("http://share/"), "no browser takes the name for another host or scheme"
        path = href.removeprefix("http://share")
        assert unquote_to_bytes(path) == b"/" + name
        assert reading.get(path).body == name

    def test_a_page_is_plain_html_that_declares_its_encoding(self, reading: Served) -> None:
        (reading.root / "<script>alert(1)").write_text("")
        answer = reading.get("/")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "HTML 3.2" in answer.text.splitlines()[0]
        assert not re.search("<(script|style|link)", answer.text, re.IGNORECASE)

    def test_size_and_date_are_shown(self, reading: Served) -> None:
        (reading.root / "file").write_bytes(bytes(1_234_567))
        os.utime(reading.root / "file", (0, 951_827_696))
        assert "1,234,567" in reading.get("/").text
        assert "2000-02-29 12:34" in reading.get("/").text

    def test_a_file_dated_beyond_the_calendar_is_listed_and_sent(self, reading: Served) -> None:
        (reading.root / "file").write_text("x")
        os.utime(reading.root / "file", (2**33, 2**33))
        if (reading.root / "file").stat().st_mtime == 2**33:
            os.utime(reading.root / "file", (2**43, 2**43))
        assert "file" in reading.get("/").text
        assert reading.get("/file").body == b"x"

    def test_there_is_a_way_up_except_from_the_top(self, reading: Served) -> None:
        (reading.root / "a" / "b").mkdir(parents=True)
        assert Links(reading.get("/a/b/").text, "/a/b/").found == {"../": "/a/"}
        assert "../" not in Links(reading.get("/").text, "/").found

    def test_a_directory_without_its_slash_is_redirected(self, reading: Served) -> None:
        (reading.root / "a b" / "c").mkdir(parents=True)
        answer = reading.get("/a%20b/c?json")
        assert (answer.status, answer.headers["Location"]) == (302, "/a%20b/c/?json")

    def test_a_redirect_never_names_another_host(self, reading: Served) -> None:
        (reading.root / "evil.example").mkdir()
        response = reading.raw(b"GET //x//evil.example HTTP/1.0\r\n\r\n") + reading.raw(
            b"GET /.//evil.example HTTP/1.0\r\n\r\n"
        )
        assert b"Location: //" not in response

    def test_head_gives_the_headers_alone(self, reading: Served) -> None:
        (reading.root / "file").write_bytes(b"12345")
        for path in ("/", "/file"):
            get, head = reading.get(path), reading.ask("HEAD", path)
            assert head.status == 200
            assert head.body == b""
            assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.body))
            assert head.headers["Content-Type"] == get.headers["Content-Type"]

    def test_json_is_given_to_those_who_ask(self, reading: Served) -> None:
        (reading.root / "d").mkdir()
        (reading.root / os.fsdecode(b"\xff")).write_bytes(b"123")
        for answer in (reading.get("/?json"), reading.get("/", accept="application/json")):
            assert answer.headers["Content-Type"].startswith("application/json")
            entries = json.loads(answer.body)
            assert [(e["href"], e["directory"], e["size"]) for e in entries] == [
                ("d/", True, None),
                ("%FF", False, 3),
            ]

    def test_forms_are_offered_only_where_they_work(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with serving(tmp_path) as readable:
            assert "<FORM" not in readable.get("/").text
        with serving(tmp_path, writable=True) as writable:
            page = writable.get("/").text
            assert 'TYPE="FILE"' in page
            assert 'NAME="mkdir"' in page
            assert 'NAME="delete" VALUE="file"' in page

    def test_what_is_missing_is_404(self, reading: Served) -> None:
        (reading.root / "file").write_text("")
        for path in ("/nothing", "/nothing/", "/nothing/deeper", "/file/", "/file/below"):
            assert reading.get(path).status == 404, path


class TestDownload:
    def test_a_file_arrives_whole(self, reading: Served) -> None:
        content = os.urandom(3_000_001)
        (reading.root / "file.bin").write_bytes(content)
        answer = reading.get("/file.bin")
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(content)))
        assert answer.body == content

    def test_an_empty_file_too(self, reading: Served) -> None:
        (reading.root / "empty").write_bytes(b"")
        answer = reading.get("/empty")
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")

    def test_a_compressed_sibling_is_never_sent_instead(self, reading: Served) -> None:
        (reading.root / "notes").write_bytes(b"plain")
        (reading.root / "notes.gz").write_bytes(b"something else")
        answer = reading.get("/notes", accept_encoding="gzip")
        assert answer.body == b"plain"
        assert "Content-Encoding" not in answer.headers

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("a.txt", "text/plain"), ("a.HTML", "text/html"), ("a.tar.gz", "application/gzip"),
         ("a.png", "image/png"), ("unknown.zzz9", "application/octet-stream"),
         ("none", "application/octet-stream"), ("data:text", "application/octet-stream")],
    )  # fmt: skip
    def test_its_type_is_by_its_name(self, reading: Served, name: str, kind: str) -> None:
        (reading.root / name).write_bytes(b"x")
        answer = reading.get("/" + name)
        assert answer.headers["Content-Type"] == kind
        assert "Content-Encoding" not in answer.headers

    def test_http_1_0_gets_a_length_and_the_end(self, reading: Served) -> None:
        (reading.root / "file").write_bytes(b"x" * 100_000)
        head, _, body = reading.raw(b"GET /file HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200")
        assert b"\r\nContent-Length: 100000" in head
        assert b"Transfer-Encoding" not in head
        assert body == b"x" * 100_000

    def test_a_connection_serves_many_requests(self, reading: Served) -> None:
        (reading.root / "file").write_bytes(b"content")
        with reading.connect() as connection:
            connection.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            connection.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(connection).count(b"\r\n\r\ncontent") == 3


class TestRanges:
    CONTENT = bytes(range(256)) * 400

    @pytest.fixture
    def file(self, reading: Served) -> Path:
        path = reading.root / "file"
        path.write_bytes(self.CONTENT)
        return path

    @pytest.mark.parametrize(
        ("asked", "first", "last"),
        [("0-0", 0, 0), ("5-9", 5, 9), ("100-", 100, 102399), ("-10", 102390, 102399), ("-999999", 0, 102399),
         ("102399-", 102399, 102399), ("90000-9999999", 90000, 102399)],
    )  # fmt: skip
    def test_a_part_is_sent_as_206(self, reading: Served, file: Path, asked: str, first: int, last: int) -> None:
        answer = reading.get("/file", range=f"bytes={asked}")
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/102400"
        assert answer.headers["Content-Length"] == str(last - first + 1)
        assert answer.body == self.CONTENT[first : last + 1]

    @pytest.mark.parametrize("asked", ["102400-", "102400-200000", "999999999999999999999-"])
    def test_past_the_end_is_416_with_the_size(self, reading: Served, file: Path, asked: str) -> None:
        answer = reading.get("/file", range=f"bytes={asked}")
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */102400")

    @pytest.mark.parametrize(
        "asked",
        ["bytes=0-1,5-6", "lines=1-2", "bytes=9-5", "bytes=-", "bytes=x-y", "bytes=" + "9" * 5000 + "-"],
    )
    def test_what_cannot_be_given_in_parts_is_given_whole(self, reading: Served, file: Path, asked: str) -> None:
        answer = reading.get("/file", range=asked)
        assert (answer.status, len(answer.body)) == (200, 102400)

    def test_if_range_resumes_only_the_same_file(self, reading: Served, file: Path) -> None:
        whole = reading.get("/file")
        for validator in (whole.headers["ETag"], whole.headers["Last-Modified"]):
            assert reading.get("/file", range="bytes=9-", if_range=validator).status == 206
        stale = email.utils.formatdate(file.stat().st_mtime + 10, usegmt=True)
        for validator in ('"another"', "W/" + whole.headers["ETag"], stale, "nonsense"):
            assert reading.get("/file", range="bytes=9-", if_range=validator).status == 200

    def test_head_and_put_know_no_ranges(self, reading: Served, file: Path) -> None:
        assert reading.ask("HEAD", "/file", headers={"Range": "bytes=0-1"}).headers["Content-Length"] == "102400"


class TestConditions:
    def test_a_cached_copy_is_confirmed_by_304(self, reading: Served) -> None:
        (reading.root / "file").write_bytes(b"x")
        first = reading.get("/file")
        for condition in (
            {"if_none_match": first.headers["ETag"]},
            {"if_none_match": f'"other", W/{first.headers["ETag"]}'},
            {"if_none_match": "*"},
            {"if_modified_since": first.headers["Last-Modified"]},
        ):
            answer = reading.get("/file", **condition)
            assert (answer.status, answer.body) == (304, b""), condition
            assert answer.headers["ETag"] == first.headers["ETag"]

    def test_a_changed_file_is_sent_anew(self, reading: Served) -> None:
        path = reading.root / "file"
        path.write_bytes(b"old")
        os.utime(path, (1000, 1000))
        old = reading.get("/file")
        path.write_bytes(b"new")
        for condition in (
            {"if_none_match": old.headers["ETag"]},
            {"if_modified_since": old.headers["Last-Modified"]},
            {"if_none_match": '"x"', "if_modified_since": email.utils.formatdate(time.time(), usegmt=True)},
            {"if_modified_since": "no date at all"},
        ):
            assert reading.get("/file", **condition).body == b"new", condition

    def test_preconditions_fail_with_412(self, reading: Served) -> None:
        (reading.root / "file").write_bytes(b"x")
        tag = reading.get("/file").headers["ETag"]
        assert reading.get("/file", if_match=tag).status == 200
        assert reading.get("/file", if_match="*").status == 200
        assert reading.get("/file", if_match='"other"').status == 412
        assert reading.get("/file", if_match="W/" + tag).status == 412, "weak tags never match here"
        assert reading.get("/file", if_unmodified_since="Thu, 01 Jan 1970 00:00:00 GMT").status == 412

    def test_an_upload_may_insist_on_what_it_replaces(self, writing: Served) -> None:
        def put(content: bytes, **condition: str) -> int:
            headers = {name.replace("_", "-"): value for name, value in condition.items()}
            return writing.ask("PUT", "/file", content, headers).status

        assert put(b"1", if_match="*") == 412, "there is nothing to replace"
        assert put(b"2", if_none_match="*") == 201
        tag = writing.get("/file").headers["ETag"]
        assert put(b"3", if_none_match="*") == 412, "there is something already"
        assert put(b"4", if_match='"other"') == 412
        assert writing.get("/file").body == b"2"
        assert put(b"5", if_match=tag) == 200
        assert writing.ask("DELETE", "/file", headers={"If-Match": tag}).status == 412
        assert writing.get("/file").body == b"5"


class TestArguments:
    def test_the_folder_must_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for root in (tmp_path / "file", tmp_path / "missing"):
            with pytest.raises(NotADirectoryError, match=root.name):
                share.application(root)

    @pytest.mark.parametrize("limit", ["max_bytes", "stall_timeout"])
    def test_limits_must_be_positive(self, tmp_path: Path, limit: str) -> None:
        arguments: dict[str, Any] = {limit: -1}
        with pytest.raises(ValueError, match=f"{limit} is -1"):
            share.application(tmp_path, **arguments)


def test_without_aiohttp_the_import_names_the_extra() -> None:
    program = "import sys; sys.modules['aiohttp'] = None; import lwipy.services.share"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ImportError" in run.stderr.splitlines()[-1]
    assert "pip install lwipy[share]" in run.stderr.splitlines()[-1]
