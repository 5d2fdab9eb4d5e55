"""The walk that never leaves the shared folder, by descriptors and by paths (as on Windows)."""

import errno
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors import descriptors

from lwipy.services.share.files import Partial, Reading
from lwipy.services.share.folder import BY_DESCRIPTOR, MAX_LINKS, Folder, Outside
from lwipy.services.share.names import BadName, checked, components, file_name, printable


@pytest.fixture(params=[True, False], ids=["descriptors", "paths"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """tmp_path/share with a/b/file in it, beside tmp_path/secret; no descriptor may be left open."""
    assert BY_DESCRIPTOR, "on this host both ways can be tried"
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "share" / "a" / "b").mkdir(parents=True)
    (tmp_path / "share" / "a" / "b" / "file").write_bytes(b"content")
    before = descriptors()
    yield Folder(tmp_path / "share", by_descriptor=request.param)
    assert descriptors() <= before


def root(folder: Folder) -> Path:
    return Path(folder.root)


def read(folder: Folder, *names: str) -> bytes:
    """The whole of a file."""
    file = Reading(folder, names)
    try:
        file.open()
        return file.read(0, 100)
    finally:
        file.close()


def anything(status: os.stat_result | None) -> None:
    """Lets everything happen."""


class TestWalk:
    def test_a_path_leads_to_its_file(self, folder: Folder) -> None:
        assert read(folder, "a", "b", "file") == b"content"

    def test_dots_in_a_link_go_by_what_was_walked_not_by_text(self, folder: Folder) -> None:
        """x/../b where x leads to a/b: up from a/b, as the kernel has it, not from where x lies."""
        (root(folder) / "x").symlink_to("a/b")
        (root(folder) / "link").symlink_to("x/../b/file")
        assert (root(folder) / "link").read_bytes() == b"content"
        assert read(folder, "link") == b"content"

    def test_out_and_back_in_is_out(self, folder: Folder) -> None:
        (root(folder) / "link").symlink_to("../share/a/b/file")
        with pytest.raises(Outside):
            read(folder, "link")

    def test_a_share_of_a_linked_folder_knows_both_its_paths(self, folder: Folder, tmp_path: Path) -> None:
        (tmp_path / "alias").symlink_to("share")
        by_alias = Folder(tmp_path / "alias")
        (root(folder) / "one").symlink_to(tmp_path / "alias" / "a" / "b" / "file")
        (root(folder) / "two").symlink_to(tmp_path / "share" / "a" / "b" / "file")
        assert read(by_alias, "one") == read(by_alias, "two") == b"content"

    def test_a_name_that_starts_like_the_folder_is_outside(self, folder: Folder, tmp_path: Path) -> None:
        (tmp_path / "share2").write_bytes(b"secret")
        (root(folder) / "link").symlink_to(f"{root(folder)}2")
        with pytest.raises(Outside):
            read(folder, "link")

    def test_a_chain_of_links_has_an_end(self, folder: Folder) -> None:
        for n in range(MAX_LINKS + 1):
            (root(folder) / f"link{n}").symlink_to(f"link{n - 1}" if n else "a/b/file")
        assert read(folder, f"link{MAX_LINKS - 1}") == b"content"
        with pytest.raises(OSError, match="symbolic links"):
            read(folder, f"link{MAX_LINKS}")

    def test_a_deep_path_takes_no_more_descriptors_than_a_short_one(self, folder: Folder) -> None:
        names = ["d"] * 100
        for depth in range(1, 101):
            folder.make_directory(names[:depth])
        before = descriptors()
        with folder.find([*names, "new"]) as found:
            assert found.status is None
            assert len(descriptors() - before) <= 1
        for depth in range(100, 0, -1):
            folder.delete(names[:depth], anything)

    def test_missing_parents_and_files_as_parents_are_told_apart(self, folder: Folder) -> None:
        with pytest.raises(FileNotFoundError):
            folder.find(["a", "nothing", "file"])
        with pytest.raises(NotADirectoryError):
            folder.find(["a", "b", "file", "deeper"])

    def test_a_folder_that_is_gone_is_not_found(self, folder: Folder) -> None:
        root(folder).rename(root(folder).with_name("moved"))
        with pytest.raises(FileNotFoundError):
            folder.entries([])


class TestListing:
    def test_links_show_what_they_lead_to_and_hide_where_they_may_not(self, folder: Folder) -> None:
        for name, target in (
            ("dir", "a"),
            ("file", "a/b/file"),
            ("out", "../secret"),
            ("lost", "x"),
            ("ring", "ring"),
        ):
            (root(folder) / name).symlink_to(target)
        os.mkfifo(root(folder) / "fifo")
        (root(folder) / ".lwipy-partial-1").write_bytes(b"")
        entries = folder.entries([])
        kinds = [(entry.name, entry.is_directory) for entry in entries]
        assert kinds == [("a", True), ("dir", True), ("file", False)]
        assert entries[2].size == 7


class TestPartial:
    def test_it_is_seen_only_when_whole(self, folder: Folder) -> None:
        upload = Partial(folder, ["a", "new"], anything, None)
        upload.open()
        upload.write([b"one", b"two"])
        assert [entry.name for entry in folder.entries(["a"])] == ["b"]
        assert upload.commit() is True
        upload.close()
        assert read(folder, "a", "new") == b"onetwo"

    def test_closed_it_leaves_nothing(self, folder: Folder) -> None:
        upload = Partial(folder, ["a", "b", "file"], anything, None)
        upload.open()
        upload.write([b"half"])
        upload.close()
        upload.close()
        assert [path.name for path in (root(folder) / "a" / "b").iterdir()] == ["file"]
        assert read(folder, "a", "b", "file") == b"content"

    def test_closed_before_its_thread_came_to_open_it_stays_closed(self, folder: Folder) -> None:
        for file in (Partial(folder, ["new"], anything, None), Reading(folder, ["a", "b", "file"])):
            file.close()
            file.open()
        assert [path.name for path in root(folder).iterdir()] == ["a"]

    def test_what_cannot_fit_is_refused_before_the_first_byte(self, folder: Folder) -> None:
        upload = Partial(folder, ["new"], anything, 2**60)
        with pytest.raises(OSError, match="No space") as caught:
            upload.open()
        upload.close()
        assert caught.value.errno == errno.ENOSPC
        assert [path.name for path in root(folder).iterdir()] == ["a"]

    def test_a_directory_that_takes_the_place_meanwhile_is_kept(self, folder: Folder) -> None:
        upload = Partial(folder, ["new"], anything, None)
        upload.open()
        (root(folder) / "new").mkdir()
        with pytest.raises(IsADirectoryError):
            upload.commit()
        upload.close()
        assert (root(folder) / "new").is_dir()

    def test_a_check_is_made_at_the_start_and_again_at_the_end(self, folder: Folder) -> None:
        seen: list[bool] = []
        upload = Partial(folder, ["new"], lambda status: seen.append(status is not None), None)
        upload.open()
        (root(folder) / "new").write_bytes(b"came first")
        assert upload.commit() is False
        upload.close()
        assert seen == [False, True]

    def test_between_the_last_check_and_the_rename_no_other_upload_comes_in(self, folder: Folder) -> None:
        second = Partial(folder, ["new"], anything, None)
        second.open()
        rival = threading.Thread(target=second.commit)
        checks = itertools.count()

        def check(status: os.stat_result | None) -> None:
            if next(checks) == 1:
                rival.start()
                rival.join(0.2)
                assert rival.is_alive(), "it waits for its turn"

        first = Partial(folder, ["new"], check, None)
        first.open()
        assert first.commit() is True
        rival.join()
        first.close()
        second.close()


class TestNames:
    @pytest.mark.parametrize(
        ("path", "names"),
        [("/", []), ("/a/b", ["a", "b"]), ("//a///b/", ["a", "b"]), ("/a%20b", ["a b"]), ("/%252e", ["%2e"]),
         ("/%e9", ["\udce9"]), ("/%C3%A9", ["é"]), ("/é", ["é"]), ("/a%", ["a%"]), ("/...", ["..."])],
    )  # fmt: skip
    def test_a_url_path_is_split_before_it_is_decoded(self, path: str, names: list[str]) -> None:
        assert components(path) == names

    @pytest.mark.parametrize("path", ["/.", "/..", "/a/../b", "/%2e%2e", "/a%2fb", "/%2F", "/a%00"])
    def test_what_names_no_entry_is_refused(self, path: str) -> None:
        with pytest.raises(BadName):
            components(path)

    @pytest.mark.parametrize(
        "name",
        [
            "a\\b",
            "C:",
            "a:stream",
            "nul",
            "NUL.txt",
            "com1",
            "COM\u00b9",
            "a.",
            "a ",
            "a?",
            "a*b",
            "a\x1fb",
            "conin$",
        ],
    )
    def test_windows_has_names_of_its_own_to_refuse(self, name: str) -> None:
        assert checked(name, windows=False) == name
        with pytest.raises(BadName):
            checked(name, windows=True)

    def test_and_takes_all_others(self) -> None:
        for name in ("a.txt", "null", "com10", "com", "aux2", "con-", ".hidden", "é"):
            assert checked(name, windows=True) == name

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            ('form-data; name="f"; filename="a.txt"', "a.txt"),
            ("form-data; filename=a.txt", "a.txt"),
            ('form-data; filename="C:\\dir\\new.txt"', "new.txt"),
            ('form-data; filename="a\\"b.txt"', 'a"b.txt'),
            ('form-data; filename="dir/a.txt"', "a.txt"),
            ("form-data; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
            ('form-data; filename="caf\udce9"', "caf\udce9"),
            ('form-data; filename="é"', "é"),
            ('form-data; filename=""', ""),
            ('form-data; name="f"', None),
            ("", None),
            (None, None),
        ],
    )
    def test_a_form_names_its_file(self, header: str | None, name: str | None) -> None:
        assert file_name(header) == name

    @pytest.mark.parametrize(
        "header",
        ['form-data; filename=".."', 'form-data; filename="a/"', 'form-data; filename="a\nb"',
         "form-data; filename*=nonsense''%ff", "form-data; filename*=utf-8''%ff",
         "form-data; filename*=utf-8''..%2f"],
    )  # fmt: skip
    def test_a_form_that_names_it_badly_is_refused(self, header: str) -> None:
        with pytest.raises(BadName):
            file_name(header)

    def test_what_is_printed_cannot_steer_a_terminal(self) -> None:
        assert printable("a\x1b[2J\n\udce9é") == "a\\x1b[2J\\n\\udce9é"
