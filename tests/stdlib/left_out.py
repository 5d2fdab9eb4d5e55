"""What of CPython's tests is not run on a stack, and why. Patterns (fnmatch) of test ids behind the version, as in
"3.12 test.test_socket..."; the first that fits counts.

A test that could pass does not belong here, unless it runs under another name. Tests that skip themselves are counted
with the reason they give.
"""

from __future__ import annotations

import fnmatch
import sys
from typing import Final

PROTOCOL: Final = "a protocol that a stack has not"
FAMILY: Final = "an address family that is the host's, inside patched() too"
MOCKED: Final = "puts a mock in the place of socket.socket, which the stack's create_connection does not use"
REFERENCES: Final = "counts references inside a C function"
FORK: Final = "serves in a forked process, where a stack is closed"
MOCKED_SERVER: Final = "puts a mock in the place of socket.socket, which the loop's create_server does not use"
DUPLICATE: Final = "duplicates a server's socket, where a stack's server has only endpoints"
PRETENDED: Final = "puts a mock in the place of a socket, for the loop to work on"
SHARED_PORT: Final = "SO_REUSEPORT: a stack's connections are not shared between processes"
AGAIN: Final = "the tests of EPollEventLoopTests on another selector, with which a stack's loop watches one descriptor"
KERNEL: Final = "asks the kernel to send from a descriptor"

LEFT_OUT: Final[dict[str, str]] = {
    "*.test_socket.*UDPLITE*": PROTOCOL,
    "*.test_socket.*SCTP*": PROTOCOL,
    "*.test_socket.*Unix*": FAMILY,
    "*.test_socket.*SCMRights*": FAMILY,
    "*.test_socket.TestLinuxAbstractNamespace.*": FAMILY,
    "*.test_socket.BasicSocketPairTest.*": FAMILY,
    "*.test_socket.SendRecvFdsTests.*": FAMILY,
    "*.test_socket.*CAN*": FAMILY,
    "*.test_socket.*RDS*": FAMILY,
    "*.test_socket.*VSOCK*": FAMILY,
    "*.test_socket.*Bluetooth*": FAMILY,
    "*.test_socket.*QIPCRTR*": FAMILY,
    "*.test_socket.*TIPC*": FAMILY,
    "*.test_socket.ISOTPTest.*": FAMILY,
    "*.test_socket.J1939Test.*": FAMILY,
    "*.test_socket.LinuxKernelCryptoAPI.*": FAMILY,
    "*.test_socket.NetworkConnectionNoServer.test_create_connection_timeout": MOCKED,
    "*.test_socket.GeneralModuleTests.testRefCountGetNameInfo": REFERENCES,
    "*.test_socket.GeneralModuleTests.test__sendfile_use_sendfile": KERNEL,
    "*.test_socket.SendfileUsingSendfileTest.*": KERNEL,
    "*.test_socketserver.SocketServerTest.test_ForkingTCP*": FORK,
    "*.test_socketserver.SocketServerTest.test_ForkingUDP*": FORK,
    "*.test_asyncio.*.PollEventLoopTests.*": AGAIN,
    "*.test_asyncio.*.SelectEventLoopTests.*": AGAIN,
    "*.test_events.*.test_create_server_multiple_hosts_ipv?": MOCKED_SERVER,
    "*.test_events.*.test_create_server_trsock": DUPLICATE,
    "*.test_events.*.test_create_server_reuse_port": SHARED_PORT,
    "3.12 *.test_server.TestServer2.test_wait_closed_*": "counts connections by calling asyncio.Server's own _attach()",
    "*.test_sendfile.*.test_sendfile_force_unsupported_native": KERNEL,
    "*.test_sendfile.*.test_sendfile_prevents_bare_write": KERNEL,
    "*.test_sock_lowlevel.*.test_sendto_blocking": PRETENDED,
    "*.test_socket.GeneralModuleTests.test_SocketType_is_socketobject": "patched() lends socket.SocketType too",
}


def reason(identifier: str) -> str | None:
    """Why a test is left out; None for one that is to be run."""
    subject = f"{sys.version_info.major}.{sys.version_info.minor} {identifier}"
    return next((why for pattern, why in LEFT_OUT.items() if fnmatch.fnmatchcase(subject, pattern)), None)
