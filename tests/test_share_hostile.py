"""The shared folder against guests that mean ill, guests that vanish, and hosts that run out of room."""

import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from share_server import Served, eventually, form, read_all, serving, status

SECRET = b"what lies outside"


@pytest.fixture
def cancelling() -> bool:
    """Whether aiohttp cancels the requests of guests that have gone."""
    return False


@pytest.fixture
def writing(tmp_path: Path, cancelling: bool) -> Iterator[Served]:
    """A writable share with a secret beside it: tmp_path/share and tmp_path/secret."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "inside").mkdir()
    (tmp_path / "share" / "inside" / "file").write_bytes(b"content")
    with serving(tmp_path / "share", writable=True, handler_cancellation=cancelling) as served:
        yield served
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "share"]
    assert served.hidden() == []


def received(guest: socket.socket) -> int:
    """How many bytes come before the end or the reset of the connection."""
    count = 0
    try:
        while data := guest.recv(65536):
            count += len(data)
    except ConnectionResetError:
        pass
    return count


class TestPaths:
    @pytest.mark.parametrize(
        "target",
        [b"/../secret", b"/inside/../../secret", b"/%2e%2e/secret", b"/%2E%2E/secret", b"/.%2e/secret",
         b"/..%2fsecret", b"/%2e%2e%2fsecret", b"/inside%2f..%2f..%2fsecret", b"/./inside/file", b"/inside/.",
         b"/inside/file%00", b"/%00", b"/inside%2ffile", b"http://share/../secret",
         b"http://share/%2e%2e/secret",
         b"/" + b"n" * 256, b"/" + b"%41" * 300, b"/" + b"long/" * 2000],
    )  # fmt: skip
    def test_what_is_no_path_in_the_folder_is_400(self, writing: Served, target: bytes) -> None:
        for method in (b"GET", b"HEAD", b"DELETE", b"MKCOL"):
            assert writing.line(method + b" " + target + b" HTTP/1.1") == 400, method
        response = writing.raw(
            b"PUT " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
        )
        assert status(response) == 400

    @pytest.mark.parametrize(
        "target",
        [b"/..\\secret", b"/..%5csecret", b"/\\..\\secret", b"/%252e%252e/secret", b"/..;/secret", b"/~root",
         b"/%c0%ae%c0%ae/secret", b"//secret", b"/.../secret", b"/secret%zz", b"/C:/secret"],
    )  # fmt: skip
    def test_what_is_only_a_strange_name_is_404(self, writing: Served, target: bytes) -> None:
        assert writing.line(b"GET " + target + b" HTTP/1.1") == 404

    @pytest.mark.parametrize(
        "line", [b"GET secret HTTP/1.1", b"GET / HTTP/1.1 HTTP/1.1", b"\0\1\2", b"GET /\xff\xfe HTTP/1.1"]
    )
    def test_what_is_no_request_is_400(self, writing: Served, line: bytes) -> None:
        assert writing.line(line) == 400

    def test_an_absolute_uri_of_any_host_is_this_folder(self, writing: Served) -> None:
        response = writing.raw(b"GET http://other:99/inside/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert response.endswith(b"content")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pieces=st.lists(
            st.sampled_from(
                [b"..", b".", b"/", b"\\", b"\0", b"secret", b"inside", b"file", b"%", b"\xff", b";", b"out"]
            )
            | st.binary(max_size=4),
            max_size=8,
        ),
        method=st.sampled_from(["GET", "HEAD", "DELETE", "OPTIONS"]),
        quoting=st.sampled_from(["", "/", "/.", "/.\\;"]),
    )
    def test_no_path_whatever_leads_outside(
        self, writing: Served, pieces: list[bytes], method: str, quoting: str
    ) -> None:
        target = "/" + quote(b"".join(pieces), safe=quoting)
        answer = writing.ask(method, target)
        assert answer.status in (200, 204, 302, 400, 403, 404, 409), target
        assert SECRET not in answer.body
        assert b"secret" not in answer.body or answer.status == 400
        (writing.root / "inside").mkdir(exist_ok=True)
        (writing.root / "inside" / "file").write_bytes(b"content")


class TestLinks:
    @pytest.mark.parametrize(
        "target",
        ["inside/file", "./inside/../inside//file", "{root}/inside/file", "{root}/inside/../inside/file"],
    )
    def test_a_link_that_stays_inside_is_followed(self, writing: Served, target: str) -> None:
        (writing.root / "link").symlink_to(target.format(root=writing.root))
        (writing.root / "chain").symlink_to("link")
        (writing.root / "top").symlink_to(".")
        for path in ("/link", "/chain", "/top/chain", "/top/top/inside/file"):
            assert writing.get(path).body == b"content", path
        assert '"chain"' in writing.get("/?json").text

    @pytest.mark.parametrize(
        "target",
        ["../secret", "{}/../secret", "inside/../../secret", "../share/../secret", "../share/inside/file",
         "..", "/", "/etc/passwd", "/proc/self/environ", "{}x"],
    )  # fmt: skip
    def test_a_link_that_leads_out_is_neither_followed_nor_listed(self, writing: Served, target: str) -> None:
        (writing.root / "link").symlink_to(target.format(writing.root))
        (writing.root / "chain").symlink_to("link")
        for path in ("/link", "/chain", "/link/", "/link/secret", "/chain/etc/passwd"):
            answer = writing.get(path)
            assert answer.status == 403, path
            assert SECRET not in answer.body
        assert "link" not in writing.get("/").text
        for path in ("/link", "/chain", "/link/new"):
            assert writing.ask("PUT", path, b"overwritten").status == 403, path
        assert writing.ask("MKCOL", "/link/new").status == 403
        assert writing.ask("DELETE", "/link/secret").status == 403
        assert writing.ask("POST", "/link/", *form(("f", "secret", b"overwritten"))).status == 403

    def test_a_ring_of_links_ends_as_404(self, writing: Served) -> None:
        (writing.root / "a").symlink_to("b")
        (writing.root / "b").symlink_to("a")
        (writing.root / "deeper").symlink_to("deeper/x")
        for path in ("/a", "/b/", "/a/x", "/deeper"):
            assert writing.get(path).status == 404, path

    def test_an_upload_through_a_link_replaces_what_it_leads_to(self, writing: Served) -> None:
        (writing.root / "link").symlink_to("inside/file")
        assert writing.ask("PUT", "/link", b"new").status == 200
        assert (writing.root / "link").is_symlink()
        assert (writing.root / "inside" / "file").read_bytes() == b"new"

    def test_deleting_a_link_deletes_the_link_alone(self, writing: Served, tmp_path: Path) -> None:
        (writing.root / "out").symlink_to(tmp_path / "secret")
        (writing.root / "in").symlink_to("inside")
        for path in ("/out", "/in"):
            assert writing.ask("DELETE", path).status == 200
        assert [path.name for path in writing.root.iterdir()] == ["inside"]

    def test_a_file_swapped_for_a_link_at_any_moment_does_not_leak(self, writing: Served, tmp_path: Path) -> None:
        """Somebody on the host swaps a file, and a directory on the way, for links out, as fast as can be."""
        spare, path, over = writing.root / "spare", writing.root / "file", threading.Event()
        (tmp_path / "share" / "dir").mkdir()
        (writing.root / "dir" / "secret").write_bytes(b"harmless")

        def swap() -> None:
            while not over.is_set():
                spare.symlink_to(tmp_path / "secret")
                spare.replace(path)
                spare.write_bytes(b"harmless")
                spare.replace(path)
                (writing.root / "dir").rename(writing.root / "real")
                (writing.root / "dir").symlink_to(tmp_path)
                (writing.root / "dir").unlink()
                (writing.root / "real").rename(writing.root / "dir")

        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            for _ in range(150):
                for target in ("/file", "/dir/secret"):
                    answer = writing.get(target)
                    assert answer.status in (200, 403, 404)
                    assert SECRET not in answer.body
                writing.ask("PUT", "/dir/secret", b"harmless")
        finally:
            over.set()
            swapper.join()


class TestSpecialFiles:
    def test_they_are_refused_unopened(self, writing: Served) -> None:
        os.mkfifo(writing.root / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(writing.root / "socket"))
        for path in ("/fifo", "/socket"):
            assert writing.get(path).status == 403, path
            assert writing.ask("PUT", path, b"x").status == 403, path
            assert writing.get(path + "/").status == 404, path
            assert path[1:] not in writing.get("/").text

    def test_the_names_of_uploads_under_way_belong_to_the_share(self, writing: Served) -> None:
        stale = writing.root / ".lwipy-partial-0123"
        stale.write_bytes(b"half a file")
        for path in ("/.lwipy-partial-0123", "/.LWIPY-Partial-0123", "/.lwipy-partial-new"):
            assert writing.get(path).status == 403
            assert writing.ask("PUT", path, b"x").status == 403
            assert writing.ask("DELETE", path).status == 403
            assert writing.ask("MKCOL", path).status == 403
            assert writing.ask("POST", "/", *form(("f", path[1:], b"x"))).status == 403
        assert "partial" not in writing.get("/").text
        assert stale.read_bytes() == b"half a file"
        stale.unlink()


class TestBrokenBodies:
    HEAD = b"Host: x\r\nConnection: close\r\n"

    def test_a_broken_chunk_is_400_and_nothing_is_stored(self, writing: Served) -> None:
        for body in (b"5\r\nhello\r\nzz\r\n", b"5\r\nhelloX", b"-1\r\n", b"5;\0\r\nhello\r\n0\r\n\r\n"):
            response = writing.raw(
                b"PUT /inside/file HTTP/1.1\r\n" + self.HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
            )
            assert status(response) == 400, body
        assert writing.get("/inside/file").body == b"content"

    @pytest.mark.parametrize("length", [b"-1", b"abc", b"5, 6", b"0x10"])
    def test_a_length_that_is_none_is_400(self, writing: Served, length: bytes) -> None:
        response = writing.raw(b"PUT /new HTTP/1.1\r\n" + self.HEAD + b"Content-Length: " + length + b"\r\n\r\nhello")
        assert status(response) == 400
        assert not (writing.root / "new").exists()

    def test_a_form_that_ends_inside_a_file_stores_nothing(self, writing: Served) -> None:
        body, headers = form(("f", "new", b"x" * 1000))
        for cut in (b"", body[:20], body[:200], body[:-5], body[: -len(b"\r\n--b0undary--\r\n")]):
            assert writing.ask("POST", "/", cut, headers).status == 400, cut[-20:]
        assert not (writing.root / "new").exists()

    @pytest.mark.parametrize(
        ("kind", "code"),
        [("multipart/form-data", 400), ("multipart/form-data; boundary=" + "b" * 71, 400),
         ("multipart/mixed; boundary=b", 415)],
    )  # fmt: skip
    def test_a_form_needs_a_boundary(self, writing: Served, kind: str, code: int) -> None:
        assert writing.ask("POST", "/", form(("f", "new", b"x"))[0], {"Content-Type": kind}).status == code

    def test_a_form_in_a_form_and_encoded_files_are_refused(self, writing: Served) -> None:
        body, headers = form(("f", "new", b"eHg="))
        for extra, code in (
            (b"Content-Type: multipart/mixed; boundary=c", 400),
            (b"Content-Transfer-Encoding: base64", 415),
        ):
            assert (
                writing.ask("POST", "/", body.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n\r\n", 1), headers).status
                == code
            )
        assert not (writing.root / "new").exists()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_mutilated_form_is_an_error_or_a_form_but_never_a_fault(
        self, writing: Served, data: st.DataObject
    ) -> None:
        body, headers = form(("f", "a", b"first\r\n"), ("_charset_", None, b"utf-8"), ("g", "b", b"second" * 20))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(body) - 1))
            end = at + data.draw(st.integers(0, 30))
            body = body[:at] + data.draw(st.binary(max_size=6) | st.sampled_from([b"--b0undary", b"\r\n"])) + body[end:]
        answer = writing.ask("POST", "/", body, headers)
        assert answer.status in (303, 400, 403, 409, 415), answer.text
        assert SECRET not in answer.body


@pytest.mark.parametrize("cancelling", [False, True], ids=["", "cancelling"])
class TestVanishingGuests:
    @pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
    @pytest.mark.parametrize(
        "head", [b"PUT /inside/file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
                 b"PUT /inside/file HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n",
                 b"POST /inside/ HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                 b"Content-Length: 1000000\r\n\r\n--b\r\nContent-Disposition: form-data; filename=file\r\n"
                 b"\r\n"],
        ids=["length", "chunked", "form"],
    )  # fmt: skip
    def test_an_upload_that_stops_leaves_what_was_there(self, writing: Served, head: bytes, reset: bool) -> None:
        with writing.connect() as guest:
            guest.sendall(head + b"x" * 600_000)
            assert eventually(lambda: len(writing.hidden()) == 1), "the upload is under way"
            assert writing.get("/inside/?json").text.count('"name"') == 1, "and not to be seen"
            if reset:
                guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert eventually(lambda: not writing.hidden()), "the partial file is removed"
        assert writing.get("/inside/file").body == b"content"

    def test_a_stopped_share_leaves_no_partial_file(self, tmp_path: Path, cancelling: bool) -> None:
        with serving(tmp_path, writable=True, handler_cancellation=cancelling) as served:
            guest = served.connect()
            guest.sendall(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 600_000)
            assert eventually(lambda: len(served.hidden()) == 1)
        guest.close()
        assert list(tmp_path.iterdir()) == []

    def test_an_upload_that_stalls_is_given_up(self, tmp_path: Path, cancelling: bool) -> None:
        with (
            serving(tmp_path, writable=True, stall_timeout=0.3, handler_cancellation=cancelling) as served,
            served.connect() as guest,
        ):
            guest.sendall(b"PUT /file HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
            assert status(guest.recv(65536)) == 408
            assert list(tmp_path.iterdir()) == []

    def test_a_download_that_is_not_read_is_given_up(self, tmp_path: Path, cancelling: bool) -> None:
        with (tmp_path / "large").open("wb") as file:
            file.truncate(200_000_000)
        with serving(tmp_path, stall_timeout=0.3, handler_cancellation=cancelling) as served, served.connect() as guest:
            guest.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually(lambda: "more than 0.3 s" in repr(served.events[-1:]))
            assert received(guest) < 200_000_000, "and the connection is cut: Content-Length tells the guest"

    def test_a_file_that_shrinks_is_no_whole_file(self, tmp_path: Path, cancelling: bool) -> None:
        with (tmp_path / "large").open("wb") as file:
            file.truncate(200_000_000)
        with serving(tmp_path, handler_cancellation=cancelling) as served, served.connect() as guest:
            guest.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status(guest.recv(1000)) == 200
            os.truncate(tmp_path / "large", 1000)
            assert received(guest) < 200_000_000, "and the connection is cut: Content-Length tells the guest"
            assert eventually(lambda: "became shorter" in repr(served.events[-1]))

    def test_nothing_stays_open_after_guests_that_vanish(self, writing: Served) -> None:
        with (writing.root / "large").open("wb") as file:
            file.truncate(50_000_000)

        def descriptors() -> list[str]:
            links = (str(entry.resolve()) for entry in Path("/proc/self/fd").iterdir())
            return [link for link in links if link.startswith(str(writing.root))]

        for _ in range(20):
            with writing.connect() as guest:
                guest.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
                guest.recv(1000)
            with writing.connect() as guest:
                guest.sendall(b"PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            writing.get("/"), writing.get("/nothing"), writing.get("/inside/file/x")
        assert eventually(lambda: descriptors() == [])


class TestRivals:
    def test_of_two_uploads_of_one_name_the_last_complete_one_stays(self, writing: Served) -> None:
        head = b"PUT /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
        with writing.connect() as slow, writing.connect() as fast:
            slow.sendall(head + b"s" * 500_000)
            fast.sendall(head + b"f" * 500_000)
            assert eventually(lambda: len(writing.hidden()) == 2)
            fast.sendall(b"f" * 500_000)
            assert status(read_all(fast)) == 201
            assert writing.get("/file").body == b"f" * 1_000_000
            slow.sendall(b"s" * 500_000)
            assert status(read_all(slow)) == 200
        assert writing.get("/file").body == b"s" * 1_000_000

    def test_who_reads_during_an_upload_reads_one_file(self, writing: Served) -> None:
        contents = [bytes([n]) * 400_000 for n in range(8)]
        writing.ask("PUT", "/file", contents[0])
        seen: list[bytes] = []

        def read() -> None:
            seen.extend(writing.get("/file").body for _ in range(20))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for content in contents * 2:
            assert writing.ask("PUT", "/file", content).status == 200
        for reader in readers:
            reader.join()
        assert len(seen) == 40
        assert all(body in contents for body in seen)

    def test_only_one_of_many_creators_creates(self, writing: Served) -> None:
        answers: list[int] = []

        def create(content: bytes) -> None:
            answers.append(writing.ask("PUT", "/once", content, {"If-None-Match": "*"}).status)

        threads = [threading.Thread(target=create, args=(bytes([n]) * 100_000,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [201] + [412] * 7
        assert re.fullmatch(rb"(.)\1*", (writing.root / "once").read_bytes(), re.DOTALL)
