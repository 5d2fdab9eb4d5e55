/*
 * UDP and raw endpoints: whole datagrams, each with where it came from and what it was sent to.
 *
 * Theory of operation. lwIP's callback queues the pbuf chain with its addresses; Python takes one datagram a call. The
 * two kinds differ in lwIP's calls only. A raw endpoint gets the packet from its IP header on for IPv4, as the
 * kernel's raw sockets do, and from the payload on for IPv6.
 *
 * Invariants:
 * 1. The endpoint owns its pcb until lwipy_dgram_release(), and every queued chain until it was read.
 * 2. `held` is what the queue costs the arena and never passes `rcvbuf`; what would is dropped and counted.
 * 3. A raw endpoint never swallows a packet: lwIP handles it as well.
 */
#include "dgram_endpoint.h"

#include <string.h>

#include "lwip/ip.h"
#include "lwip/mem.h"
#include "lwip/prot/ip6.h"
#include "lwip/stats.h"

#define OVERHEAD 128          /* what each pbuf of a queued datagram costs beside its payload */

/* ---- In --------------------------------------------------------------------------------------------------------- */

static int
enqueue(struct lwipy_dgram *dgram, struct pbuf *p, const ip_addr_t *from, u16_t from_port, u16_t to_port)
{
  struct datagram *item;
  /* A datagram may have come in thousands of fragments of eight bytes. */
  u32_t cost = p->tot_len + pbuf_clen(p) * (u32_t)OVERHEAD;
  if (dgram->held + cost > dgram->rcvbuf || (item = mem_malloc(sizeof(*item))) == NULL) {
    lwipy_drops.udp_queue_full++;
    return -1;
  }
  item->next = NULL;
  item->p = p;
  item->cost = cost;
  ip_addr_copy(item->from, *from);
  ip_addr_copy(item->to, *ip_current_dest_addr());
  item->from_port = from_port;
  item->to_port = to_port;
  item->nic = netif_get_index(ip_current_input_netif());
  item->ttl = ip_current_is_v6() ? IP6H_HOPLIM(ip6_current_header()) : IPH_TTL(ip4_current_header());
  item->tos = (u8_t)(ip_current_is_v6() ? IP6H_TC(ip6_current_header()) : IPH_TOS(ip4_current_header()));
  *dgram->last = item;
  dgram->last = &item->next;
  dgram->held += cost;
  lwipy_signal(&dgram->end, LWIPY_READABLE);
  return 0;
}

/* lwIP does not look at UDP's own length: bytes behind it are not the datagram's (RFC 9868), missing ones an error. */
static int
trim_to_length(struct pbuf *p)
{
  const struct udp_hdr *header = ip_next_header_ptr();
  u16_t length = lwip_ntohs(header->len);
  if (length < UDP_HLEN || length - UDP_HLEN > p->tot_len) {
    lwip_stats.udp.lenerr++;
    lwip_stats.udp.drop++;
    return -1;
  }
  pbuf_realloc(p, (u16_t)(length - UDP_HLEN));
  return 0;
}

void
lwipy_on_udp(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port)
{
  if (trim_to_length(p) != 0 || enqueue(arg, p, from, port, pcb->local_port) != 0) {
    pbuf_free(p);
  }
}

u8_t
lwipy_on_raw(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from)
{
  struct pbuf *copy;
  LWIP_UNUSED_ARG(pcb);
  copy = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
  if (copy != NULL) {
    if (IP_IS_V6(from)) {
      pbuf_remove_header(copy, ip_current_header_tot_len());
    }
    if (enqueue(arg, copy, from, 0, 0) != 0) {
      pbuf_free(copy);
    }
  }
  return 0;
}

