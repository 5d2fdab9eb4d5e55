/*
 * UDP and raw endpoints: made, bound, connected, released, and their options. udp.c has the theory and the invariants.
 */
#include "dgram_endpoint.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/prot/ip6.h"

void *
lwipy_dgram_find(lwipy_handle handle)
{
  struct lwipy_end *end = lwipy_end_find(handle, LWIPY_KIND_ANY);
  return end != NULL && (end->kind == LWIPY_KIND_UDP || end->kind == LWIPY_KIND_RAW) ? end : NULL;
}

void *
lwipy_dgram_new(int kind, int family, int protocol)
{
  struct lwipy_dgram *dgram = lwipy_end_new((enum lwipy_kind)kind, sizeof(*dgram));
  u8_t type = family == 4 ? IPADDR_TYPE_V4 : family == 6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY;
  if (dgram == NULL) {
    return NULL;
  }
  if (kind == LWIPY_UDP) {
    dgram->pcb.udp = udp_new_ip_type(type);
  } else {
    dgram->pcb.raw = raw_new_ip_type(type, (u8_t)protocol);
  }
  if (dgram->pcb.ip == NULL) {
    lwipy_end_free(&dgram->end);
    return NULL;
  }
  /* RFC 1112: to a group, one hop unless told otherwise. Members on this very stack hear it, as with the kernel. */
  if (kind == LWIPY_UDP) {
    udp_set_multicast_ttl(dgram->pcb.udp, 1);
    udp_setflags(dgram->pcb.udp, (u8_t)(udp_flags(dgram->pcb.udp) | UDP_FLAGS_MULTICAST_LOOP));
    udp_recv(dgram->pcb.udp, lwipy_on_udp, dgram);
  } else {
    raw_recv(dgram->pcb.raw, lwipy_on_raw, dgram);
    if (protocol == IP6_NEXTH_ICMP6) {
      dgram->pcb.raw->chksum_reqd = 1;
      dgram->pcb.raw->chksum_offset = 2;
    }
  }
  dgram->rcvbuf = LWIPY_BUF_DEFAULT;
  dgram->last = &dgram->first;
  return dgram;
}

void
lwipy_dgram_release(struct lwipy_end *end)
{
  struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  lwipy_groups_leave_all(end->handle);
  if (end->kind == LWIPY_KIND_UDP) {
    udp_remove(dgram->pcb.udp);
  } else {
    raw_remove(dgram->pcb.raw);
  }
  while (dgram->first != NULL) {
    struct datagram *item = dgram->first;
    dgram->first = item->next;
    pbuf_free(item->p);
    mem_free(item);
  }
  lwipy_end_free(end);
}

int
lwipy_dgram_bind(struct lwipy_end *end, const ip_addr_t *ip, u16_t port)
{
  struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  if (end->kind == LWIPY_KIND_RAW) {
    return raw_bind(dgram->pcb.raw, ip);
  }
  if (dgram->pcb.udp->local_port != 0) {
    return LWIPY_EVAL;
  }
  return udp_bind(dgram->pcb.udp, ip, port);
}

/* An address of family 0 (ip == NULL) ends the association, as connect(AF_UNSPEC) does. */
int
lwipy_dgram_connect(struct lwipy_end *end, const ip_addr_t *ip, u16_t port)
{
  struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  int result = ERR_OK;
  if (end->kind == LWIPY_KIND_RAW) {
    if (ip == NULL) {
      raw_disconnect(dgram->pcb.raw);
    } else {
      result = raw_connect(dgram->pcb.raw, ip);
    }
  } else if (ip == NULL) {
    udp_disconnect(dgram->pcb.udp);
  } else {
    result = udp_connect(dgram->pcb.udp, ip, port);
  }
  dgram->connected = (u8_t)(ip != NULL && result == ERR_OK);
  return result;
}

/* ---- Questions and options --------------------------------------------------------------------------------------- */

int
lwipy_dgram_error(struct lwipy_end *end)
{
  struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  int error = dgram->error;
  dgram->error = 0;
  return error;
}

