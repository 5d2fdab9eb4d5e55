/*
 * Interfaces: lwIP's netifs, Ethernet (L2) or IP (L3, point to point), from their making to their end. What crosses
 * them is frames.c's, their addresses are addresses.c's.
 *
 * Invariants:
 * 1. An interface is known by lwIP's index (1..255; 1 is the loopback), which is not reused while it lives.
 * 2. `netif.state` points to the lwipy_nic; the netif is its first member. lwIP's loopback has no lwipy_nic.
 * 3. Whoever removes a nic ends its link and stages, cuts its wire and frees its queue first; lwIP closes the pcbs bound
 *    to its addresses.
 */
#include "netif.h"
#include "link.h"
#include "stage.h"
#include "steer.h"

#include <string.h>

#include "lwip/dhcp.h"
#include "lwip/ip.h"
#include "lwip/mem.h"

#define MOST_NETIFS 255   /* lwIP looks for a free number until it finds one */

static struct lwipy_nic *nics[256];

struct lwipy_nic *
lwipy_nic(int number)
{
  return number > 0 && number < 256 ? nics[number] : NULL;
}

/* Where packets go that name no interface and need none: groups, the limited broadcast, link-local addresses. */
struct netif *
lwipy_netif_first(void)
{
  int i;
  if (netif_default != NULL) {
    return netif_default;
  }
  for (i = 1; i < 256; i++) {
    if (nics[i] != NULL && netif_is_up(&nics[i]->netif) && netif_is_link_up(&nics[i]->netif)) {
      return &nics[i]->netif;
    }
  }
  return NULL;
}

struct lwipy_nic *
lwipy_nic_of(const struct netif *netif)
{
  struct lwipy_nic *nic = lwipy_nic(netif_get_index(netif));
  return nic != NULL && &nic->netif == netif ? nic : NULL;
}

struct netif *
lwipy_netif_by_index(int number)
{
  return number > 0 && number < 256 ? netif_get_by_index((u8_t)number) : NULL;
}

static err_t
nic_init(struct netif *netif)
{
  struct lwipy_nic *nic = netif->state;
  netif->name[0] = 'n';
  netif->name[1] = 'c';
  if (nic->layer == LWIPY_L2) {
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
  }
  lwipy_nic_connect(nic);
  netif->flags |= NETIF_FLAG_LINK_UP;
  return ERR_OK;
}

int
core_netif_add(int layer, const uint8_t *mac, int mtu)
{
  struct lwipy_nic *nic;
  struct netif *netif;
  int count = 0;
  NETIF_FOREACH(netif) {
    count++;
  }
  if (count >= MOST_NETIFS || (nic = mem_calloc(1, sizeof(*nic))) == NULL) {
    return LWIPY_EMEM;
  }
  nic->layer = (u8_t)layer;
  mtu = lwipy_mtu_for(layer, mtu);
  nic->netif.mtu = (u16_t)mtu;
  nic->netif.hwaddr_len = layer == LWIPY_L2 ? ETH_HWADDR_LEN : 0;
  if (layer == LWIPY_L2) {
    memcpy(nic->netif.hwaddr, mac, ETH_HWADDR_LEN);
  }
  if (netif_add_noaddr(&nic->netif, nic, nic_init, layer == LWIPY_L2 ? netif_input : ip_input) == NULL) {
    mem_free(nic);
    return LWIPY_EMEM;
  }
  /* netif_add() cleared these; IPv6's MTU stays 0 unless the MTU is there before the interface goes up. */
  nic->netif.mtu = nic->netif.mtu6 = (u16_t)mtu;
  netif_set_ip6_autoconfig_enabled(&nic->netif, 0);     /* until it is asked for */
  nics[netif_get_index(&nic->netif)] = nic;
  if (netif_default == NULL && layer == LWIPY_L3) {
    netif_set_default(&nic->netif);     /* Ethernet leads beyond its own network by a gateway only */
  }
  lwipy_timers_stir();
  netif_set_up(&nic->netif);
  if (layer == LWIPY_L2) {
    netif_create_ip6_linklocal_address(&nic->netif, 1);
    netif_ip6_addr_set_state(&nic->netif, 0, IP6_ADDR_PREFERRED);
    nic->prefix6[0] = 64;
  }
  return netif_get_index(&nic->netif);
}

void
lwipy_nic_forget_hostname(struct lwipy_nic *nic)
{
  const char *name = netif_get_hostname(&nic->netif);
  netif_set_hostname(&nic->netif, NULL);
  if (name != NULL) {
    mem_free((void *)(uintptr_t)name);
  }
}

int
core_netif_remove(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  int i;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  dhcp_stop(&nic->netif);
  dhcp_cleanup(&nic->netif);
  netif_remove(&nic->netif);
  lwipy_link_free(nic);
  lwipy_stages_end(nic);
  lwipy_groups_forget(number);
  lwipy_steer_forget(nic);
  lwipy_wire_cut(nic);
  lwipy_fifo_clear(&nic->out);
  lwipy_nic_forget_hostname(nic);
  nics[number] = NULL;
  mem_free(nic);
  lwipy_nics_show_frames();
  for (i = 1; netif_default == NULL && i < 256; i++) {
    if (nics[i] != NULL && nics[i]->front == NULL &&
        (nics[i]->layer == LWIPY_L3 || !ip4_addr_isany(netif_ip4_gw(&nics[i]->netif)))) {
      netif_set_default(&nics[i]->netif);
    }
  }
  return 0;
}

int
core_netif_set_state(int number, int flags)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  if (flags & LWIPY_NETIF_LINK) {
    netif_set_link_up(&nic->netif);
  } else {
    netif_set_link_down(&nic->netif);
  }
  if (flags & LWIPY_NETIF_UP) {
    netif_set_up(&nic->netif);
  } else {
    netif_set_down(&nic->netif);
  }
  return 0;
}

int
core_netif_flags(int number)
{
  struct netif *netif = lwipy_netif_by_index(number);
  if (netif == NULL) {
    return LWIPY_ENODEV;
  }
  return (netif_is_up(netif) ? LWIPY_NETIF_UP : 0) | (netif_is_link_up(netif) ? LWIPY_NETIF_LINK : 0);
}

int
core_netif_get_counters(int number, lwipy_netif_counters *out)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  *out = nic->count;
  return 0;
}

void
lwipy_nic_set_sums(struct lwipy_nic *nic)
{
  u16_t sums = nic->unchecked ? NETIF_CHECKSUM_DISABLE_ALL : NETIF_CHECKSUM_ENABLE_ALL;
  NETIF_SET_CHECKSUM_CTRL(&nic->netif, nic->sums_by_device ? sums & ~NETIF_CHECKSUM_GEN_TCP : sums);
}

int
core_netif_set_checksums(int number, int on)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  nic->unchecked = !on;
  lwipy_nic_set_sums(nic);
  return 0;
}

void
lwipy_netif_close_all(void)
{
  int i;
  for (i = 1; i < 256; i++) {
    if (nics[i] != NULL) {
      lwipy_link_free(nics[i]);
      lwipy_stages_end(nics[i]);
      lwipy_steer_forget(nics[i]);
      lwipy_wire_cut(nics[i]);
      lwipy_fifo_clear(&nics[i]->out);
    }
  }
}
