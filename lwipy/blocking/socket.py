"""A socket that blocks, with the surface of :class:`socket.socket`, over a stack's endpoint.

Theory of operation. Every operation tries the endpoint once; where that would block, the thread waits for the driver to
report an event (``waiting.py``). Timeouts, exceptions and their errno are the standard library's. The differences:
:meth:`Socket.fileno` is -1 (the socket is no descriptor of the system's), and :meth:`Socket.detach` gives the endpoint.

Invariants:

1. The socket owns its endpoint until close(), which happens once the last file made by makefile() is closed.
2. sendall() of one thread is not interleaved with another's: they take turns (``_send_lock``).
3. A socket may be closed from any thread; those that wait in it fail with EBADF.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from lwipy.blocking import options
from lwipy.blocking.waiting import Waiters
from lwipy.endpoints import Datagram, Option, RawEndpoint, TcpEndpoint, TcpInfo, UdpEndpoint
from lwipy.endpoints.base import Buffer
from lwipy.endpoints.udp import LONGEST_DATAGRAM, DatagramEndpoint

if TYPE_CHECKING:
    from typing import Self

    from lwipy.stack import Stack

_SENDFILE_BLOCK: Final = 256 * 1024
_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)


def _bad_descriptor() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


class Socket:
    """A socket of a stack. Made by :meth:`Stack.socket`; see :class:`socket.socket` for what each method does."""

    def __init__(
        self,
        stack: Stack,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        endpoint: TcpEndpoint | UdpEndpoint | RawEndpoint | None = None,
    ) -> None:
        if family in (-1, socket.AF_UNSPEC):
            family = socket.AF_INET
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise OSError(errno.EAFNOSUPPORT, f"Address family not supported: {family!r}")
        self._stack = stack
        self.family = socket.AddressFamily(family)
        self.type = socket.SocketKind(type & 0xF)
        self.proto = max(proto, 0)
        self._v6only = False
        self._linger: int | None = None
        self._listening = False
        self._connecting = False
        self._closed = False
        self._io_refs = 0
        self._timeout = socket.getdefaulttimeout()
        self._send_lock = threading.Lock()
        self._waiters = Waiters(stack)
        self._endpoint = endpoint if endpoint is not None else self._new_endpoint()
        self._endpoint.on_event = self._waiters.notify

    def _new_endpoint(self) -> TcpEndpoint | UdpEndpoint | RawEndpoint:
        # An IPv6 socket starts as one of both families: IPV6_V6ONLY is off, as on Linux.
        family = 4 if self.family == socket.AF_INET else 0
        if self.type == socket.SOCK_STREAM:
            return self._stack.tcp(family)
        if self.type == socket.SOCK_DGRAM:
            return self._stack.udp(family)
        if self.type == socket.SOCK_RAW:
            return self._stack.raw(self.proto, 4 if self.family == socket.AF_INET else 6)
        raise OSError(errno.ESOCKTNOSUPPORT, f"Socket type not supported: {self.type!r}")

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.family.name}, {self.type.name}"
        return f"<lwipy.Socket {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> object:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # -- Parts -------------------------------------------------------------------------------------

    @property
    def stack(self) -> Stack:
        return self._stack

    def _tcp(self) -> TcpEndpoint:
        if not isinstance(self._endpoint, TcpEndpoint):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return self._endpoint

    def _datagrams(self) -> DatagramEndpoint:
        if not isinstance(self._endpoint, DatagramEndpoint):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return self._endpoint

    def _set_plain(self, option: Option, value: int) -> None:
        self._endpoint.set_option(option, value)

    def _set_v6only(self, on: bool) -> None:
        if self.family != socket.AF_INET6:
            raise options.unsupported(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self._endpoint.set_option(Option.V6ONLY, int(on))
        self._v6only = on

    # -- Addresses ---------------------------------------------------------------------------------

    def _resolve(self, address: Any) -> tuple[str, int]:
        """(host, port[, flowinfo, scope_id]) with numbers for the host. The name's first address of our family."""
        if not isinstance(address, tuple) or not 2 <= len(address) <= 4:
            raise TypeError(f"{address!r} is not an address: expected a tuple (host, port)")
        host, port = address[0], address[1]
        if isinstance(host, bytes | bytearray):
            host = bytes(host).decode("ascii")
        if host == "<broadcast>":
            host = "255.255.255.255"
        if len(address) == 4 and address[3] and "%" not in host:
            host = f"{host}%{address[3]}"
        if host:
            from lwipy.blocking.functions import resolve

            host = resolve(self._stack, host, self.family, self._timeout)[0]
        return host, port

    def _present(self, address: tuple[str, int] | None) -> Any:
        """As the socket module shows addresses: a pair, or four values for IPv6."""
        if self.family == socket.AF_INET:
            return ("0.0.0.0", 0) if address is None or address[0] in ("", "::") else address
        if address is None or not address[0]:
            return ("::", address[1] if address else 0, 0, 0)
        host, _, scope = address[0].partition("%")
        if ":" not in host:
            host = f"::ffff:{host}"
        return (host, address[1], 0, int(scope or 0))

    def getsockname(self) -> Any:
        return self._present(self._endpoint.address)

    def getpeername(self) -> Any:
        peer = self._endpoint.peer
        if peer is None or (isinstance(self._endpoint, TcpEndpoint) and self._connecting):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._present(peer)

    def bind(self, address: Any) -> None:
        self._endpoint.bind(_unmapped(self._resolve(address)))

    # -- Connections -------------------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        self._tcp().listen(backlog)
        self._listening = True

    def accept(self) -> tuple[Socket, Any]:
        """The next connection and its address."""
        endpoint = self._waiters.until(self._tcp().accept, self._timeout)
        accepted = Socket(self._stack, self.family, self.type, self.proto, endpoint)
        return accepted, accepted._present(endpoint.peer)

    def connect(self, address: Any) -> None:
        resolved = _unmapped(self._resolve(address))
        if not isinstance(self._endpoint, TcpEndpoint):
            self._datagrams().connect(resolved)
            return
        if not self._connecting:
            self._endpoint.connect(resolved)
            self._connecting = True
            if self._timeout == 0:
                raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
        elif self._timeout == 0 and not self._has_connected():
            raise OSError(errno.EALREADY, os.strerror(errno.EALREADY))
        try:
            self._waiters.until(self._await_connection, self._timeout)
        except OSError as error:
            if type(error) is not TimeoutError or error.errno is not None:
                raise type(error)(
                    error.errno, f"{os.strerror(error.errno or 0)}: {resolved[0]}:{resolved[1]}"
                ) from None
            raise

    def _has_connected(self) -> bool:
        try:
            self._await_connection()
        except BlockingIOError:
            return False
        return True

    def _await_connection(self) -> None:
        tcp = self._tcp()
        state = tcp.info.state  # before the error: one that comes in between is then not taken for success
        if (error := tcp.take_error()) is not None:
            self._connecting = False
            raise error
        if state in (2, 3):
            tcp.ready()  # arms the events
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
        self._connecting = False

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            if error.errno is None or isinstance(error, socket.gaierror):
                raise
            return error.errno
        return 0

    def shutdown(self, how: int) -> None:
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, f"cannot shut down {how!r}: expected SHUT_RD, SHUT_WR or SHUT_RDWR")
        if not isinstance(self._endpoint, TcpEndpoint):
            self.getpeername()
            return
        self._endpoint.shutdown(read=how != socket.SHUT_WR, write=how != socket.SHUT_RD)
        self._waiters.notify()

    # -- Bytes in ----------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        if size < 0:
            raise ValueError("negative buffersize in recv")
        if isinstance(self._endpoint, TcpEndpoint):
            buffer = bytearray(min(size, 1 << 20))
            del buffer[self.recv_into(buffer, 0, flags) :]
            return bytes(buffer)
        return self._receive(size, flags).data

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        view = memoryview(buffer).cast("B")
        if nbytes > len(view):
            raise ValueError(f"buffer of {len(view)} bytes is too small for {nbytes}")
        view = view[: nbytes or len(view)]
        if isinstance(self._endpoint, TcpEndpoint):
            tcp, timeout = self._endpoint, self._wait_time(flags)
            if not len(view):
                return 0
            peek = bool(flags & socket.MSG_PEEK)
            got = self._waiters.until(lambda: tcp.recv_into(view, peek=peek), timeout)
            if flags & socket.MSG_WAITALL and not peek:
                while got < len(view):
                    rest = view[got:]
                    part = self._waiters.until(lambda rest=rest: tcp.recv_into(rest), timeout)  # type: ignore[misc]
                    if part == 0:
                        break
                    got += part
            return got
        data = self._receive(len(view), flags).data
        view[: len(data)] = data
        return len(data)

    def _wait_time(self, flags: int) -> float | None:
        return 0 if flags & getattr(socket, "MSG_DONTWAIT", 0) else self._timeout

    def _receive(self, size: int, flags: int) -> Datagram:
        endpoint, peek = self._datagrams(), bool(flags & socket.MSG_PEEK)
        return self._waiters.until(lambda: endpoint.receive(size, peek=peek), self._wait_time(flags))

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Any]:
        if size < 0:
            raise ValueError("negative buffersize in recvfrom")
        if isinstance(self._endpoint, TcpEndpoint):
            return self.recv(size, flags), None
        datagram = self._receive(size, flags)
        return datagram.data, self._present(datagram.source)

    def recvfrom_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        if nbytes < 0:
            raise ValueError("negative buffersize in recvfrom_into")
        view = memoryview(buffer).cast("B")
        if nbytes > len(view):
            raise ValueError(f"nbytes is greater than the length of the buffer: {nbytes} > {len(view)}")
        data, address = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), address

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        """With room for ancillary data, a datagram brings IP_PKTINFO: the interface and the address it came to."""
        if size < 0 or ancillary < 0:
            raise ValueError(f"negative buffer size in recvmsg: {min(size, ancillary)}")
        if isinstance(self._endpoint, TcpEndpoint):
            return self.recv(size, flags), [], 0, None
        datagram = self._receive(size, flags)
        truncated = socket.MSG_TRUNC if datagram.truncated else 0
        return datagram.data, self._packet_info(datagram, ancillary), truncated, self._present(datagram.source)

    def _packet_info(self, datagram: Datagram, room: int) -> list[Any]:
        if room == 0:
            return []
        host = datagram.destination[0].partition("%")[0]
        index = (0 if datagram.interface is None else datagram.interface.number).to_bytes(4, "little")
        if ":" in host:
            info = socket.inet_pton(socket.AF_INET6, host) + index
            return [(socket.IPPROTO_IPV6, getattr(socket, "IPV6_PKTINFO", 50), info)]
        packed = socket.inet_aton(host)
        return [(socket.IPPROTO_IP, _PKTINFO, index + packed + packed)]

    def recvmsg_into(
        self, buffers: Iterable[bytearray | memoryview], ancillary: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, Any]:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, info, message_flags, address = self.recvmsg(sum(map(len, views)), ancillary, flags)
        at = 0
        for view in views:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        return len(data), info, message_flags, address

    # -- Bytes out ---------------------------------------------------------------------------------

    def send(self, data: Buffer, flags: int = 0) -> int:
        if not isinstance(self._endpoint, TcpEndpoint):
            return self.sendto(data, flags)
        tcp = self._endpoint
        with self._send_lock:
            return self._waiters.until(lambda: tcp.send(data), self._wait_time(flags))

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        if not isinstance(self._endpoint, TcpEndpoint):
            self.sendto(data, flags)
            return
        tcp = self._endpoint
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        with memoryview(data).cast("B") as view, self._send_lock:
            at = 0
            while True:
                left = self._timeout if not deadline else max(deadline - time.monotonic(), 1e-9)
                part = view[at:]
                at += self._waiters.until(lambda part=part: tcp.send(part), left)  # type: ignore[misc]
                part.release()
                if at >= len(view):
                    return

    def sendto(self, data: Buffer, *arguments: Any) -> int:
        """sendto(data, address) or sendto(data, flags, address)."""
        if isinstance(self._endpoint, TcpEndpoint):
            return self.send(data)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'")
        address = arguments[-1] if arguments and not isinstance(arguments[-1], int) else None
        to = None if address is None else _unmapped(self._resolve(address))
        view = memoryview(data).cast("B")
        if len(view) > LONGEST_DATAGRAM:
            raise OSError(errno.EMSGSIZE, f"Message too long: {len(view)} bytes, a datagram has {LONGEST_DATAGRAM}")
        self._datagrams().send(view, to)
        return len(view)

    def sendmsg(
        self, buffers: Iterable[Buffer], ancillary: Iterable[Any] = (), flags: int = 0, address: Any = None
    ) -> int:
        """IP_PKTINFO among the ancillary data of a datagram chooses the address it comes from."""
        data = b"".join(buffers)
        if isinstance(self._endpoint, TcpEndpoint):
            return self.send(data, flags)
        source = None
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, _PKTINFO):
                source = socket.inet_ntoa(bytes(value)[4:8])
            elif (level, kind) == (socket.IPPROTO_IPV6, getattr(socket, "IPV6_PKTINFO", 50)):
                source = socket.inet_ntop(socket.AF_INET6, bytes(value)[:16])
            else:
                raise OSError(errno.EINVAL, f"Invalid argument: ancillary data of level {level}, type {kind}")
        to = None if address is None else _unmapped(self._resolve(address))
        self._datagrams().send(data, to, source=source)
        return len(data)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Reads and sends; the file's position is where it stopped."""
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if self.type != socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        if offset:
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                block = file.read(_SENDFILE_BLOCK if count is None else min(_SENDFILE_BLOCK, count - sent))
                if not block:
                    break
                self.sendall(block)
                sent += len(block)
        finally:
            if hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent

    # -- Files -------------------------------------------------------------------------------------

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """A file of the connection; the socket stays open until it is closed too."""
        if not set(mode) <= {"r", "w", "b"}:
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        writing, reading = "w" in mode, "r" in mode or "w" not in mode
        raw_mode: Literal["r", "w", "rw"] = "rw" if reading and writing else "r" if reading else "w"
        raw = socket.SocketIO(self, raw_mode)  # type: ignore[arg-type]
        self._io_refs += 1
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
        if size == 0:
            if "b" not in mode:
                raise ValueError("unbuffered streams must be binary")
            return raw
        buffer: Any
        if reading and writing:
            buffer = io.BufferedRWPair(raw, raw, size)
        else:
            buffer = io.BufferedReader(raw, size) if reading else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline)
        text.mode = mode  # type: ignore[misc]
        return text

    def _decref_socketios(self) -> None:
        if self._io_refs > 0:
            self._io_refs -= 1
        if self._closed:
            self.close()

    # -- End ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closing twice is allowed. What was sent is still delivered; SO_LINGER changes that as usual."""
        self._closed = True
        if self._io_refs <= 0:
            self._real_close()

    def _real_close(self) -> None:
        endpoint = self._endpoint
        if endpoint.closed:
            return
        if isinstance(endpoint, TcpEndpoint) and self._linger is not None and not self._listening:
            self._close_lingering(endpoint, self._linger)
        endpoint.close()
        self._waiters.notify()

    def _close_lingering(self, tcp: TcpEndpoint, seconds: int) -> None:
        """SO_LINGER: with 0 a reset, else close() waits until all was acknowledged, then gives up with a reset."""
        if seconds == 0:
            tcp.abort()
            return

        def acknowledged() -> None:
            if tcp.info.unsent or tcp.info.unacked:
                raise BlockingIOError

        with contextlib.suppress(OSError):
            tcp.linger()
            try:
                self._waiters.until(acknowledged, seconds)
            except TimeoutError:
                tcp.abort()

    def detach(self) -> TcpEndpoint | UdpEndpoint | RawEndpoint:
        """Gives the endpoint away and closes the socket; a socket of the system's would give its descriptor."""
        endpoint, self._closed = self._endpoint, True
        endpoint.on_event = None
        self._endpoint = _Gone(endpoint)  # type: ignore[assignment]
        return endpoint

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            if not self._endpoint.closed and not self._stack.closed:
                self._endpoint.close()

    # -- Settings ----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """-1: the socket is not a descriptor of the system's."""
        return -1

    def settimeout(self, timeout: float | None) -> None:
        if timeout is not None:
            timeout = float(timeout)
            if not timeout >= 0:
                raise ValueError("Timeout value out of range" if timeout < 0 else f"invalid timeout {timeout}")
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        return self._timeout

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0

    def setsockopt(self, level: int, name: int, value: int | Buffer | None, length: int | None = None) -> None:
        options.set_option(
            self, level, name, value if isinstance(value, int) or value is None else bytes(value), length
        )

    def getsockopt(self, level: int, name: int, length: int = 0) -> int | bytes:
        return options.get_option(self, level, name, length)

    @property
    def tcp_info(self) -> TcpInfo:
        """State, windows, round trip time and queued bytes of the connection."""
        return self._tcp().info

    def get_inheritable(self) -> bool:
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        if inheritable:
            raise OSError(errno.EOPNOTSUPP, "a stack's socket lives in its process and cannot be inherited")


class _Gone:
    """What a detached socket holds in its endpoint's place."""

    closed = True

    def __init__(self, endpoint: object) -> None:
        self._kind = type(endpoint)

    def __getattr__(self, name: str) -> Any:
        raise _bad_descriptor()

    def close(self) -> None:
        pass


def _unmapped(address: tuple[str, int]) -> tuple[str, int]:
    """IPv4-mapped IPv6 addresses are IPv4 to the core."""
    host = address[0]
    return (host[7:], address[1]) if host.lower().startswith("::ffff:") and "." in host else address
