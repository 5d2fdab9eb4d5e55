/*
 * lwIP's timers, run so that a stack with nothing to do has no deadline at all.
 *
 * Theory of operation. lwIP wants tcp_fasttmr() and tcp_slowtmr() called at fixed intervals, and a dozen
 * housekeeping timers (ARP, ND, reassembly, IGMP, MLD, DNS, DHCP) at theirs. Most calls would find nothing to do.
 * TCP's timers run while some pcb waits for something; when none does, they stop, and the ticks that were missed
 * are added to tcp_ticks when something stirs the stack again. Housekeeping runs while there was traffic within the
 * last HOUSE_AWAKE; entries age by the ticks that were missed when traffic comes back, which nobody can tell from
 * ageing at the time. What has a deadline of its own (a DHCP lease, a keepalive) keeps its timer.
 *
 * Invariants:
 * 1. Whoever feeds the core or calls TCP stirs first (lwipy_timers_stir), so no timer is late by more than a tick.
 * 2. Ticks are never run in a burst longer than BURST: after a long suspension lwIP sees time jump instead.
 */
#include "core.h"

#include "lwip/dhcp.h"
#include "lwip/dns.h"
#include "lwip/etharp.h"
#include "lwip/igmp.h"
#include "lwip/ip4_frag.h"
#include "lwip/ip6_frag.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#include "lwip/stats.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/dhcp.h"

#define MS          1000
#define TCP_FAST    (TCP_TMR_INTERVAL * MS)
#define HOUSE       (100 * MS)                 /* the finest housekeeping timer */
#define HOUSE_AWAKE (65000 * (int64_t)MS)      /* longer than ARP, ND and DNS retry, and fragments wait for others */
#define BURST       40

static int64_t tcp_next = LWIPY_NEVER;   /* next fast tick; NEVER: the TCP timers sleep */
static int64_t tcp_last;                 /* the last one that was run */
static unsigned tcp_phase;               /* every second fast tick is a slow one too */
static int64_t house_next, house_last, house_until;
static u32_t house_phase;

void
lwipy_timers_open(void)
{
  int64_t now = lwipy_now();
  tcp_last = house_last = house_next = now;
  house_until = now + HOUSE_AWAKE;
}

/* ---- TCP --------------------------------------------------------------------------------------------------- */

/* Fast ticks after which this pcb wants its timers again; 1 for the next. */
static u32_t
ticks_wanted(const struct tcp_pcb *pcb)
{
  u32_t idle, due;
  if ((pcb->state != ESTABLISHED && pcb->state != CLOSE_WAIT &&
       !(pcb->state == FIN_WAIT_2 && !(pcb->flags & TF_RXCLOSED))) ||
      pcb->unacked != NULL || pcb->unsent != NULL || pcb->ooseq != NULL || pcb->refused_data != NULL ||
      (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW | TF_CLOSEPEND | TF_NAGLEMEMERR))) {
    return 1;
  }
  if (!ip_get_option(pcb, SOF_KEEPALIVE)) {
    return UINT32_MAX;
  }
  due = (pcb->keep_idle + pcb->keep_cnt_sent * pcb->keep_intvl) / TCP_SLOW_INTERVAL;
  idle = tcp_ticks - pcb->tmr;
  return idle >= due ? 1 : LWIP_MIN(due - idle, 0x3fffffff) * 2;
}

static u32_t
tcp_ticks_wanted(void)
{
  const struct tcp_pcb *pcb;
  u32_t least = tcp_tw_pcbs != NULL ? 2 : UINT32_MAX;
  for (pcb = tcp_active_pcbs; pcb != NULL && least > 1; pcb = pcb->next) {
    u32_t wanted = ticks_wanted(pcb);
    least = LWIP_MIN(least, wanted);
  }
  return least;
}

/* Time passes for TCP without its timers being run. */
static void
tcp_skip_to(int64_t time)
{
  unsigned ticks;
  if (time - tcp_last < TCP_FAST) {
    return;
  }
  ticks = (unsigned)((time - tcp_last) / TCP_FAST);
  if (ticks > BURST) {
    /* Nobody was there to hear the answer: as a round trip, the time away would stop the connection for minutes. */
    struct tcp_pcb *pcb;
    for (pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
      pcb->rttest = 0;
    }
  }
  tcp_ticks += (tcp_phase + ticks + 1) / 2 - (tcp_phase + 1) / 2;
  tcp_phase += ticks;
  tcp_last += ticks * (int64_t)TCP_FAST;
}

static void house_wake(int64_t now);

/* lwIP drops a connection that has heard nothing in LAST_ACK for two TCP_MSL, which are short here (lwipopts.h), even
   if the application's last bytes were not acknowledged or not even sent. Those end by their retransmissions instead. */
