"""paramiko: client and server, a command and a file by SFTP."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from typing import Any

import paramiko

from .conftest import CONTENT, HOST, NAME, Ends, blocking, service


class Server(paramiko.ServerInterface):
    """Knows one user, and answers every command."""

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if (username, password) == ("guest", "secret") else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.answer, args=(channel, command)).start()
        return True

    def answer(self, channel: paramiko.Channel, command: bytes) -> None:
        channel.makefile().read()
        channel.sendall(b"you said " + command)
        channel.send_exit_status(3)
        channel.close()


class Files(paramiko.SFTPServerInterface):
    """One file, in memory."""

    content = io.BytesIO()

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle:
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = handle.writefile = self.content  # type: ignore[attr-defined]
        self.content.close = lambda: None  # type: ignore[method-assign]
        return handle

    def stat(self, path: str) -> paramiko.SFTPAttributes:
        attributes = paramiko.SFTPAttributes()
        attributes.st_size = len(self.content.getvalue())
        return attributes


def test_paramiko(ends: Ends) -> None:
    key = paramiko.ECDSAKey.generate()

    def server(ready: Callable[[Callable[[], object]], None]) -> None:
        with socket.create_server((HOST, 22)) as listener:
            ready(lambda: None)
            accepted, _ = listener.accept()
        with accepted, paramiko.Transport(accepted) as transport:
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
            transport.start_server(server=Server())
            transport.join(60)

    def client() -> Any:
        with paramiko.SSHClient() as ssh:
            ssh.get_host_keys().add(NAME, key.get_name(), key)
            ssh.connect(NAME, username="guest", password="secret", allow_agent=False, look_for_keys=False)
            stdin, stdout, _ = ssh.exec_command("hello")
            stdin.channel.shutdown_write()
            assert stdout.read() == b"you said hello"
            assert stdout.channel.recv_exit_status() == 3
            with ssh.open_sftp() as sftp:
                sftp.putfo(io.BytesIO(CONTENT), "/file")
                came = io.BytesIO()
                sftp.getfo("/file", came)
                assert came.getvalue() == CONTENT

    with service(ends.server, server), blocking(ends.client):
        client()
