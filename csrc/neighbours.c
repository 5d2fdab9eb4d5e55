/*
 * Static neighbours.
 *
 * lwIP knows static entries for ARP only. For IPv6 they are remembered here, at the index of their cache entry, and
 * made reachable again every second, whatever TCP's hints, probes or advertisements made of them. lwIP recycles an
 * entry only for one with less time left, so it never recycles these.
 */
#include "netif.h"

#include <string.h>

#include "lwip/etharp.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/prot/ethernet.h"

#define FOR_EVER 0xffffffffu

static struct fixed_neighbour {
  u8_t set;
  u8_t mac[ETH_HWADDR_LEN];
} fixed[LWIP_ND6_NUM_NEIGHBORS];

static struct nd6_neighbor_cache_entry *
neighbour6(struct netif *netif, const ip6_addr_t *ip)
{
  struct nd6_neighbor_cache_entry *entry, *empty = NULL;
  for (entry = neighbor_cache; entry < neighbor_cache + LWIP_ND6_NUM_NEIGHBORS; entry++) {
    if (entry->state != ND6_NO_ENTRY && entry->netif == netif && ip6_addr_eq(&entry->next_hop_address, ip)) {
      return entry;
    }
    if (entry->state == ND6_NO_ENTRY && empty == NULL) {
      empty = entry;
    }
  }
  return empty;
}

void
lwipy_keep_neighbours(void)
{
  int i;
  for (i = 0; i < LWIP_ND6_NUM_NEIGHBORS; i++) {
    struct nd6_neighbor_cache_entry *entry = &neighbor_cache[i];
    if (!fixed[i].set) {
      continue;
    }
    if (entry->state == ND6_NO_ENTRY) {
      fixed[i].set = 0;                /* its interface was removed */
      continue;
    }
    entry->state = ND6_REACHABLE;
    entry->counter.reachable_time = FOR_EVER;
    memcpy(entry->lladdr, fixed[i].mac, ETH_HWADDR_LEN);
  }
}

static int
add_neighbour6(struct netif *netif, const lwipy_address *address, const uint8_t *mac)
{
  struct nd6_neighbor_cache_entry *entry;
  struct fixed_neighbour *kept;
  ip6_addr_t ip;
  if (lwipy_address_to_ip6(address, &ip, netif) != 0) {
    return LWIPY_EARG;
  }
  if ((entry = neighbour6(netif, &ip)) == NULL) {
    return LWIPY_EMEM;
  }
  kept = &fixed[entry - neighbor_cache];
  kept->set = 1;
  memcpy(kept->mac, mac, ETH_HWADDR_LEN);
  entry->netif = netif;
  entry->next_hop_address = ip;
  lwipy_timers_stir();
  entry->state = ND6_REACHABLE;
  lwipy_keep_neighbours();
  return 0;
}

int
core_netif_add_neighbour(int number, const lwipy_address *address, const uint8_t *mac)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->layer != LWIPY_L2) {
    return LWIPY_ENOTSUP;
  }
  if (address->family == 4) {
    struct eth_addr ethernet;
    ip4_addr_t ip;
    memcpy(&ip.addr, address->bytes, 4);
    memcpy(ethernet.addr, mac, ETH_HWADDR_LEN);
    return etharp_add_static_entry(&ip, &ethernet);
  }
  return add_neighbour6(&nic->netif, address, mac);
}

int
core_netif_remove_neighbour(int number, const lwipy_address *address)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (address->family == 4) {
    ip4_addr_t ip;
    memcpy(&ip.addr, address->bytes, 4);
    return etharp_remove_static_entry(&ip) == ERR_OK ? 0 : LWIPY_EADDR;
  } else {
    struct nd6_neighbor_cache_entry *entry;
    ip6_addr_t ip;
    lwipy_address_to_ip6(address, &ip, &nic->netif);
    entry = neighbour6(&nic->netif, &ip);
    if (entry == NULL || entry->state == ND6_NO_ENTRY || !fixed[entry - neighbor_cache].set) {
      return LWIPY_EADDR;
    }
    fixed[entry - neighbor_cache].set = 0;
    entry->counter.reachable_time = 0;   /* lwIP's timer lets it age from here */
    return 0;
  }
}
