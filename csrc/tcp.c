/*
 * TCP endpoints over lwIP's raw API.
 *
 * Theory of operation. An endpoint is what a Python socket holds; a pcb is what lwIP holds. lwIP's callbacks append to
 * the endpoint's receive queue, note what happened and signal; Python's calls do the rest. The receive window opens
 * when the application has read (lwipy_tcp_recv), not when bytes arrive. A send takes what fits.
 *
 * Invariants:
 * 1. `pcb` is NULL or alive. lwIP frees pcbs in several places, some of them silently; its extension argument calls
 *    `pcb_destroyed` in every one, which forgets the pcb at that moment. `shadow` has its options from then on, and a
 *    socket whose connect() failed gets a new pcb with the next one.
 * 2. A callback never closes or aborts the pcb and never returns ERR_ABRT.
 * 3. Releasing an endpoint detaches it first (no callback will see it), then closes the pcb: lwIP goes on alone, sends
 *    what is queued and the FIN, and answers what comes.
 * 4. An endpoint waits in its listener's accept queue or belongs to Python, never both.
 * 5. Before every call of lwIP for a pcb `lwipy_rcvbuf` (lwIP's TCP_WND) is the socket's own, and the pcb's bucket is
 *    selected (demux.c): lwipy_tcp_use_window().
 * 6. Queued bytes are given to the reader before the error or the end that came after them.
 */
#include "half_open.h"
#include "netif.h"
#include "tcp_endpoint.h"

#include <string.h>

#define SHED_EACH      16          /* connections in TIME_WAIT that go for a new one without memory */

void
lwipy_tcp_remember(struct lwipy_tcp *tcp)
{
  if (tcp->pcb != NULL && tcp->pcb->state != CLOSED) {
    tcp->local_port = tcp->pcb->local_port;
    tcp->remote_port = tcp->connected ? tcp->pcb->remote_port : 0;
  }
}

u32_t
lwipy_tcp_window(const struct tcp_pcb *pcb)
{
  const struct lwipy_tcp *tcp = pcb->callback_arg;
  /* Without an endpoint (closed by the application) the window is whatever the pcb has: nothing is kept back. */
  return tcp != NULL ? tcp->rcvbuf : LWIP_MAX(pcb->rcv_wnd, 1);
}

/* Enough room for a writer to be woken; and a send would not fail for the number of its segments. */
int
lwipy_tcp_has_room(const struct lwipy_tcp *tcp)
{
  return tcp->pcb->snd_buf >= tcp->sndbuf / 3 && tcp->pcb->snd_queuelen < TCP_SND_QUEUELEN / 2;
}

/* ---- lwIP's callbacks ------------------------------------------------------------------------------------------ */

static void
pcb_destroyed(u8_t id, void *data)
{
  struct lwipy_tcp *tcp = data;
  LWIP_UNUSED_ARG(id);
  lwipy_demux_died();
  if (tcp != NULL && tcp->pcb != NULL) {
    memcpy(&tcp->shadow, tcp->pcb, sizeof(tcp->shadow));
    tcp->pcb = NULL;
    if (!tcp->connected) {
      tcp->local_port = 0;           /* an attempt that failed leaves nothing; bind()'s port the next one has again */
    }
    lwipy_signal(&tcp->end, LWIPY_CLOSED | LWIPY_READABLE | LWIPY_WRITABLE);
  }
}

static const struct tcp_ext_arg_callbacks destroy_callbacks = { pcb_destroyed, lwipy_half_open_begin };

static err_t
on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
  struct lwipy_tcp *tcp = arg;
  LWIP_UNUSED_ARG(err);
  if (p == NULL) {
    tcp->got_fin = 1;
  } else if (tcp->read_shut) {
    u16_t length = p->tot_len;
    pbuf_free(p);
    tcp_recved(pcb, length);
    return ERR_OK;
  } else {
    lwipy_rxqueue_put(&tcp->queue, p);
  }
  lwipy_signal(&tcp->end, LWIPY_READABLE);
  return ERR_OK;
}

