"""asyncssh: a command, a file by SFTP, and a forwarded port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh

from .conftest import CONTENT, HOST, NAME, Ends, run, serving


class Server(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("guest", "secret")


def test_asyncssh(ends: Ends, tmp_path: Path) -> None:
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    known_hosts = asyncssh.import_known_hosts(f"{NAME} {host_key.export_public_key().decode()}")
    folder, here = tmp_path / "server", tmp_path / "client"
    folder.mkdir()
    here.write_bytes(CONTENT)

    def greet(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write(f"you said {process.command}")
        process.exit(3)

    def sftp(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(folder).encode())

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        async with asyncssh.listen(
            HOST, 22, server_factory=Server, server_host_keys=[host_key], process_factory=greet, sftp_factory=sftp
        ):
            yield

    async def client() -> None:
        async with asyncssh.connect(
            NAME, username="guest", password="secret", known_hosts=known_hosts, config=None
        ) as connection:
            answer = await connection.run("hello")
            assert (answer.stdout, answer.exit_status) == ("you said hello", 3)
            async with connection.start_sftp_client() as sftp:
                await sftp.put(str(here), "/file")
                assert (folder / "file").read_bytes() == CONTENT
                assert await sftp.listdir("/") == [".", "..", "file"]
                await sftp.get("/file", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == CONTENT

    with serving(ends.server, server):
        run(ends.client, client)
