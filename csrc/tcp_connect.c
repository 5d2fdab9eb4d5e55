/*
 * The ends of a connection: bind() and connect() over lwIP's raw API.
 *
 * Theory of operation. lwIP's tcp_connect() chooses the address and the port on our side and then inserts the pcb into a
 * list. The list is the bucket of both ends (demux.c), so they are chosen here, before. An attempt that fails leaves the
 * endpoint where bind() put it (tcp.c).
 *
 * Invariants:
 * 1. `bound` and `bound_port` are what bind() said, and nothing else; the pcb has them again when an attempt has failed.
 * 2. `connecting` is set from a successful lwipy_tcp_connect() until on_connected(), or on_error() in tcp.c.
 */
#include "netif.h"
#include "tcp_endpoint.h"

int
lwipy_tcp_bind(struct lwipy_end *end, const ip_addr_t *ip, u16_t port)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  int result;
  if (tcp->connected || (result = lwipy_tcp_need_pcb(tcp)) != 0 || tcp->pcb->state != CLOSED || tcp->pcb->local_port != 0) {
    return LWIPY_EVAL;
  }
  if ((result = lwipy_port_bind(tcp->pcb, ip, port)) == ERR_OK) {
    ip_addr_copy(tcp->bound, tcp->pcb->local_ip);
    tcp->bound_port = tcp->pcb->local_port;
  }
  return result;
}

static err_t
on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
  struct lwipy_tcp *tcp = arg;
  LWIP_UNUSED_ARG(err);
  tcp->connecting = 0;
  tcp->connected = 1;
  lwipy_tcp_remember(tcp);
  lwipy_autotune_shaken(tcp, lwipy_sending_shaken(pcb));
  pcb->mss = LWIP_MAX(pcb->mss, LEAST_MSS);
  lwipy_signal(&tcp->end, LWIPY_CONNECTED | LWIPY_WRITABLE);
  return ERR_OK;
}

/* As tcp_connect() would, but before: the bucket must be known when it inserts the pcb. */
static int
choose_ends(struct lwipy_tcp *tcp, const ip_addr_t *ip, u16_t port)
{
  struct tcp_pcb *pcb = tcp->pcb;
  struct netif *netif = pcb->netif_idx != NETIF_NO_INDEX ? netif_get_by_index(pcb->netif_idx)
                                                         : ip_route(&pcb->local_ip, ip);
  if (netif == NULL) {
    return ERR_RTE;
  }
  if (ip_addr_isany(&pcb->local_ip)) {
    const ip_addr_t *local = ip_netif_get_local_ip(netif, ip);
    if (local == NULL) {
      return ERR_RTE;
    }
    ip_addr_copy(pcb->local_ip, *local);
  }
  if (pcb->local_port == 0 && (pcb->local_port = lwipy_port_towards(&pcb->local_ip, ip, port)) == 0) {
    return ERR_BUF;
  }
  tcp->hash = lwipy_demux_hash(&pcb->local_ip, pcb->local_port, ip, port);
  tcp->way = tcp->read = tcp->read_since = 0;
  return ERR_OK;
}

int
lwipy_tcp_connect(struct lwipy_end *end, const ip_addr_t *ip, u16_t port)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  struct netif *netif;
  int result;
  if (tcp->error) {
    return lwipy_tcp_take_error(tcp);
  }
  if (tcp->connected) {
    return LWIPY_EISCONN;
  }
  if (tcp->connecting) {
    return LWIPY_EALREADY;
  }
  lwipy_timers_stir();
  if ((result = lwipy_tcp_need_pcb(tcp)) != 0) {
    return result;
  }
  if (tcp->pcb->state != CLOSED) {
    return LWIPY_EISCONN;            /* it listens */
  }
  if (tcp->bound_port == 0) {
    IP_SET_TYPE_VAL(tcp->bound, IP_GET_TYPE(&tcp->pcb->local_ip));   /* IPV6_V6ONLY may have changed it */
  }
  if (!IP_ADDR_PCB_VERSION_MATCH(tcp->pcb, ip)) {
    return LWIPY_EARG;             /* bound to the other family */
  }
  netif = ip_route(&tcp->pcb->local_ip, ip);
  if (ip_addr_ismulticast(ip) || (netif != NULL && ip_addr_isbroadcast(ip, netif))) {
    return LWIPY_EUNREACH;         /* lwIP would shake hands with everybody */
  }
  result = choose_ends(tcp, ip, port);
  if (result == ERR_OK) {
    lwipy_tcp_use_window(tcp);
    lwipy_demux_select(tcp->hash);
    result = tcp_connect(tcp->pcb, ip, port, on_connected);
  }
  if (result != ERR_OK) {
    ip_addr_copy(tcp->pcb->local_ip, tcp->bound);
    tcp->pcb->local_port = tcp->bound_port;
  } else {
    tcp->pcb->snd_buf = tcp->sndbuf;
    tcp->pcb->ssthresh = tcp->sndbuf;
    tcp->connecting = 1;
    lwipy_tcp_remember(tcp);
  }
  return result;
}

/* Socket, option and connect() of asyncio's connections, in one. */
int
core_tcp_open(const lwipy_address *to, lwipy_accepted *out)
{
  struct lwipy_tcp *tcp;
  ip_addr_t ip;
  int result;
  if (lwipy_address_to_ip(to, &ip) != 0) {
    return LWIPY_EARG;
  }
  if ((tcp = lwipy_tcp_new(to->family)) == NULL) {
    return LWIPY_EMEM;
  }
  tcp->nodelay = 1;
  tcp_nagle_disable(tcp->pcb);
  if ((result = lwipy_tcp_connect(&tcp->end, &ip, to->port)) != ERR_OK) {
    lwipy_tcp_release(&tcp->end, 1);
    return result == ERR_RTE ? LWIPY_EUNREACH : result;
  }
  out->handle = tcp->end.handle;
  lwipy_address_from_ip(&out->local, &tcp->pcb->local_ip, tcp->pcb->local_port);
  lwipy_address_from_ip(&out->remote, &ip, to->port);
  return 0;
}

int
core_tcp_connected(lwipy_handle handle)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->error) {
    return lwipy_tcp_take_error(tcp);
  }
  if (tcp->connecting) {
    tcp->end.armed |= LWIPY_WRITABLE;
    return LWIPY_EWOULDBLOCK;
  }
  return tcp->connected ? 0 : LWIPY_ENOTCONN;
}