static void
spare_last_ack(void)
{
  struct tcp_pcb *pcb;
  for (pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->state == LAST_ACK && (pcb->unacked != NULL || pcb->unsent != NULL)) {
      pcb->tmr = tcp_ticks;
    }
  }
}

static void
tcp_run(int64_t now)
{
  STAT_COUNTER sent = lwip_stats.tcp.xmit;
  while (tcp_next <= now) {
    u32_t wanted;
    tcp_skip_to(LWIP_MAX(tcp_next - TCP_FAST, now - BURST * (int64_t)TCP_FAST));
    tcp_last += TCP_FAST;
    tcp_fasttmr();
    if (++tcp_phase & 1) {
      spare_last_ack();
      tcp_slowtmr();
    }
    wanted = tcp_ticks_wanted();
    tcp_next = wanted == UINT32_MAX ? LWIPY_NEVER : tcp_last + (int64_t)wanted * TCP_FAST;
  }
  if (lwip_stats.tcp.xmit != sent) {
    house_wake(now);            /* the neighbour may have to be asked for again, and given up */
  }
}

/* ---- Housekeeping ------------------------------------------------------------------------------------------- */

static int
dhcp_waits(const struct netif *netif)
{
  const struct dhcp *dhcp = netif_dhcp_data(netif);
  return dhcp != NULL && dhcp->state != DHCP_STATE_OFF && dhcp->state != DHCP_STATE_BOUND;
}

static int
dhcp_leased(const struct netif *netif)
{
  const struct dhcp *dhcp = netif_dhcp_data(netif);
  return dhcp != NULL && dhcp->state == DHCP_STATE_BOUND;
}

static int
any_netif(int (*test)(const struct netif *))
{
  struct netif *netif;
  NETIF_FOREACH(netif) {
    if (test(netif)) {
      return 1;
    }
  }
  return 0;
}

static int
group_report_due(const struct netif *netif)
{
  const struct igmp_group *group = netif_igmp_data(netif);
  const struct mld_group *mld = netif_mld6_data(netif);
  for (; group != NULL; group = group->next) {
    if (group->timer > 0) {
      return 1;
    }
  }
  for (; mld != NULL; mld = mld->next) {
    if (mld->timer > 0) {
      return 1;
    }
  }
  return 0;
}

static void
house_tick(void)
{
  house_phase++;
  igmp_tmr();
  mld6_tmr();
  if (house_phase % 5 == 0) {
    dhcp_fine_tmr();
  }
  if (house_phase % 10 == 0) {
    etharp_tmr();
    ip_reass_tmr();
    nd6_tmr();
    lwipy_keep_neighbours();
    ip6_reass_tmr();
    dns_tmr();
  }
  if (house_phase % 600 == 0) {
    dhcp_coarse_tmr();
  }
}

/* Ticks until one of them has work; tick 10 (a second) for everything that ages. */
static u32_t
house_ticks_wanted(int64_t now)
{
  if (any_netif(group_report_due)) {
    return 1;
  }
  if (any_netif(dhcp_waits)) {
    return 5 - house_phase % 5;
  }
  if (now < house_until) {
    return 10 - house_phase % 10;
  }
  return any_netif(dhcp_leased) ? 600 - house_phase % 600 : UINT32_MAX;
}

static void
house_run(int64_t now)
{
  u32_t wanted;
  int64_t missed = (now - house_last) / HOUSE;
  if (missed > 6000) {          /* ten minutes: everything that ages has aged */
    house_last += (missed - 6000) * HOUSE;
  }
  while (house_last + HOUSE <= now) {
    house_last += HOUSE;
    house_tick();
  }
  wanted = house_ticks_wanted(now);
  house_next = wanted == UINT32_MAX ? LWIPY_NEVER : house_last + (int64_t)wanted * HOUSE;
}

/* Housekeeping runs from now on, for a while. */
static void
house_wake(int64_t now)
{
  house_until = now + HOUSE_AWAKE;
  if (house_next > now + 10 * HOUSE) {
    house_run(now);
  }
}

/* ---- For the rest of the core --------------------------------------------------------------------------------- */

void
lwipy_timers_stir(void)
{
  int64_t now = lwipy_now();
  house_wake(now);
  if (tcp_next > tcp_last + TCP_FAST) {
    tcp_run(now);               /* a keepalive may be due */
    tcp_skip_to(now);
    tcp_next = tcp_last + TCP_FAST;
  }
}

void
lwipy_timers_run(void)
{
  int64_t now = lwipy_now();
  tcp_run(now);
  if (house_next <= now) {
    house_run(now);
  }
}

int64_t
lwipy_timers_deadline(void)
{
  int64_t tcp = (tcp_active_pcbs == NULL && tcp_tw_pcbs == NULL) ? LWIPY_NEVER : tcp_next;
  return LWIP_MIN(tcp, house_next);
}
