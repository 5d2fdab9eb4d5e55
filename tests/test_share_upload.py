"""The shared folder over HTTP: what a guest may rely on when it uploads, makes and deletes."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from share_server import Served, form, read_all, serving, status

URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


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


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


class TestUpload:
    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_a_raw_body_becomes_the_file_at_its_path(self, writing: Served, method: str) -> None:
        (writing.root / "sub").mkdir()
        content = os.urandom(5_000_000)
        created = writing.ask(method, "/sub/new%20file", content)
        assert (created.status, created.headers["Location"]) == (201, "/sub/new%20file")
        assert (writing.root / "sub" / "new file").read_bytes() == content
        replaced = writing.ask(method, "/sub/new%20file", b"short")
        assert replaced.status == 200
        assert writing.get("/sub/new%20file", if_none_match=replaced.headers["ETag"]).status == 304
        assert (writing.root / "sub" / "new file").read_bytes() == b"short"

    def test_whatever_type_the_client_claims(self, writing: Served) -> None:
        """wget --post-file and curl --data-binary say that every body is a form."""
        assert writing.ask("POST", "/file", b"a=b&delete=x", URLENCODED).status == 201
        assert (writing.root / "file").read_bytes() == b"a=b&delete=x"

    def test_a_body_of_unknown_length_comes_in_chunks(self, writing: Served) -> None:
        pieces = [os.urandom(n) for n in (1, 70_000, 3, 700_000)]
        assert writing.ask("PUT", "/file", iter(pieces), encode_chunked=True).status == 201
        assert (writing.root / "file").read_bytes() == b"".join(pieces)

    def test_an_empty_body_is_an_empty_file_if_it_says_so(self, writing: Served) -> None:
        assert writing.ask("PUT", "/file", b"", {"Content-Length": "0"}).status == 201
        assert (writing.root / "file").read_bytes() == b""

    def test_a_body_without_any_length_is_refused(self, writing: Served) -> None:
        """An HTTP/1.0 client that ends its body by closing would leave an empty file and not know."""
        assert status(writing.raw(b"PUT /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 411
        assert status(writing.raw(b"PUT /file HTTP/1.0\r\n\r\n")) == 411
        assert status(writing.raw(b"PUT /file HTTP/1.0\r\n\r\ncontent")) in (400, 411)
        assert not (writing.root / "file").exists()

    def test_expect_100_continue_is_answered_before_the_body(self, writing: Served) -> None:
        with writing.connect() as connection:
            connection.sendall(
                b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
            )
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"body")
            assert status(read_all(connection)) == 201
        assert (writing.root / "file").read_bytes() == b"body"

    def test_who_expects_is_told_no_before_the_body(self, tmp_path: Path) -> None:
        head = b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\nExpect: 100-continue\r\n\r\n"
        with serving(tmp_path) as readable, readable.connect() as connection:
            connection.sendall(head)
            assert status(connection.recv(65536)) == 403
        with serving(tmp_path, writable=True, max_bytes=10) as small, small.connect() as connection:
            connection.sendall(head)
            assert status(connection.recv(65536)) == 413
        with serving(tmp_path, writable=True) as writable, writable.connect() as connection:
            connection.sendall(head.replace(b"100-continue", b"magic"))
            assert status(connection.recv(65536)) == 417

    def test_the_parent_must_exist(self, writing: Served) -> None:
        (writing.root / "file").write_text("")
        for path in ("/missing/file", "/missing/a/b", "/file/below"):
            assert writing.ask("PUT", path, b"x").status == 409, path

    def test_a_directory_is_never_replaced_by_a_file(self, writing: Served) -> None:
        (writing.root / "d").mkdir()
        for path in ("/d", "/d/", "/"):
            assert writing.ask("PUT", path, b"x").status == 409, path
        assert (writing.root / "d").is_dir()

    def test_a_part_of_a_file_is_not_taken_for_the_whole(self, writing: Served) -> None:
        """curl -C - -T sends Content-Range; storing that body would lose the first half."""
        (writing.root / "file").write_bytes(b"first half")
        assert writing.ask("PUT", "/file", b"x", {"Content-Range": "bytes 10-10/11"}).status == 400
        assert (writing.root / "file").read_bytes() == b"first half"

    def test_a_compressed_body_is_refused_and_not_unpacked(self, writing: Served) -> None:
        answer = writing.ask("PUT", "/file", b"\x1f\x8b", {"Content-Encoding": "gzip"})
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")
        assert not (writing.root / "file").exists()

    def test_a_replaced_file_keeps_its_permissions(self, writing: Served) -> None:
        (writing.root / "private").write_text("")
        (writing.root / "private").chmod(0o600)
        assert writing.ask("PUT", "/private", b"new").status == 200
        assert (writing.root / "private").stat().st_mode & 0o777 == 0o600

    def test_too_large_a_file_is_refused(self, tmp_path: Path) -> None:
        with serving(tmp_path, writable=True, max_bytes=1000) as served:
            assert served.ask("PUT", "/exact", bytes(1000)).status == 201
            assert served.ask("PUT", "/large", bytes(1001)).status == 413
            assert served.ask("PUT", "/chunked", iter([bytes(600)] * 2), encode_chunked=True).status == 413
            assert served.ask("POST", "/", *form(("f", "formed", bytes(1001)))).status == 413
            assert served.ask("POST", "/", *form(("f", "one", bytes(600)), ("f", "two", bytes(600)))).status == 303
            assert names(tmp_path) == ["exact", "one", "two"]


class TestForms:
    def test_several_files_are_stored_under_their_names(self, writing: Served) -> None:
        (writing.root / "sub").mkdir()
        big = os.urandom(2_000_000)
        body, headers = form(("file", "a.bin", big), ("other", None, b"field"), ("file", "b c.txt", b"\r\n--b0und"))
        answer = writing.ask("POST", "/sub/", body, headers)
        assert (answer.status, answer.headers["Location"]) == (303, "/sub/")
        assert (writing.root / "sub" / "a.bin").read_bytes() == big
        assert (writing.root / "sub" / "b c.txt").read_bytes() == b"\r\n--b0und"

    def test_without_the_slash_too(self, writing: Served) -> None:
        (writing.root / "sub").mkdir()
        assert writing.ask("POST", "/sub", *form(("file", "a", b"1"))).status == 303
        assert (writing.root / "sub" / "a").read_bytes() == b"1"

    def test_an_old_browser_is_sent_back_by_302(self, writing: Served) -> None:
        body, headers = form(("file", "a", b"1"))
        lines = [
            "POST / HTTP/1.0",
            f"Content-Type: {headers['Content-Type']}",
            f"Content-Length: {len(body)}",
        ]
        assert status(writing.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)) == 302

    @pytest.mark.parametrize(
        ("given", "stored"),
        [("C:\\x\\y.txt", "y.txt"), ("../../x", "x"), ("/etc/passwd", "passwd"), ("a/b\\c", "c"),
         ("é中.txt", "é中.txt"), ("semi;colon.txt", "semi;colon.txt"), ("sp ace", "sp ace"),
         (".hidden", ".hidden")],
    )  # fmt: skip
    def test_a_path_is_reduced_to_its_last_name(self, writing: Served, given: str, stored: str) -> None:
        assert writing.ask("POST", "/", *form(("file", given, b"x"))).status == 303
        assert names(writing.root) == [stored]

    def test_a_name_that_is_not_utf_8_keeps_its_bytes(self, writing: Served) -> None:
        body, headers = form(("file", "caf~.txt", b"x"))
        assert writing.ask("POST", "/", body.replace(b"~", b"\xe9"), headers).status == 303
        assert names(writing.root) == [os.fsdecode(b"caf\xe9.txt")]

    @pytest.mark.parametrize("name", ["..", ".", "../", "a/..", "\\", "a\tb", "a\x7fb"])
    def test_no_name_is_left_is_400(self, writing: Served, name: str) -> None:
        assert writing.ask("POST", "/", *form(("file", name, b"x"))).status == 400
        assert names(writing.root) == []

    def test_nothing_chosen_is_400(self, writing: Served) -> None:
        assert writing.ask("POST", "/", *form(("file", "", b""))).status == 400
        assert writing.ask("POST", "/", *form()).status == 400
        assert writing.ask("POST", "/", b"", URLENCODED).status == 400
        assert writing.ask("POST", "/", b"x", {"Content-Type": "text/plain"}).status == 415

    def test_what_was_stored_before_a_failure_is_told(self, writing: Served) -> None:
        answer = writing.ask("POST", "/", *form(("f", "good", b"x"), ("f", "..", b"y"), ("f", "late", b"z")))
        assert answer.status == 400
        assert "stored /good: 1 bytes" in answer.text
        assert names(writing.root) == ["good"]

    def test_a_folder_is_made(self, writing: Served) -> None:
        assert writing.ask("POST", "/", b"mkdir=new+folder", URLENCODED).status == 303
        assert (writing.root / "new folder").is_dir()
        assert writing.ask("POST", "/", b"mkdir=new+folder", URLENCODED).status == 409
        for bad in (b"mkdir=..", b"mkdir=a%2Fb", b"mkdir=%00", b"mkdir="):
            assert writing.ask("POST", "/", bad, URLENCODED).status == 400, bad

    def test_ticked_entries_are_deleted_even_with_names_no_browser_can_say(self, writing: Served) -> None:
        given = [b"\xff\xfe", b"50%", b"a+b & c", b"kept"]
        for name in given:
            (writing.root / os.fsdecode(name)).write_text("")
        page = writing.get("/").text
        values = [v for v in re.findall('NAME="delete" VALUE="([^"]*)"', page) if v != "kept"]
        body = "&".join("delete=" + value.replace("%", "%25") for value in values)
        assert writing.ask("POST", "/", body.encode(), URLENCODED).status == 303
        assert names(writing.root) == ["kept"]


class TestChanges:
    def test_delete_removes_a_file_or_an_empty_directory(self, writing: Served) -> None:
        (writing.root / "d").mkdir()
        (writing.root / "d" / "file").write_text("")
        assert writing.ask("DELETE", "/d").status == 409, "never a whole tree"
        assert writing.ask("DELETE", "/d/file").status == 200
        assert writing.ask("DELETE", "/d/").status == 200
        assert writing.ask("DELETE", "/d").status == 404
        assert writing.ask("DELETE", "/").status == 403
        assert writing.root.is_dir()

    def test_mkcol_makes_a_directory(self, writing: Served) -> None:
        assert writing.ask("MKCOL", "/new").status == 201
        assert (writing.root / "new").is_dir()
        again = writing.ask("MKCOL", "/new")
        assert again.status == 405
        assert "MKCOL" in again.headers["Allow"]
        assert writing.ask("MKCOL", "/missing/new").status == 409
        assert writing.ask("MKCOL", "/bodied", b"<x/>").status == 415

    def test_a_share_for_reading_refuses_every_change_and_says_why(self, reading: Served) -> None:
        (reading.root / "file").write_text("kept")
        for method, path in (
            ("PUT", "/file"),
            ("PUT", "/new"),
            ("POST", "/"),
            ("DELETE", "/file"),
            ("MKCOL", "/d"),
        ):
            answer = reading.ask(method, path, b"x")
            assert answer.status == 403
            assert "--writable" in answer.text
            assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert [(p.name, p.read_text()) for p in reading.root.iterdir()] == [("file", "kept")]

    def test_options_and_unknown_methods_name_what_is_allowed(self, reading: Served, tmp_path: Path) -> None:
        assert reading.ask("OPTIONS", "/").headers["Allow"] == "GET, HEAD, OPTIONS"
        assert reading.ask("PATCH", "/").status == 405
        with serving(tmp_path, writable=True) as writable:
            allowed = "GET, HEAD, OPTIONS, PUT, POST, DELETE, MKCOL"
            assert writable.ask("OPTIONS", "/").headers["Allow"] == allowed
            patch = writable.ask("PATCH", "/x")
            assert patch.status == 405
            assert set(re.split(", ?", patch.headers["Allow"])) == set(allowed.split(", "))
