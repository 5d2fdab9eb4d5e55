"""What a stack counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lwipy._native import check, ffi, lib

if TYPE_CHECKING:
    from lwipy.stack import Stack


@dataclass(frozen=True)
class Statistics:
    """Counters of a stack: packets by protocol, drops by reason, memory in bytes. `csrc/lwipy.h` names them."""

    tcp_rx: int
    tcp_tx: int
    tcp_drop: int
    tcp_chkerr: int
    tcp_lenerr: int
    tcp_memerr: int
    tcp_proterr: int
    udp_rx: int
    udp_tx: int
    udp_drop: int
    udp_chkerr: int
    udp_lenerr: int
    udp_noport: int
    ip4_rx: int
    ip4_tx: int
    ip4_drop: int
    ip4_chkerr: int
    ip4_lenerr: int
    ip4_proterr: int
    ip6_rx: int
    ip6_tx: int
    ip6_drop: int
    ip6_lenerr: int
    ip6_proterr: int
    icmp_rx: int
    icmp_tx: int
    icmp_drop: int
    arp_rx: int
    arp_drop: int
    nd6_rx: int
    nd6_drop: int
    frag_rx: int
    frag_drop: int
    guard_tcp_options: int
    guard_tcp_flags: int
    guard_tcp_window: int
    guard_nd_options: int
    guard_nd_fragment: int
    guard_nd_unasked: int
    guard_icmp: int
    guard_ip_header: int
    guard_fragment: int
    guard_source: int
    syn_backlog: int
    syn_cookies_sent: int
    syn_cookies_good: int
    time_wait_shed: int
    memory_refused: int
    memory_waits: int
    udp_queue_full: int
    memory_used: int
    memory_limit: int
    endpoints: int

    @classmethod
    def of(cls, stack: Stack) -> Statistics:
        out = ffi.new("lwipy_statistics *")
        check(stack._core, lib.lwipy_get_statistics(stack._core, out))
        return cls(*(getattr(out, field.name) for field in fields(cls)))
