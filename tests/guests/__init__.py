"""Real guests for tests: Debian's kernel and busybox, booted in QEMU or v86, ordered about by a shell script.

    need("qemu")
    script = "step lease lease box\\nstep ping echoes 10.0.0.1 1472\\n"
    with QemuGuest(script, netdev="stream,server=off,addr.type=unix,addr.path=/tmp/frames") as guest:
        report = guest.wait(60)
    assert report["ping"].packets() == (5, 5)

`steps.sh` has the words that a script can use, `scripts.py` scripts that are ready, `console.py` the ways to speak
with a running guest.
"""

from .console import Guest, GuestError, Report, Step
from .needs import missing, need
from .qemu import QemuGuest
from .v86 import V86Guest

__all__ = ["Guest", "GuestError", "QemuGuest", "Report", "Step", "V86Guest", "missing", "need"]
