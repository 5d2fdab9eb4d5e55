"""Scripts that several tests run, made of the words of `steps.sh`."""

from __future__ import annotations

ECHO_SIZES = (56, 1472, 4000)


def main_job(server: str, *, file: str, upload_bytes: int, name: str = "", hostname: str = "guest") -> str:
    """All that a guest does with a folder of the host's, every piece a step of its own.

    server: the HTTP server's "host" or "host:port"; file: the path of the file to download; upload_bytes: size of
    the random file to upload, to up-post.bin, up-put.bin and up-half-close.bin; name: a name to resolve first, if
    any; hostname: what the guest calls itself at DHCP.

    Steps: lease, lookup, echo-56, echo-1472, echo-4000, download, download-sum, noise, noise-sum, post, put,
    half-close. The sums are SHA-256 in hexadecimal; an upload's output is the server's whole reply.
    """
    host = server.partition(":")[0]
    steps = [
        f"step lease lease {hostname}",
        *([f"step lookup nslookup {name}"] if name else []),
        *(f"step echo-{size} echoes {host} {size}" for size in ECHO_SIZES),
        f"step download download http://{server}/{file} /tmp/downloaded",
        "step download-sum sha256sum /tmp/downloaded",
        "rm /tmp/downloaded",
        f"step noise noise /tmp/noise {upload_bytes}",
        "step noise-sum sha256sum /tmp/noise",
        f"step post upload POST http://{server}/up-post.bin /tmp/noise",
        f"step put upload PUT http://{server}/up-put.bin /tmp/noise",
        f"step half-close upload PUT http://{server}/up-half-close.bin /tmp/noise half-close",
    ]
    return "\n".join(steps) + "\n"


def listener(port: int) -> str:
    """The step `listen`: the guest accepts one connection at `port` and sends back all it is sent, until the end.

    Connect when `guest.expect("^@@ listening")` has returned.
    """
    return f"step listen listen {port} cat\n"