static err_t
on_sent(void *arg, struct tcp_pcb *pcb, u16_t length)
{
  struct lwipy_tcp *tcp = arg;
  LWIP_UNUSED_ARG(length);
  if ((tcp->end.armed & LWIPY_WRITABLE) && lwipy_tcp_has_room(tcp)) {
    lwipy_signal(&tcp->end, LWIPY_WRITABLE);
  }
  if (tcp->lingering && pcb->unsent == NULL && pcb->unacked == NULL) {
    lwipy_signal(&tcp->end, LWIPY_ACKED);
  }
  return ERR_OK;
}

static void
on_error(void *arg, err_t err)
{
  struct lwipy_tcp *tcp = arg;
  if (err == ERR_CLSD) {
    /* Both directions have ended in order. */
  } else if (tcp->connecting) {
    tcp->error = err == ERR_RST ? LWIPY_EREFUSED : LWIPY_ETIMEOUT;
  } else {
    tcp->error = err == ERR_RST ? LWIPY_ERST : LWIPY_ETIMEOUT;
  }
  tcp->connecting = 0;
  /* lwIP frees the pcb when this returns; pcb_destroyed does the rest. */
  lwipy_signal(&tcp->end, (tcp->error ? LWIPY_FAILED : 0) | LWIPY_READABLE | LWIPY_WRITABLE);
}

void
lwipy_tcp_unreachable(const ip_addr_t *local, u16_t port, const ip_addr_t *remote, u16_t remote_port, u32_t seqno,
                      int error)
{
  struct tcp_pcb *pcb = lwipy_demux_find(local, port, remote, remote_port);
  if (pcb != NULL && pcb->state == SYN_SENT && pcb->lastack == seqno && pcb->callback_arg != NULL) {
    struct lwipy_tcp *tcp = pcb->callback_arg;
    tcp_abandon(pcb, 0);                     /* on_error() takes it for a timeout */
    tcp->error = (s16_t)error;
  }
}

/* Before the first byte: lwIP sets its own window after the accept callback, so this cannot be done there. */
void
lwipy_tcp_start(struct lwipy_tcp *tcp)
{
  if (!tcp->started) {
    tcp->started = 1;
    /* lwIP makes segments of half the greatest window seen, or of the full size when that is zero, and asserts that
       this never gets less: a peer that begins with a closed window must not start at the full size. */
    tcp->pcb->snd_wnd_max = LWIP_MAX(tcp->pcb->snd_wnd_max, 2 * LEAST_MSS);
    if (lwipy_sending_start(tcp->pcb, tcp->congestion) != NULL && tcp->most_rate != 0) {
      lwipy_tempo_limit(lwipy_sending_of(tcp->pcb), tcp->most_rate);
    }
    lwipy_limit_in_flight(tcp->pcb, ip_route(&tcp->pcb->local_ip, &tcp->pcb->remote_ip));
  }
}

/* Options live in the endpoint too: a listener's pcb has no room for them, and its children inherit them. */
void
lwipy_tcp_apply_options(const struct lwipy_tcp *tcp, struct tcp_pcb *pcb)
{
  if (tcp->nodelay) {
    tcp_nagle_disable(pcb);
  } else {
    tcp_nagle_enable(pcb);
  }
  pcb->keep_idle = tcp->keep_idle;
  pcb->keep_intvl = tcp->keep_intvl;
  pcb->keep_cnt = tcp->keep_cnt;
}

void
lwipy_tcp_attach(struct lwipy_tcp *tcp, struct tcp_pcb *pcb)
{
  tcp->pcb = pcb;
  lwipy_tcp_apply_options(tcp, pcb);
  tcp_arg(pcb, tcp);
  tcp_ext_arg_set(pcb, 0, tcp);
  tcp_ext_arg_set_callbacks(pcb, 0, &destroy_callbacks);
  tcp_recv(pcb, on_recv);
  tcp_sent(pcb, on_sent);
  tcp_err(pcb, on_error);
}

