/*
 * Addresses of interfaces, between Python's form and lwIP's, and the DHCP client.
 *
 * lwIP knows no prefix length for IPv6 and takes every static address for a /64. So the addresses given by the user
 * get an infinite lifetime, which for lwIP means "no implied subnet", and routes.c decides by the real prefix.
 */
#include "netif.h"

#include <string.h>

#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/mem.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/prot/dhcp.h"
#include "lwip/prot/ethernet.h"
#include "hooks.h"

/* ---- Between Python's form and lwIP's ---------------------------------------------------------------------------- */

void
lwipy_address_from_ip(lwipy_address *out, const ip_addr_t *ip, u16_t port)
{
  memset(out, 0, sizeof(*out));
  out->port = port;
  if (IP_IS_V6(ip)) {
    out->family = 6;
    memcpy(out->bytes, ip_2_ip6(ip)->addr, 16);
    out->scope = ip6_addr_zone(ip_2_ip6(ip));
  } else {
    out->family = 4;
    memcpy(out->bytes, &ip4_addr_get_u32(ip_2_ip4(ip)), 4);
  }
}

/* 0, or LWIPY_EARG. A link-local address without scope gets the default interface's. */
int
lwipy_address_to_ip(const lwipy_address *in, ip_addr_t *ip)
{
  memset(ip, 0, sizeof(*ip));
  if (in->family == 4) {
    u32_t word;
    memcpy(&word, in->bytes, 4);
    ip_addr_set_ip4_u32(ip, word);
    return 0;
  }
  if (in->family != 6) {
    return LWIPY_EARG;
  }
  IP_SET_TYPE(ip, IPADDR_TYPE_V6);
  memcpy(ip_2_ip6(ip)->addr, in->bytes, 16);
  ip6_addr_clear_zone(ip_2_ip6(ip));
  if (ip6_addr_has_scope(ip_2_ip6(ip), IP6_UNKNOWN)) {
    if (in->scope != 0) {
      ip6_addr_set_zone(ip_2_ip6(ip), (u8_t)in->scope);
    } else if (lwipy_netif_first() != NULL) {
      ip6_addr_assign_zone(ip_2_ip6(ip), IP6_UNKNOWN, lwipy_netif_first());
    }
  }
  return 0;
}

int
lwipy_address_to_ip6(const lwipy_address *in, ip6_addr_t *ip, struct netif *netif)
{
  if (in->family != 6) {
    return LWIPY_EARG;
  }
  memset(ip, 0, sizeof(*ip));
  memcpy(ip->addr, in->bytes, 16);
  ip6_addr_assign_zone(ip, IP6_UNICAST, netif);
  return 0;
}

/* ---- Settings -------------------------------------------------------------------------------------------------------- */

/* lwIP's packet lengths have 16 bits, and the Ethernet header must fit in as well. */
int
lwipy_mtu_for(int layer, int mtu)
{
  return layer == LWIPY_L2 ? LWIP_MIN(mtu, 0xffff - SIZEOF_ETH_HDR) : mtu;
}

int
core_netif_set_mtu(int number, int mtu)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  nic->netif.mtu = nic->netif.mtu6 = (u16_t)lwipy_mtu_for(nic->layer, mtu);
  nd6_clear_destination_cache();
  return 0;
}

int
core_netif_set_mac(int number, const uint8_t *mac)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->layer != LWIPY_L2) {
    return LWIPY_ENOTSUP;
  }
  memcpy(nic->netif.hwaddr, mac, ETH_HWADDR_LEN);
  if (netif_is_up(&nic->netif) && !ip4_addr_isany(netif_ip4_addr(&nic->netif))) {
    etharp_gratuitous(&nic->netif);
  }
  return 0;
}

int
core_netif_set_ipv4(int number, const lwipy_address *address, int prefix)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  ip4_addr_t ip, mask;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  memcpy(&ip.addr, address->bytes, 4);
  mask.addr = prefix == 0 ? 0 : lwip_htonl(0xffffffffu << (32 - prefix));
  lwipy_timers_stir();
  netif_set_addr(&nic->netif, &ip, &mask, netif_ip4_gw(&nic->netif));
  return 0;
}

/* The gateway of one family; an address of family 0 takes both away. */
int
core_netif_set_gateway(int number, const lwipy_address *gateway)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  nd6_clear_destination_cache();
  if (gateway->family != 6) {
    ip4_addr_t ip;
    memcpy(&ip.addr, gateway->bytes, 4);
    netif_set_gw(&nic->netif, &ip);
  }
  if (gateway->family == 0) {
    ip6_addr_set_zero(&nic->gateway6);
    return 0;
  }
  if (gateway->family == 6) {
    lwipy_address_to_ip6(gateway, &nic->gateway6, &nic->netif);
  }
  netif_set_default(&nic->netif);
  return 0;
}

