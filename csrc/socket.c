/*
 * What all endpoints have in common: made, bound, connected, asked and released by handle.
 */
#include "core.h"
#include "dgram.h"
#include "tcp.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"

static int
is_tcp(const struct lwipy_end *end)
{
  return end->kind == LWIPY_KIND_TCP;
}

static struct lwipy_end *
find(lwipy_handle handle)
{
  struct lwipy_end *end = lwipy_end_find(handle, LWIPY_KIND_ANY);
  return end != NULL && end->kind != LWIPY_KIND_QUERY ? end : NULL;
}

int
core_socket(int kind, int family, int protocol, lwipy_handle *out)
{
  struct lwipy_end *end = kind == LWIPY_TCP ? lwipy_tcp_new(family) : lwipy_dgram_new(kind, family, protocol);
  if (end == NULL) {
    return LWIPY_EMEM;
  }
  *out = end->handle;
  return 0;
}

/* A bound address is one of ours, an unspecified one, or a group's (EADDRNOTAVAIL otherwise). */
static int
is_own(const ip_addr_t *ip)
{
  struct netif *netif;
  if (ip_addr_isany(ip) || ip_addr_ismulticast(ip) ||
      (IP_IS_V4(ip) && (ip4_addr_isloopback(ip_2_ip4(ip)) || ip_2_ip4(ip)->addr == IPADDR_BROADCAST))) {
    return 1;
  }
  NETIF_FOREACH(netif) {
    if (IP_IS_V6(ip) ? netif_get_ip6_addr_match(netif, ip_2_ip6(ip)) >= 0
                     : (ip4_addr_eq(netif_ip4_addr(netif), ip_2_ip4(ip)) ||
                        ip4_addr_isbroadcast(ip_2_ip4(ip), netif))) {
      return 1;
    }
  }
  return 0;
}

int
core_bind(lwipy_handle handle, const lwipy_address *address)
{
  struct lwipy_end *end = find(handle);
  const struct ip_pcb *pcb;
  ip_addr_t ip;
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  if (address->family == 0) {
    pcb = is_tcp(end) ? lwipy_tcp_ip_pcb(end) : lwipy_dgram_ip_pcb(end);
    ip = pcb != NULL && IP_IS_V6_VAL(pcb->local_ip) ? *IP6_ADDR_ANY : *IP_ANY_TYPE; /* IPV6_V6ONLY, or both families */
  } else if (lwipy_address_to_ip(address, &ip) != 0) {
    return LWIPY_EARG;
  }
  if (address->family != 0 && !is_own(&ip)) {
    return LWIPY_EADDR;
  }
  return is_tcp(end) ? lwipy_tcp_bind(end, &ip, address->port) : lwipy_dgram_bind(end, &ip, address->port);
}

int
core_connect(lwipy_handle handle, const lwipy_address *address)
{
  struct lwipy_end *end = find(handle);
  ip_addr_t ip;
  int result;
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  if (address->family == 0 && !is_tcp(end)) {
    return lwipy_dgram_connect(end, NULL, 0);
  }
  if (lwipy_address_to_ip(address, &ip) != 0) {
    return LWIPY_EARG;
  }
  result = is_tcp(end) ? lwipy_tcp_connect(end, &ip, address->port) : lwipy_dgram_connect(end, &ip, address->port);
  return result == ERR_RTE ? LWIPY_EUNREACH : result;
}

static int
release(lwipy_handle handle, int abort)
{
  struct lwipy_end *end = lwipy_end_find(handle, LWIPY_KIND_ANY);
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  if (is_tcp(end)) {
    lwipy_tcp_release(end, abort);
  } else if (end->kind == LWIPY_KIND_QUERY) {
    lwipy_end_free(end);
  } else {
    lwipy_dgram_release(end);
  }
  return 0;
}

int
core_release(lwipy_handle handle)
{
  return release(handle, 0);
}

int
core_abort(lwipy_handle handle)
{
  return release(handle, 1);
}

int
core_error(lwipy_handle handle)
{
  struct lwipy_end *end = find(handle);
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  return is_tcp(end) ? lwipy_tcp_error(end) : lwipy_dgram_error(end);
}

int
core_ready(lwipy_handle handle)
{
  struct lwipy_end *end = find(handle);
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  return is_tcp(end) ? lwipy_tcp_ready(end) : lwipy_dgram_ready(end);
}

