/*
 * Which interface a packet leaves by: lwIP's hooks, which go by the real prefixes of the interfaces' addresses.
 */
#include "netif.h"
#include "hooks.h"

#include <string.h>

#include "lwip/ip.h"

static int
prefix_matches(const ip6_addr_t *a, const ip6_addr_t *b, unsigned prefix)
{
  const u8_t *x = (const u8_t *)a->addr, *y = (const u8_t *)b->addr;
  unsigned whole = prefix / 8, rest = prefix % 8;
  return memcmp(x, y, whole) == 0 && (rest == 0 || ((x[whole] ^ y[whole]) >> (8 - rest)) == 0);
}

static int
usable(const struct netif *netif)
{
  return netif_is_up(netif) && netif_is_link_up(netif);
}

/* A bound source address chooses its own interface, where that one can reach the destination. */
struct netif *
lwipy_route4(const ip4_addr_t *source, const ip4_addr_t *destination)
{
  struct netif *netif, *own = NULL;
  if (ip4_addr_ismulticast(destination) || destination->addr == IPADDR_BROADCAST) {
    return source == NULL ? lwipy_netif_first() : NULL;
  }
  if (source == NULL || ip4_addr_isany(source)) {
    return NULL;
  }
  NETIF_FOREACH(netif) {
    if (!usable(netif)) {
      continue;
    }
    if (ip4_addr_eq(destination, netif_ip4_addr(netif))) {
      return netif;
    }
    if (ip4_addr_eq(source, netif_ip4_addr(netif)) && !ip4_addr_isloopback(destination) &&
        (ip4_addr_net_eq(destination, netif_ip4_addr(netif), netif_ip4_netmask(netif)) ||
         !ip4_addr_isany(netif_ip4_gw(netif)) || !(netif->flags & NETIF_FLAG_ETHARP))) {
      own = netif;
    }
  }
  return own;
}

/* The address of ours that a packet to `to` would have as its source. */
int
core_source(const lwipy_address *to, lwipy_address *out)
{
  ip_addr_t ip;
  const ip_addr_t *own;
  struct netif *netif;
  int result = lwipy_address_to_ip(to, &ip);
  if (result != 0) {
    return result;
  }
  netif = IP_IS_V6(&ip) ? ip6_route(IP6_ADDR_ANY6, ip_2_ip6(&ip)) : ip4_route(ip_2_ip4(&ip));
  if (netif == NULL || (own = ip_netif_get_local_ip(netif, &ip)) == NULL) {
    return LWIPY_EUNREACH;
  }
  lwipy_address_from_ip(out, own, 0);
  return 0;
}

/* Longest prefix; then an interface with a gateway, the source's own before others. */
struct netif *
lwipy_route6(const ip6_addr_t *source, const ip6_addr_t *destination)
{
  struct netif *netif, *best = NULL, *gateway = NULL;
  int best_prefix = -1, i;
  NETIF_FOREACH(netif) {
    struct lwipy_nic *nic = lwipy_nic_of(netif);
    int owns_source = 0;
    if (nic == NULL || !usable(netif)) {
      continue;
    }
    for (i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
      if (!ip6_addr_isvalid(netif_ip6_addr_state(netif, i))) {
        continue;
      }
      owns_source |= source != NULL && ip6_addr_zoneless_eq(source, netif_ip6_addr(netif, i));
      if (i > 0 && nic->prefix6[i] != 0 && nic->prefix6[i] > best_prefix &&
          prefix_matches(destination, netif_ip6_addr(netif, i), nic->prefix6[i])) {
        best = netif;
        best_prefix = nic->prefix6[i];
      }
    }
    if ((!ip6_addr_isany(&nic->gateway6) || nic->layer == LWIPY_L3) && (gateway == NULL || owns_source)) {
      gateway = netif;
    }
  }
  return best != NULL ? best : gateway;
}

const ip6_addr_t *
lwipy_gateway6(struct netif *netif, const ip6_addr_t *destination)
{
  struct lwipy_nic *nic = lwipy_nic_of(netif);
  int i;
  if (nic == NULL) {
    return NULL;
  }
  for (i = 1; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
    if (nic->prefix6[i] != 0 && ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) &&
        prefix_matches(destination, netif_ip6_addr(netif, i), nic->prefix6[i])) {
      return destination;
    }
  }
  return ip6_addr_isany(&nic->gateway6) ? NULL : &nic->gateway6;
}
