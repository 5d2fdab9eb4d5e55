/*
 * lwIP's timers, run so that a stack with nothing to do has no deadline at all.
 *
 * Theory of operation. TCP's are in tcp_timers.c. Beside them lwIP has a dozen housekeeping timers (ARP, ND, reassembly,
 * IGMP, MLD, DNS, DHCP), to be called at fixed intervals. Most calls would find nothing to do. They run while there
 * was traffic within the last HOUSE_AWAKE; entries age by the ticks that were missed when traffic comes back, which
 * nobody can tell from ageing at the time. What has a deadline of its own (a DHCP lease) keeps its timer.
 *
 * Invariant: whoever feeds the core or calls TCP stirs first (lwipy_timers_stir), so no timer is late by more than a
 * tick.
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
#include "lwip/prot/dhcp.h"

#define MS          1000
#define HOUSE       (100 * MS)                 /* the finest housekeeping timer */
#define HOUSE_AWAKE (65000 * (int64_t)MS)      /* longer than ARP, ND and DNS retry, and fragments wait for others */

static int64_t house_next, house_last, house_until;
static u32_t house_phase;

void
lwipy_timers_open(void)
{
  int64_t now = lwipy_now();
  lwipy_tcp_timers_open();
  house_last = house_next = now;
  house_until = now + HOUSE_AWAKE;
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
  lwipy_tcp_timers_stir(now);
}

void
lwipy_timers_run(void)
{
  int64_t now = lwipy_now();
  if (lwipy_tcp_timers_run(now)) {
    house_wake(now);            /* the neighbour may have to be asked for again, and given up */
  }
  if (house_next <= now) {
    house_run(now);
  }
}

int64_t
lwipy_timers_deadline(void)
{
  return LWIP_MIN(lwipy_tcp_timers_deadline(), house_next);
}