static int
addresses(lwipy_handle handle, lwipy_address *local, lwipy_address *remote)
{
  struct lwipy_end *end = find(handle);
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  if (is_tcp(end)) {
    lwipy_tcp_addresses(end, local, remote);
  } else {
    lwipy_dgram_addresses(end, local, remote);
  }
  return 0;
}

int
core_local(lwipy_handle handle, lwipy_address *out)
{
  lwipy_address other;
  return addresses(handle, out, &other);
}

int
core_remote(lwipy_handle handle, lwipy_address *out)
{
  lwipy_address other;
  return addresses(handle, &other, out);
}

int
core_both_addresses(lwipy_handle handle, lwipy_address *out)
{
  return addresses(handle, &out[0], &out[1]);
}

/* ---- Options that live in lwIP's common pcb ------------------------------------------------------------------------- */

static int
set_flag(struct ip_pcb *pcb, u8_t flag, int value)
{
  if (value) {
    ip_set_option(pcb, flag);
  } else {
    ip_reset_option(pcb, flag);
  }
  return 0;
}

/* The choice between one family and both is made before the first address is. */
static int
set_v6only(struct lwipy_end *end, struct ip_pcb *pcb, int value)
{
  lwipy_address local, remote;
  (is_tcp(end) ? lwipy_tcp_addresses : lwipy_dgram_addresses)(end, &local, &remote);
  if (local.port != 0 || remote.family != 0) {
    return LWIPY_EVAL;
  }
  if (!IP_IS_V6_VAL(pcb->local_ip) && !IP_IS_ANY_TYPE_VAL(pcb->local_ip)) {
    return LWIPY_ENOTSUP;
  }
  IP_SET_TYPE_VAL(pcb->local_ip, value ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY);
  IP_SET_TYPE_VAL(pcb->remote_ip, value ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY);
  return 0;
}

int
core_set_option(lwipy_handle handle, int option, int value)
{
  struct lwipy_end *end = find(handle);
  struct ip_pcb *pcb;
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  pcb = is_tcp(end) ? lwipy_tcp_ip_pcb(end) : lwipy_dgram_ip_pcb(end);
  if (pcb != NULL) {
    switch (option) {
      case LWIPY_OPT_REUSEADDR: return set_flag(pcb, SOF_REUSEADDR, value);
      case LWIPY_OPT_BROADCAST: return set_flag(pcb, SOF_BROADCAST, value);
      case LWIPY_OPT_KEEPALIVE:
        lwipy_timers_stir();
        if (is_tcp(end)) {
          lwipy_tcp_touch(end);
        }
        return set_flag(pcb, SOF_KEEPALIVE, value);
      case LWIPY_OPT_TTL:       pcb->ttl = (u8_t)value; return 0;
      case LWIPY_OPT_TOS:       pcb->tos = (u8_t)value; return 0;
      case LWIPY_OPT_NETIF:     pcb->netif_idx = (u8_t)value; return 0;
      case LWIPY_OPT_V6ONLY:    return set_v6only(end, pcb, value);
      default: break;
    }
  }
  return is_tcp(end) ? lwipy_tcp_set_option(end, option, value) : lwipy_dgram_set_option(end, option, value);
}

int
core_get_option(lwipy_handle handle, int option)
{
  struct lwipy_end *end = find(handle);
  const struct ip_pcb *pcb;
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  pcb = is_tcp(end) ? lwipy_tcp_ip_pcb(end) : lwipy_dgram_ip_pcb(end);
  if (pcb != NULL) {
    switch (option) {
      case LWIPY_OPT_REUSEADDR: return ip_get_option(pcb, SOF_REUSEADDR) != 0;
      case LWIPY_OPT_BROADCAST: return ip_get_option(pcb, SOF_BROADCAST) != 0;
      case LWIPY_OPT_KEEPALIVE: return ip_get_option(pcb, SOF_KEEPALIVE) != 0;
      case LWIPY_OPT_TTL:       return pcb->ttl;
      case LWIPY_OPT_TOS:       return pcb->tos;
      case LWIPY_OPT_NETIF:     return pcb->netif_idx;
      case LWIPY_OPT_V6ONLY:    return IP_IS_V6_VAL(pcb->local_ip);
      default: break;
    }
  }
  return is_tcp(end) ? lwipy_tcp_get_option(end, option) : lwipy_dgram_get_option(end, option);
}