int
lwipy_dgram_ready(struct lwipy_end *end)
{
  const struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  if (dgram->first != NULL || dgram->error) {
    return LWIPY_READABLE | LWIPY_WRITABLE;
  }
  end->armed |= LWIPY_READABLE;
  return LWIPY_WRITABLE;
}

void
lwipy_dgram_addresses(struct lwipy_end *end, lwipy_address *local, lwipy_address *remote)
{
  const struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  int udp = end->kind == LWIPY_KIND_UDP;
  const ip_addr_t *ip = &dgram->pcb.ip->local_ip;
  memset(remote, 0, sizeof(*remote));
  if (dgram->connected) {
    lwipy_address_from_ip(remote, &dgram->pcb.ip->remote_ip, udp ? dgram->pcb.udp->remote_port : 0);
    if (ip_addr_isany(ip)) {
      /* What it will send from, as connect() settles on elsewhere. */
      struct netif *netif = ip_route(ip, &dgram->pcb.ip->remote_ip);
      const ip_addr_t *own = netif != NULL ? ip_netif_get_local_ip(netif, &dgram->pcb.ip->remote_ip) : NULL;
      ip = own != NULL ? own : ip;
    }
  }
  lwipy_address_from_ip(local, ip, udp ? dgram->pcb.udp->local_port : 0);
}

struct ip_pcb *
lwipy_dgram_ip_pcb(struct lwipy_end *end)
{
  return ((struct lwipy_dgram *)end)->pcb.ip;
}

int
lwipy_dgram_set_option(struct lwipy_end *end, int option, int value)
{
  struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  int udp = end->kind == LWIPY_KIND_UDP;
  switch (option) {
    case LWIPY_OPT_RCVBUF:
      dgram->rcvbuf = LWIP_MIN(LWIP_MAX((u32_t)value, 2048), LWIPY_WND_MAX);
      return 0;
    case LWIPY_OPT_SNDBUF:
      return 0;                  /* a datagram is sent or refused at once: there is no buffer to size */
    case LWIPY_OPT_MCAST_TTL:
      if (udp) {
        udp_set_multicast_ttl(dgram->pcb.udp, (u8_t)value);
      } else {
        raw_set_multicast_ttl(dgram->pcb.raw, (u8_t)value);
      }
      return 0;
    case LWIPY_OPT_MCAST_LOOP:
      if (!udp) {
        return LWIPY_ENOTSUP;
      }
      udp_setflags(dgram->pcb.udp, (u8_t)((udp_flags(dgram->pcb.udp) & ~UDP_FLAGS_MULTICAST_LOOP) |
                                          (value ? UDP_FLAGS_MULTICAST_LOOP : 0)));
      return 0;
    case LWIPY_OPT_MCAST_NETIF:
      if (!udp) {
        return LWIPY_ENOTSUP;
      }
      udp_set_multicast_netif_index(dgram->pcb.udp, (u8_t)value);
      return 0;
    default:
      return LWIPY_ENOTSUP;
  }
}

int
lwipy_dgram_get_option(struct lwipy_end *end, int option)
{
  const struct lwipy_dgram *dgram = (struct lwipy_dgram *)end;
  int udp = end->kind == LWIPY_KIND_UDP;
  switch (option) {
    case LWIPY_OPT_RCVBUF:      return (int)dgram->rcvbuf;
    case LWIPY_OPT_SNDBUF:      return LWIPY_BUF_DEFAULT;
    case LWIPY_OPT_MCAST_TTL:   return udp ? udp_get_multicast_ttl(dgram->pcb.udp) : raw_get_multicast_ttl(dgram->pcb.raw);
    case LWIPY_OPT_MCAST_LOOP:  return udp ? (udp_flags(dgram->pcb.udp) & UDP_FLAGS_MULTICAST_LOOP) != 0 : LWIPY_ENOTSUP;
    case LWIPY_OPT_MCAST_NETIF: return udp ? udp_get_multicast_netif_index(dgram->pcb.udp) : LWIPY_ENOTSUP;
    default:                    return LWIPY_ENOTSUP;
  }
}