/* From here on lwIP goes on alone with the pcb. */
struct tcp_pcb *
lwipy_tcp_detach(struct lwipy_tcp *tcp)
{
  struct tcp_pcb *pcb = tcp->pcb;
  if (pcb != NULL) {
    tcp->pcb = NULL;
    tcp_ext_arg_set(pcb, 0, NULL);
    tcp_arg(pcb, NULL);
    if (pcb->state != LISTEN) {
      tcp_recv(pcb, NULL);
      tcp_sent(pcb, NULL);
      tcp_poll(pcb, NULL, 0);
      tcp_err(pcb, NULL);
    }
  }
  return pcb;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static int
new_pcb(struct lwipy_tcp *tcp)
{
  struct tcp_pcb *pcb;
  lwipy_tcp_use_window(tcp);
  lwipy_demux_nowhere();
  if (lwipy_arena_is_low() && lwipy_demux_shed(SHED_EACH) == 0) {
    lwipy_drops.memory++;
    return LWIPY_EMEM;
  }
  if ((pcb = tcp_new_ip_type(IP_GET_TYPE(&tcp->bound))) == NULL) {
    return LWIPY_EMEM;
  }
  lwipy_demux_born();
  pcb->snd_buf = tcp->sndbuf;
  pcb->ssthresh = tcp->sndbuf;
  lwipy_tcp_attach(tcp, pcb);
  return 0;
}

/* A connection that failed, or a listener that was shut down, may begin again: with its options, where bind() put it. */
int
lwipy_tcp_need_pcb(struct lwipy_tcp *tcp)
{
  int result;
  if (tcp->pcb != NULL) {
    return 0;
  }
  if (tcp->connected) {
    return LWIPY_EISCONN;
  }
  if ((result = new_pcb(tcp)) != 0) {
    return result;
  }
  tcp->pcb->so_options = tcp->shadow.so_options;
  tcp->pcb->tos = tcp->shadow.tos;
  tcp->pcb->ttl = tcp->shadow.ttl;
  tcp->pcb->netif_idx = tcp->shadow.netif_idx;
  return tcp->bound_port != 0 ? lwipy_port_bind(tcp->pcb, &tcp->bound, tcp->bound_port) : 0;
}

void *
lwipy_tcp_new(int family)
{
  struct lwipy_tcp *tcp = lwipy_end_new(LWIPY_KIND_TCP, sizeof(*tcp));
  if (tcp != NULL) {
    tcp->rcvbuf = tcp->sndbuf = LWIPY_BUF_DEFAULT;
    tcp->congestion = LWIPY_CC_DEFAULT;
    tcp->keep_idle = TCP_KEEPIDLE_DEFAULT;
    tcp->keep_intvl = TCP_KEEPINTVL_DEFAULT;
    tcp->keep_cnt = TCP_KEEPCNT_DEFAULT;
    IP_SET_TYPE_VAL(tcp->bound, family == 4 ? IPADDR_TYPE_V4 : family == 6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY);
    if (new_pcb(tcp) != 0) {
      lwipy_end_free(&tcp->end);
      return NULL;
    }
  }
  return tcp;
}

void
lwipy_tcp_release(struct lwipy_end *end, int abort)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  struct tcp_pcb *pcb;
  int unread = tcp->queue.bytes > 0;
  lwipy_timers_stir();
  lwipy_tcp_use_window(tcp);
  pcb = lwipy_tcp_detach(tcp);
  if (pcb != NULL && pcb->state == LISTEN) {
    lwipy_tcp_end_listener(tcp, pcb);
    pcb = NULL;
  }
  lwipy_rxqueue_clear(&tcp->queue);
  lwipy_end_free(end);
  if (pcb == NULL) {
    return;
  }
  if (pcb->state == TIME_WAIT && (abort || unread)) {
    lwipy_demux_left_time_wait(1);
  }
  if (pcb->state != CLOSED && pcb->state != SYN_SENT && (abort || unread)) {
    tcp_abort(pcb);                /* RFC 2525 2.17: data nobody will read is answered with a reset */
    return;
  }
  /* All was read: tcp_close() must see a full window, or it would reset. */
  lwipy_rcvbuf = pcb->rcv_wnd;
  tcp_close(pcb);
}