int
core_netif_set_default(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  netif_set_default(&nic->netif);
  return 0;
}

int
core_netif_add_ipv6(int number, const lwipy_address *address, int prefix)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  ip6_addr_t ip;
  s8_t slot;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (lwipy_address_to_ip6(address, &ip, &nic->netif) != 0) {
    return LWIPY_EARG;
  }
  if (netif_get_ip6_addr_match(&nic->netif, &ip) >= 0) {
    return LWIPY_EUSE;
  }
  lwipy_timers_stir();
  if (netif_add_ip6_address(&nic->netif, &ip, &slot) != ERR_OK) {
    return LWIPY_EMEM;
  }
  /* Preferred at once: the user, who gives addresses to both sides, is the duplicate detection. */
  netif_ip6_addr_set_valid_life(&nic->netif, slot, IP6_ADDR_LIFE_INFINITE);
  netif_ip6_addr_set_pref_life(&nic->netif, slot, IP6_ADDR_LIFE_INFINITE);
  netif_ip6_addr_set_state(&nic->netif, slot, IP6_ADDR_PREFERRED);
  nic->prefix6[slot] = (u8_t)prefix;
  nd6_clear_destination_cache();
  return 0;
}

/* A router that announces the prefix of an address given by the user has no say in how long that one lives. */
void
lwipy_keep_addresses(struct lwipy_nic *nic)
{
  int i;
  for (i = 1; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
    if (nic->prefix6[i] != 0 && !ip6_addr_isinvalid(netif_ip6_addr_state(&nic->netif, i))) {
      netif_ip6_addr_set_valid_life(&nic->netif, i, IP6_ADDR_LIFE_INFINITE);
      netif_ip6_addr_set_pref_life(&nic->netif, i, IP6_ADDR_LIFE_INFINITE);
    }
  }
}

int
core_netif_remove_ipv6(int number, const lwipy_address *address)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  ip6_addr_t ip;
  s8_t slot;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (lwipy_address_to_ip6(address, &ip, &nic->netif) != 0 || (slot = netif_get_ip6_addr_match(&nic->netif, &ip)) < 0) {
    return LWIPY_EADDR;
  }
  netif_ip6_addr_set_state(&nic->netif, slot, IP6_ADDR_INVALID);
  nic->prefix6[slot] = 0;
  nd6_clear_destination_cache();
  return 0;
}

int
core_netif_get_ipv4(int number, lwipy_address *address, lwipy_address *netmask, lwipy_address *gateway)
{
  struct netif *netif = lwipy_netif_by_index(number);
  if (netif == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_address_from_ip(address, netif_ip_addr4(netif), 0);
  lwipy_address_from_ip(netmask, netif_ip_netmask4(netif), 0);
  lwipy_address_from_ip(gateway, netif_ip_gw4(netif), 0);
  return 0;
}

/* One slot of LWIP_IPV6_NUM_ADDRESSES; its state is lwIP's IP6_ADDR_ value, 0 for none. LWIPY_EARG past the last. */
int
core_netif_get_ipv6(int number, int slot, lwipy_address *address, int *prefix, int *state)
{
  struct netif *netif = lwipy_netif_by_index(number);
  struct lwipy_nic *nic = lwipy_nic(number);
  if (netif == NULL) {
    return LWIPY_ENODEV;
  }
  if (slot < 0 || slot >= LWIP_IPV6_NUM_ADDRESSES) {
    return LWIPY_EARG;
  }
  lwipy_address_from_ip(address, netif_ip_addr6(netif, slot), 0);
  *state = netif_ip6_addr_state(netif, slot);
  *prefix = nic == NULL ? 128 : nic->prefix6[slot] ? nic->prefix6[slot] : 64;
  return 0;
}

/* Addresses and routers from router advertisements (RFC 4862). */
int
core_netif_autoconfigure(int number, int on)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  netif_set_ip6_autoconfig_enabled(&nic->netif, (u8_t)on);
  if (on) {
    nd6_restart_netif(&nic->netif);
  }
  return 0;
}

/* ---- DHCP client ----------------------------------------------------------------------------------------------------------- */

int
core_netif_dhcp_start(int number, const char *hostname)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  size_t length = strlen(hostname);
  char *copy;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->layer != LWIPY_L2) {
    return LWIPY_ENOTSUP;
  }
  if ((copy = mem_malloc(length + 1)) == NULL) {
    return LWIPY_EMEM;
  }
  memcpy(copy, hostname, length + 1);
  lwipy_nic_forget_hostname(nic);
  netif_set_hostname(&nic->netif, copy);
  lwipy_timers_stir();
  return dhcp_start(&nic->netif);
}

int
core_netif_dhcp_stop(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  dhcp_release_and_stop(&nic->netif);
  return 0;
}

int
core_netif_dhcp_bound(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  return nic == NULL ? LWIPY_ENODEV : dhcp_supplied_address(&nic->netif);
}
