"""A network that is not ours, for a guest that speaks by WebSocket: QEMU's own user network behind a relay.

It shows that a guest image works before any stack of ours is met, and gives that stack something to be compared
with.  A QEMU without a machine joins its user network and a `stream` socket by a hub; we carry frames between that
socket and one WebSocket client.  The network is 10.0.2.0/24, and 10.0.2.2 is the host's loopback.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


class SlirpRelay:
    """Serves one guest at a time at `url`, for the length of a `with` block."""

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/frames")
            listener.listen()
            self._qemu = subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"),
                    *("-netdev", "user,id=net0", "-netdev", "hubport,hubid=0,id=port0,netdev=net0"),
                    *("-netdev", f"stream,id=net1,server=off,addr.type=unix,addr.path={folder}/frames"),
                    *("-netdev", "hubport,hubid=0,id=port1,netdev=net1"),
                ],
                stdin=subprocess.DEVNULL,
                # It warns of a hub that no machine is connected to, which is what is wanted here.
                stderr=subprocess.DEVNULL,
            )
            listener.settimeout(30)
            self._frames, _ = listener.accept()
        self._server = serve(self._carry, "127.0.0.1", 0, compression=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/"
        threading.Thread(target=self._server.serve_forever, name="slirp relay", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._qemu.kill()
        self._qemu.wait()
        self._frames.close()

    def _carry(self, guest: ServerConnection) -> None:
        threading.Thread(target=self._to_guest, args=(guest,), name="slirp to guest", daemon=True).start()
        try:
            for frame in guest:
                assert isinstance(frame, bytes)
                self._frames.sendall(len(frame).to_bytes(4, "big") + frame)
        except (ConnectionClosed, OSError):
            # An emulator that has ended does not say goodbye.
            pass

    def _to_guest(self, guest: ServerConnection) -> None:
        stream = self._frames.makefile("rb")
        try:
            while length := stream.read(4):
                guest.send(stream.read(int.from_bytes(length, "big")))
        except (ConnectionClosed, OSError):
            pass