int64_t
core_udp_recv(lwipy_handle handle, void *buffer, size_t room, int peek, lwipy_datagram *out)
{
  struct lwipy_dgram *dgram = lwipy_dgram_find(handle);
  struct datagram *item;
  int64_t length;
  if (dgram == NULL) {
    return LWIPY_EHANDLE;
  }
  if (dgram->error) {
    return lwipy_dgram_error(&dgram->end);
  }
  if ((item = dgram->first) == NULL) {
    dgram->end.armed |= LWIPY_READABLE;
    return LWIPY_EWOULDBLOCK;
  }
  length = pbuf_copy_partial(item->p, buffer, (u16_t)LWIP_MIN(room, 0xffff), 0);
  out->length = item->p->tot_len;
  lwipy_address_from_ip(&out->source, &item->from, item->from_port);
  lwipy_address_from_ip(&out->destination, &item->to, item->to_port);
  out->nic = item->nic;
  out->ttl = item->ttl;
  out->tos = item->tos;
  if (!peek) {
    dgram->first = item->next;
    if (dgram->first == NULL) {
      dgram->last = &dgram->first;
    }
    dgram->held -= item->cost;
    pbuf_free(item->p);
    mem_free(item);
  }
  return length;
}

/* ---- Errors, of connected endpoints ---------------------------------------------------------------------------------- */

void
lwipy_udp_unreachable(const ip_addr_t *local, u16_t port, const ip_addr_t *remote, u16_t remote_port, int error)
{
  struct udp_pcb *pcb;
  for (pcb = udp_pcbs; pcb != NULL; pcb = pcb->next) {
    if ((pcb->flags & UDP_FLAGS_CONNECTED) && pcb->local_port == port && pcb->remote_port == remote_port &&
        ip_addr_eq(&pcb->remote_ip, remote) && pcb->recv == lwipy_on_udp &&
        (ip_addr_isany_val(pcb->local_ip) || ip_addr_eq(&pcb->local_ip, local))) {
      struct lwipy_dgram *dgram = pcb->recv_arg;
      dgram->error = (s16_t)error;
      lwipy_signal(&dgram->end, LWIPY_READABLE | LWIPY_FAILED);
    }
  }
}

/* ---- Out --------------------------------------------------------------------------------------------------------- */

static int
udp_out(struct lwipy_dgram *dgram, struct pbuf *p, const ip_addr_t *to, u16_t port, const ip_addr_t *from,
        struct netif *netif)
{
  struct udp_pcb *pcb = dgram->pcb.udp;
  if (netif == NULL) {
    return from == NULL ? udp_sendto(pcb, p, to, port)
                        : (netif = ip_route(from, to)) == NULL ? ERR_RTE : udp_sendto_if_src(pcb, p, to, port, netif, from);
  }
  return from == NULL ? udp_sendto_if(pcb, p, to, port, netif) : udp_sendto_if_src(pcb, p, to, port, netif, from);
}

static int
raw_out(struct lwipy_dgram *dgram, struct pbuf *p, const ip_addr_t *to, const ip_addr_t *from, struct netif *netif)
{
  struct raw_pcb *pcb = dgram->pcb.raw;
  if (netif == NULL && from == NULL) {
    return raw_sendto(pcb, p, to);
  }
  if (netif == NULL && (netif = ip_route(from, to)) == NULL) {
    return ERR_RTE;
  }
  if (from == NULL) {
    from = ip_netif_get_local_ip(netif, to);
  }
  return from == NULL ? ERR_RTE : raw_sendto_if_src(pcb, p, to, netif, from);
}

