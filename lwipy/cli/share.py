"""``lwipy share DIR``: a folder for a guest, with all that the guest needs to reach it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lwipy.interface import Interface
    from lwipy.links.base import Link

_EPILOG = """\
The guest gets its address by DHCP and finds the folder at http://host.lwipy/ ; with --writable it may also upload
(the form on the page, PUT or POST to a path), delete (DELETE) and make folders (MKCOL, or the form).
Nothing outside the folder, and nothing else of this machine, can be reached by the guest.
"""


def _fraction(text: str) -> float:
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction from 0 to 1 (or a percentage such as 1%)")
    return value


def _burst(text: str) -> tuple[int, float]:
    frames, _, milliseconds = text.partition("/")
    try:
        burst, interval = int(frames), float(milliseconds or "1") / 1000
    except ValueError:
        burst, interval = 0, 0.0
    if burst < 1 or interval <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not FRAMES/MILLISECONDS, such as 4/1")
    return burst, interval


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "share", help="give a folder to a guest, both ways", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to share")
    way = parser.add_argument_group("how the guest is reached (one of)").add_mutually_exclusive_group(required=True)
    way.add_argument("--qemu", metavar="PATH|HOST:PORT", help="listen there for QEMU's -netdev stream")
    way.add_argument("--qemu-dgram", metavar="PATH", help="datagrams of QEMU's -netdev dgram, over unix sockets")
    way.add_argument("--qemu-vhost", metavar="PATH", help="the guest's own rings by QEMU's -netdev vhost-user (Linux)")
    way.add_argument("--websocket", metavar="HOST:PORT", help="a relay for emulators in a browser, such as v86")
    way.add_argument("--tap", metavar="NAME", help="a TAP device of this machine (needs root)")
    parser.add_argument("--writable", action="store_true", help="let the guest upload, delete and make folders")
    parser.add_argument("--port", type=int, default=80, help="the HTTP port (default 80)")
    parser.add_argument("--ipv4", metavar="ADDRESS/PREFIX", default="10.0.0.1/24", help="our address (10.0.0.1/24)")
    parser.add_argument("--ipv6", metavar="ADDRESS/PREFIX", default="fd00::1/64", help="our address (fd00::1/64)")
    parser.add_argument("--mtu", type=int, default=1500, help="largest packet, bytes (default 1500)")
    parser.add_argument("--domain", default="lwipy", help="the domain of guests' names (default lwipy)")
    parser.add_argument("--pcap", metavar="FILE", type=Path, help="write all frames there, for Wireshark")
    parser.add_argument("--origin", action="append", metavar="ORIGIN", help="browser pages that may use --websocket")
    parser.add_argument(
        "--burst", metavar="FRAMES/MS", type=_burst,
        help="send at most so many frames in so many milliseconds; NICs such as ne2k drop what is more (try 4/1)",
    )  # fmt: skip
    parser.add_argument("--loss", type=_fraction, default=0.0, help="lose this fraction of frames each way, to test")
    parser.set_defaults(run=run)


def make_link(options: argparse.Namespace) -> tuple[Link, str]:
    """The link, and the line that tells how to start the guest."""
    from lwipy import links

    if options.qemu:
        stream = links.QemuStream(options.qemu, listen=True)
        return stream, f"start QEMU with: {stream.qemu_arguments()}"
    if options.qemu_dgram:
        dgram = links.QemuDgram(options.qemu_dgram, f"{options.qemu_dgram}.guest")
        return dgram, f"start QEMU with: {dgram.qemu_arguments()}"
    if options.qemu_vhost:
        vhost = links.VhostUser(options.qemu_vhost)
        return vhost, f"start QEMU with: {vhost.qemu_arguments()}"
    if options.websocket:
        host, _, port = options.websocket.rpartition(":")
        if not port.isdecimal():
            raise ValueError(f"{options.websocket!r} is not HOST:PORT")
        relay = links.WebSocketRelay(host.strip("[]") or "127.0.0.1", int(port), origins=options.origin)
        return relay, f"the relay for the browser: ws://{options.websocket}/"
    return links.Tap(options.tap), f"the TAP device is {options.tap}"


def _prepare(options: argparse.Namespace, interface: Interface) -> None:
    if options.burst is not None:
        from lwipy.links import Pacing

        interface.pacing = Pacing(burst=options.burst[0], interval=options.burst[1])
    if options.loss:
        interface.impair(loss=options.loss)
    if options.pcap is not None:
        interface.capture(options.pcap)


async def _serve(options: argparse.Namespace) -> None:
    try:
        from lwipy.cli.display import Display
    except ModuleNotFoundError as error:
        raise ImportError(
            f"lwipy share needs {error.name}, which is not installed: pip install lwipy[share]"
        ) from error
    from lwipy.gateway import Gateway

    display = Display()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    link, line = make_link(options)
    gateway = Gateway(
        link, ipv4=options.ipv4, ipv6=options.ipv6 or None, mtu=options.mtu, domain=options.domain,
        folder=options.folder, writable=options.writable, port=options.port,
        prepare=lambda interface: _prepare(options, interface),
        on_lease=display.lease, observer=display.transfer,
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as cleanup:
        # A link that is never attached, because the gateway fails, has its file or listener all the same.
        cleanup.callback(link.detach)
        async with gateway:
            with display.live():
                display.say(line)
                where = f"http://host.{options.domain}{'' if options.port == 80 else f':{options.port}'}/"
                display.say(f"sharing {options.folder} at {where} ({'writable' if options.writable else 'read only'})")
                await stop.wait()
            moved = gateway.interface.counters
            display.say(f"ended: {moved.rx_frames} frames from the guest, {moved.tx_frames} to it")


def run(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise NotADirectoryError(f"{options.folder} is not a folder")
    asyncio.run(_serve(options))
    return 0
