"""Commands: ``lwipy share`` gives a folder to a guest, ``lwipy demo`` shows it without one."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from lwipy import __version__
from lwipy._native import ffi, lib
from lwipy.cli import demo, share


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lwipy", description="The lwIP TCP/IP stack in Python.")
    version = f"lwipy {__version__}, lwIP {ffi.string(lib.lwipy_version()).decode()}"
    top.add_argument("--version", action="version", version=version)
    top.add_argument("-v", "--verbose", action="count", default=0, help="log more; twice for everything")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    share.add_parser(commands)
    demo.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit status. Errors of use and of the system are one line on stderr."""
    options = parser().parse_args(arguments)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, OverflowError, ImportError) as error:
        print(f"lwipy: {error}", file=sys.stderr)
        return 1
