/*
 * One core: opened, polled, asked and closed. The functions here and in the other files that are named core_... make
 * up the table through which instance.c calls the copy.
 *
 * Invariants:
 * 1. Everything runs under the core's lock, taken at the border.
 * 2. `promised` is the deadline Python was last told; when an operation brings an earlier one, attention says so.
 */
#include "blocks.h"
#include "deadlines.h"
#include "demux.h"
#include "lend.h"
#include "link.h"
#include "netif.h"
#include "stage.h"
#include "waiters.h"

#include <string.h>

#include "lwip/init.h"
#include "lwip/stats.h"

struct lwipy_core *lwipy_self;
u32_t lwipy_without;
static int64_t promised = LWIPY_NEVER;

/* ---- Life -------------------------------------------------------------------------------------------------------- */

int
lwipy_inside_open(struct lwipy_core *core, const lwipy_options *options)
{
  lwipy_self = core;
  lwipy_without = options->without;
  lwipy_port_open(options);
  if (lwipy_arena_open((size_t)options->memory) != 0) {
    return LWIPY_EMEM;
  }
  if (lwipy_demux_open(!(options->without & LWIPY_WITHOUT_DEMUX)) != 0) {
    return LWIPY_EMEM;
  }
  lwipy_timers_open();
  lwip_init();
  return 0;
}

/* Nothing is sent any more: whoever wants connections closed in order closes them first. */
void
lwipy_inside_close(void)
{
  lwipy_netif_close_all();
  lwipy_lent_end();
  lwipy_held_end();
  lwipy_arena_close();
}

/* ---- Time -------------------------------------------------------------------------------------------------------- */

static int64_t
next_deadline(void)
{
  if (lwipy_netif_has_work() || lwipy_links_have_more()) {
    return 0;
  }
  return LWIP_MIN(LWIP_MIN(lwipy_timers_deadline(), lwipy_deadlines_next()), lwipy_stages_due);
}

static int64_t
until(int64_t deadline)
{
  int64_t now;
  if (deadline == LWIPY_NEVER) {
    return -1;
  }
  now = lwipy_now();
  return deadline > now ? deadline - now : 0;
}

int64_t
core_deadline(void)
{
  promised = next_deadline();
  lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_DEADLINE);
  return until(promised);
}

static void
run_due(void)
{
  int round;
  lwipy_stages_run();
  /* Packets to oneself answer each other; a few rounds settle most exchanges, the next poll does the rest. */
  for (round = 0; round < 8; round++) {
    lwipy_wire_flush();
    if (lwipy_netif_has_work()) {
      lwipy_timers_stir();
      lwipy_netif_poll();
    } else {
      break;
    }
  }
  lwipy_timers_run();
  lwipy_deadlines_run();
}

int64_t
core_turn(const lwipy_readiness *ready, int count)
{
  lwipy_waiters_begin(lwipy_self);
  lwipy_wires_hold();
  lwipy_links_service(ready, count);
  run_due();
  lwipy_waiters_serve(lwipy_self);
  lwipy_wire_flush();
  return core_deadline();
}

/* Called by the border after every function. */
void
lwipy_inside_leave(void)
{
  lwipy_wire_flush();
  lwipy_links_settle();
  lwipy_held_settle();
  if (lwipy_blocks_idle != NULL) {
    lwipy_blocks_offer();
  }
  lwipy_wires_tell();
  lwipy_waiters_return(lwipy_self);
  if (promised > 0 && next_deadline() < promised) {
    promised = 0;
    lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_DEADLINE);
  }
}

int
core_fail(const char *text)
{
  lwipy_assertion_failed(text, __FILE__, __LINE__);
}

/* ---- Statistics --------------------------------------------------------------------------------------------------- */

int
core_get_statistics(lwipy_statistics *out)
{
  memset(out, 0, sizeof(*out));
  out->tcp_rx = lwip_stats.tcp.recv;
  out->tcp_tx = lwip_stats.tcp.xmit;
  out->tcp_drop = lwip_stats.tcp.drop;
  out->tcp_chkerr = lwip_stats.tcp.chkerr;
  out->tcp_lenerr = lwip_stats.tcp.lenerr;
  out->tcp_memerr = lwip_stats.tcp.memerr;
  out->tcp_proterr = lwip_stats.tcp.proterr;
  out->udp_rx = lwip_stats.udp.recv;
  out->udp_tx = lwip_stats.udp.xmit;
  out->udp_drop = lwip_stats.udp.drop;
  out->udp_chkerr = lwip_stats.udp.chkerr;
  out->udp_lenerr = lwip_stats.udp.lenerr;
  out->udp_noport = lwip_stats.udp.proterr;
  out->ip4_rx = lwip_stats.ip.recv;
  out->ip4_tx = lwip_stats.ip.xmit;
  out->ip4_drop = lwip_stats.ip.drop;
  out->ip4_chkerr = lwip_stats.ip.chkerr;
  out->ip4_lenerr = lwip_stats.ip.lenerr;
  out->ip4_proterr = lwip_stats.ip.proterr;
  out->ip6_rx = lwip_stats.ip6.recv;
  out->ip6_tx = lwip_stats.ip6.xmit;
  out->ip6_drop = lwip_stats.ip6.drop;
  out->ip6_lenerr = lwip_stats.ip6.lenerr;
  out->ip6_proterr = lwip_stats.ip6.proterr;
  out->icmp_rx = lwip_stats.icmp.recv + lwip_stats.icmp6.recv;
  out->icmp_tx = lwip_stats.icmp.xmit + lwip_stats.icmp6.xmit;
  out->icmp_drop = lwip_stats.icmp.drop + lwip_stats.icmp6.drop;
  out->arp_rx = lwip_stats.etharp.recv;
  out->arp_drop = lwip_stats.etharp.drop;
  out->nd6_rx = lwip_stats.nd6.recv;
  out->nd6_drop = lwip_stats.nd6.drop;
  out->frag_rx = lwip_stats.ip_frag.recv + lwip_stats.ip6_frag.recv;
  out->frag_drop = lwip_stats.ip_frag.drop + lwip_stats.ip6_frag.drop;
  out->guard_tcp_options = lwipy_guard_counters.tcp_options;
  out->guard_tcp_flags = lwipy_guard_counters.tcp_flags;
  out->guard_tcp_window = lwipy_guard_counters.tcp_window;
  out->guard_nd_options = lwipy_guard_counters.nd_options;
  out->guard_nd_fragment = lwipy_guard_counters.nd_fragment;
  out->guard_nd_unasked = lwipy_guard_counters.nd_unasked;
  out->guard_icmp = lwipy_guard_counters.icmp;
  out->guard_ip_header = lwipy_guard_counters.ip_header;
  out->guard_fragment = lwipy_guard_counters.fragment;
  out->guard_source = lwipy_guard_counters.source;
  out->syn_backlog = lwipy_drops.syn_backlog;
  out->syn_cookies_sent = lwipy_drops.cookies_sent;
  out->syn_cookies_good = lwipy_drops.cookies_good;
  out->time_wait_shed = lwipy_drops.time_wait;
  out->memory_refused = lwipy_drops.memory;
  out->memory_waits = lwipy_drops.memory_waits;
  out->udp_queue_full = lwipy_drops.udp_queue_full;
  out->memory_used = lwipy_arena_used();
  out->memory_limit = lwipy_arena_limit();
  out->endpoints = lwipy_end_count();
  return 0;
}
