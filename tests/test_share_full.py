"""The shared folder when the host's disk is full or a limit is reached: told as 507, and nothing lost."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from share_server import Served, form

MEGABYTE = 1_000_000


@contextmanager
def narrowed(root: Path, *prefix: str, **options: Any) -> Iterator[Served]:
    """A writable share of `root` in a process of its own, started through `prefix`."""
    program = Path(__file__).with_name("share_server.py")
    with subprocess.Popen(
        [*prefix, sys.executable, str(program), str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
        env={"PYTHONPATH": str(Path(__file__).parent.parent)}, **options,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # What the process sees as `root` is its own mount, if it has one.
            yield Served(Path(f"/proc/{process.pid}/root{root}"), int(process.stdout.readline()))
        finally:
            process.stdin.close()
            assert process.wait(20) == 0


def upload_too_much(served: Served, too_much: int) -> None:
    """Uploads that do not fit, of each kind; what was there stays, and there is room again afterwards."""
    assert served.ask("PUT", "/file", b"what was there").status == 201
    pieces = [bytes(100_000)] * (too_much // 100_000)
    for refused in (
        served.ask("PUT", "/file", iter(pieces), encode_chunked=True),
        served.ask("PUT", "/file", b"".join(pieces)),
        served.ask("POST", "/", *form(("f", "small", b"fits"), ("f", "file", b"".join(pieces)))),
    ):
        assert refused.status == 507, refused.text
        assert served.get("/file").body == b"what was there"
        assert served.hidden() == []
    assert "stored /small: 4 bytes" in refused.text
    assert served.ask("PUT", "/file", bytes(MEGABYTE)).status == 200


def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 2 MB, mounted for that process alone."""
    mount = 'mount -t tmpfs -o size=2m tmpfs "$1" && shift && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path)]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
        prefix = ["unshare", *prefix[3:]]  # no user namespaces here: as root
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this host lets nobody mount a small file system; the limit below stands in")
    with narrowed(tmp_path, *prefix) as served:
        upload_too_much(served, 3 * MEGABYTE)


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """RLIMIT_FSIZE, by which a write fails in the middle (EFBIG), whatever the free space."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MEGABYTE, 2 * MEGABYTE))

    with narrowed(tmp_path, preexec_fn=limit) as served:
        upload_too_much(served, 3 * MEGABYTE)
