# The classes in C: csrc/python/end.c and connection.c have what is declared here, and lwipy._native loads them.

from lwipy.endpoints.base import Buffer

class End:
    """What C needs to know of an endpoint: ``_stack`` and ``_handle``, which Endpoint declares."""

class Connection(End):
    """What a connection does with bytes. Every method returns at once."""

    def send(self, data: Buffer) -> int:
        """Queues what fits into the send buffer and says how many bytes that was; BlockingIOError when none.

        OSError: ECONNRESET, EPIPE (never connected, or after shutdown), ETIMEDOUT. tcp_write.
        """

    def send_if_room(self, data: Buffer) -> int:
        """As send(), but 0, cheaper than an exception, when nothing fits."""

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, and at most a megabyte; b"" at the end of the stream.

        BlockingIOError when nothing waits; ValueError for a negative size.
        """

    def recv_into(self, buffer: bytearray | memoryview, *, peek: bool = False) -> int:
        """Fills `buffer` with what has arrived; 0 at the end of the stream. BlockingIOError when nothing waits."""

    def recv_into_if_any(self, buffer: bytearray | memoryview, peek: bool = False) -> int | None:
        """As recv_into(), but None, cheaper than an exception, when nothing waits."""