static int
send_to(struct lwipy_dgram *dgram, const void *data, size_t length, const lwipy_address *to_address,
        const lwipy_address *from_address, int nic)
{
  ip_addr_t to, from;
  u16_t port = to_address->port;
  struct netif *netif = nic > 0 ? lwipy_netif_by_index(nic) : NULL;
  struct pbuf *p;
  int result;
  if (to_address->family == 0) {
    if (!dgram->connected) {
      return LWIPY_ENOTCONN;
    }
    ip_addr_copy(to, dgram->pcb.ip->remote_ip);
    port = dgram->end.kind == LWIPY_KIND_UDP ? dgram->pcb.udp->remote_port : 0;
  } else if (lwipy_address_to_ip(to_address, &to) != 0) {
    return LWIPY_EARG;
  }
  if (from_address->family != 0 &&
      (lwipy_address_to_ip(from_address, &from) != 0 || IP_GET_TYPE(&from) != IP_GET_TYPE(&to))) {
    return LWIPY_EARG;
  }
  if (nic > 0 && netif == NULL) {
    return LWIPY_ENODEV;
  }
  if (IP_IS_V6(&to) && length > LWIPY_DATAGRAM6_MAX) {
    return LWIPY_EMSGSIZE;
  }
  if (dgram->end.kind == LWIPY_KIND_RAW && IP_IS_V6(&to) && dgram->pcb.raw->chksum_reqd &&
      length < dgram->pcb.raw->chksum_offset + sizeof(u16_t)) {
    return LWIPY_EARG;           /* lwIP writes the sum into it */
  }
  if ((p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)length, PBUF_RAM)) == NULL) {
    return LWIPY_EMEM;
  }
  memcpy(p->payload, data, length);
  result = dgram->end.kind == LWIPY_KIND_UDP
             ? udp_out(dgram, p, &to, port, from_address->family ? &from : NULL, netif)
             : raw_out(dgram, p, &to, from_address->family ? &from : NULL, netif);
  pbuf_free(p);
  if (result == ERR_VAL && dgram->end.kind == LWIPY_KIND_UDP && !ip_get_option(dgram->pcb.ip, SOF_BROADCAST)) {
    struct netif *out = netif != NULL ? netif : ip_route(&dgram->pcb.ip->local_ip, &to);
    return out != NULL && ip_addr_isbroadcast(&to, out) ? LWIPY_EACCES : LWIPY_EUNREACH;
  }
  return result;
}

/* Sets the pcb's, for one datagram; -1 leaves what is. Multicast over UDP has a TTL of its own. */
static void
swap_header_fields(struct lwipy_dgram *dgram, int group, int *ttl, int *tos)
{
  struct ip_pcb *pcb = dgram->pcb.ip;
  int before;
  if (*tos >= 0) {
    before = pcb->tos;
    pcb->tos = (u8_t)*tos;
    *tos = before;
  }
  if (*ttl >= 0 && group && dgram->end.kind == LWIPY_KIND_UDP) {
    before = udp_get_multicast_ttl(dgram->pcb.udp);
    udp_set_multicast_ttl(dgram->pcb.udp, (u8_t)*ttl);
    *ttl = before;
  } else if (*ttl >= 0) {
    before = pcb->ttl;
    pcb->ttl = (u8_t)*ttl;
    *ttl = before;
  }
}

static int
is_group(const struct lwipy_dgram *dgram, const lwipy_address *to)
{
  ip_addr_t ip;
  if (to->family == 0) {
    return ip_addr_ismulticast(&dgram->pcb.ip->remote_ip);
  }
  return lwipy_address_to_ip(to, &ip) == 0 && ip_addr_ismulticast(&ip);
}

int64_t
core_udp_send(lwipy_handle handle, const void *data, size_t length, const lwipy_address *to, const lwipy_address *from,
              int nic, int ttl, int tos)
{
  struct lwipy_dgram *dgram = lwipy_dgram_find(handle);
  int result, group;
  if (dgram == NULL) {
    return LWIPY_EHANDLE;
  }
  if (length > LWIPY_DATAGRAM_MAX) {
    return LWIPY_EMSGSIZE;
  }
  if (dgram->error) {
    return lwipy_dgram_error(&dgram->end);
  }
  lwipy_timers_stir();
  group = is_group(dgram, to);
  swap_header_fields(dgram, group, &ttl, &tos);
  result = send_to(dgram, data, length, to, from, nic);
  swap_header_fields(dgram, group, &ttl, &tos);
  return result == ERR_OK ? (int64_t)length : result == ERR_RTE ? LWIPY_EUNREACH : result;
}
