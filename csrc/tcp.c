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
 * 4. An endpoint waits in its listener's accept queue (`parent` is set) or belongs to Python, never both.
 * 5. `lwipy_rcvbuf` (lwIP's TCP_WND) is the socket's own before every call of lwIP for a pcb.
 * 6. Queued bytes are given to the reader before the error or the end that came after them.
 */
#include "tcp.h"
#include "netif.h"
#include "recovery.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

#define INITIAL_WINDOW 10          /* segments, RFC 6928 */
#define LEAST_MSS      64          /* a peer that asks for less only wants to make work */

struct lwipy_tcp {
  struct lwipy_end end;
  struct tcp_pcb *pcb;
  u32_t rcvbuf, sndbuf;
  u8_t connecting, connected, got_fin, read_shut, write_shut, lingering;
  u8_t nodelay, started;
  u32_t keep_idle, keep_intvl, keep_cnt;   /* milliseconds, milliseconds, probes */
  s16_t error;                     /* not yet told */
  lwipy_address local, remote;     /* remembered for when the pcb is gone */
  struct ip_pcb shadow;            /* as well */
  ip_addr_t bound;                 /* what a pcb starts with: the family, and where bind() put it */
  u16_t bound_port;
  struct lwipy_rxqueue queue;
  struct lwipy_recovery recovery;
  /* a listener's: connections not yet accepted */
  u32_t backlog, waiting;
  struct lwipy_tcp *first, **last;
  /* a waiting connection's */
  struct lwipy_tcp *parent, *next;
};

static void
remember(struct lwipy_tcp *tcp)
{
  if (tcp->pcb != NULL) {
    lwipy_address_from_ip(&tcp->local, &tcp->pcb->local_ip, tcp->pcb->local_port);
    if (tcp->connected && tcp->pcb->state != CLOSED) {
      lwipy_address_from_ip(&tcp->remote, &tcp->pcb->remote_ip, tcp->pcb->remote_port);
    }
  }
}

u32_t
lwipy_tcp_window(const struct tcp_pcb *pcb)
{
  const struct lwipy_tcp *tcp = pcb->callback_arg;
  /* Without an endpoint (closed by the application) the window is whatever the pcb has: nothing is kept back. */
  return tcp != NULL ? tcp->rcvbuf : LWIP_MAX(pcb->rcv_wnd, 1);
}

static void
use_window(const struct lwipy_tcp *tcp)
{
  lwipy_rcvbuf = tcp->rcvbuf;
}

/* The error that is to be raised now, taken from the endpoint; 0 for none. */
static int
take_error(struct lwipy_tcp *tcp)
{
  int error = tcp->error;
  tcp->error = 0;
  return error;
}

/* Enough room for a writer to be woken; and a send would not fail for the number of its segments. */
static int
has_room(const struct lwipy_tcp *tcp)
{
  return tcp->pcb->snd_buf >= tcp->sndbuf / 3 && tcp->pcb->snd_queuelen < TCP_SND_QUEUELEN / 2;
}

/* ---- lwIP's callbacks ------------------------------------------------------------------------------------------ */

static void
pcb_destroyed(u8_t id, void *data)
{
  struct lwipy_tcp *tcp = data;
  LWIP_UNUSED_ARG(id);
  if (tcp != NULL && tcp->pcb != NULL) {
    remember(tcp);
    memcpy(&tcp->shadow, tcp->pcb, sizeof(tcp->shadow));
    tcp->pcb = NULL;
    lwipy_signal(&tcp->end, LWIPY_CLOSED | LWIPY_READABLE | LWIPY_WRITABLE);
  }
}

static const struct tcp_ext_arg_callbacks destroy_callbacks = { pcb_destroyed, NULL };

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
  if ((tcp->end.armed & LWIPY_WRITABLE) && has_room(tcp)) {
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
  if (tcp->pcb != NULL) {
    remember(tcp);
  }
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

/* Before the first byte: lwIP sets its own window after the accept callback, so this cannot be done there. */
static void
raise_initial_window(struct lwipy_tcp *tcp)
{
  if (!tcp->started) {
    tcp->started = 1;
    /* lwIP makes segments of half the greatest window seen, or of the full size when that is zero, and asserts that
       this never gets less: a peer that begins with a closed window must not start at the full size. */
    tcp->pcb->snd_wnd_max = LWIP_MAX(tcp->pcb->snd_wnd_max, 2 * LEAST_MSS);
    tcp->pcb->cwnd = LWIP_MAX(tcp->pcb->cwnd, (tcpwnd_size_t)tcp->pcb->mss * INITIAL_WINDOW);
    lwipy_limit_in_flight(tcp->pcb, ip_route(&tcp->pcb->local_ip, &tcp->pcb->remote_ip));
  }
}

static err_t
on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
  struct lwipy_tcp *tcp = arg;
  LWIP_UNUSED_ARG(err);
  tcp->connecting = 0;
  tcp->connected = 1;
  remember(tcp);
  pcb->mss = LWIP_MAX(pcb->mss, LEAST_MSS);
  lwipy_signal(&tcp->end, LWIPY_CONNECTED | LWIPY_WRITABLE);
  return ERR_OK;
}

/* Options live in the endpoint too: a listener's pcb has no room for them, and its children inherit them. */
static void
apply_options(const struct lwipy_tcp *tcp, struct tcp_pcb *pcb)
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

static void
attach(struct lwipy_tcp *tcp, struct tcp_pcb *pcb)
{
  tcp->pcb = pcb;
  apply_options(tcp, pcb);
  tcp_arg(pcb, tcp);
  tcp_ext_arg_set(pcb, 0, tcp);
  tcp_ext_arg_set_callbacks(pcb, 0, &destroy_callbacks);
  tcp_recv(pcb, on_recv);
  tcp_sent(pcb, on_sent);
  tcp_err(pcb, on_error);
}

/* From here on lwIP goes on alone with the pcb. */
static struct tcp_pcb *
detach(struct lwipy_tcp *tcp)
{
  struct tcp_pcb *pcb = tcp->pcb;
  if (pcb != NULL) {
    tcp->pcb = NULL;
    tcp_ext_arg_set(pcb, 0, NULL);
    tcp_arg(pcb, NULL);
    if (pcb->state != LISTEN) {
      tcp_recv(pcb, NULL);
      tcp_sent(pcb, NULL);
      tcp_err(pcb, NULL);
    }
  }
  return pcb;
}

int
lwipy_tcp_backlog_full(const void *listener)
{
  const struct lwipy_tcp *tcp = listener;
  return tcp == NULL || tcp->waiting >= tcp->backlog;
}

static err_t
on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
  struct lwipy_tcp *listener = arg, *tcp;
  if (pcb == NULL || err != ERR_OK || listener == NULL ||
      (tcp = lwipy_end_new(LWIPY_KIND_TCP, sizeof(*tcp))) == NULL) {
    return ERR_MEM;                /* lwIP resets the connection */
  }
  /* What was announced in the handshake, though the listener's buffer may have been changed since. */
  tcp->rcvbuf = (pcb->flags & TF_WND_SCALE) ? pcb->rcv_wnd : LWIP_MAX(listener->rcvbuf, pcb->rcv_wnd);
  tcp->sndbuf = listener->sndbuf;
  tcp->nodelay = listener->nodelay;
  tcp->keep_idle = listener->keep_idle;
  tcp->keep_intvl = listener->keep_intvl;
  tcp->keep_cnt = listener->keep_cnt;
  tcp->connected = 1;
  pcb->snd_buf = tcp->sndbuf;
  pcb->ssthresh = tcp->sndbuf;
  attach(tcp, pcb);
  pcb->mss = LWIP_MAX(pcb->mss, LEAST_MSS);
  remember(tcp);
  tcp->parent = listener;
  *listener->last = tcp;
  listener->last = &tcp->next;
  listener->waiting++;
  lwipy_signal(&listener->end, LWIPY_READABLE);
  return ERR_OK;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static int
new_pcb(struct lwipy_tcp *tcp)
{
  struct tcp_pcb *pcb;
  use_window(tcp);
  if ((pcb = tcp_new_ip_type(IP_GET_TYPE(&tcp->bound))) == NULL) {
    return LWIPY_EMEM;
  }
  pcb->snd_buf = tcp->sndbuf;
  pcb->ssthresh = tcp->sndbuf;
  attach(tcp, pcb);
  return 0;
}

/* A connection that failed, or a listener that was shut down, may begin again: with its options, where bind() put it. */
static int
need_pcb(struct lwipy_tcp *tcp)
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
  return tcp->bound_port != 0 ? tcp_bind(tcp->pcb, &tcp->bound, tcp->bound_port) : 0;
}

void *
lwipy_tcp_new(int family)
{
  struct lwipy_tcp *tcp = lwipy_end_new(LWIPY_KIND_TCP, sizeof(*tcp));
  if (tcp != NULL) {
    tcp->rcvbuf = tcp->sndbuf = LWIPY_BUF_DEFAULT;
    tcp->keep_idle = TCP_KEEPIDLE_DEFAULT;
    tcp->keep_intvl = TCP_KEEPINTVL_DEFAULT;
    tcp->keep_cnt = TCP_KEEPCNT_DEFAULT;
    tcp->last = &tcp->first;
    lwipy_timers_stir();
    IP_SET_TYPE_VAL(tcp->bound, family == 4 ? IPADDR_TYPE_V4 : family == 6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY);
    if (new_pcb(tcp) != 0) {
      lwipy_end_free(&tcp->end);
      return NULL;
    }
  }
  return tcp;
}

/* A listener that goes takes with it what nobody can accept any more: half-open connections, and waiting ones. */
static void
abort_half_open(struct lwipy_tcp *listener)
{
  struct tcp_pcb *pcb = tcp_active_pcbs;
  while (pcb != NULL) {
    struct tcp_pcb *next = pcb->next;
    if (pcb->state == SYN_RCVD && pcb->callback_arg == listener) {
      tcp_arg(pcb, NULL);
      tcp_abort(pcb);
    }
    pcb = next;
  }
}

static void
abort_waiting(struct lwipy_tcp *listener)
{
  while (listener->first != NULL) {
    struct lwipy_tcp *tcp = listener->first;
    struct tcp_pcb *pcb = detach(tcp);
    listener->first = tcp->next;
    lwipy_rxqueue_clear(&tcp->queue);
    lwipy_end_free(&tcp->end);
    if (pcb != NULL) {
      tcp_abort(pcb);
    }
  }
  listener->last = &listener->first;
  listener->waiting = 0;
}

static void
end_listener(struct lwipy_tcp *tcp, struct tcp_pcb *pcb)
{
  abort_half_open(tcp);
  abort_waiting(tcp);
  lwipy_rcvbuf = 0;
  tcp_close(pcb);
}

void
lwipy_tcp_release(struct lwipy_end *end, int abort)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  struct tcp_pcb *pcb = detach(tcp);
  int unread = tcp->queue.bytes > 0;
  lwipy_timers_stir();
  if (pcb != NULL && pcb->state == LISTEN) {
    end_listener(tcp, pcb);
    pcb = NULL;
  }
  lwipy_rxqueue_clear(&tcp->queue);
  lwipy_end_free(end);
  if (pcb == NULL) {
    return;
  }
  if (pcb->state != CLOSED && pcb->state != SYN_SENT && (abort || unread)) {
    tcp_abort(pcb);                /* RFC 2525 2.17: data nobody will read is answered with a reset */
    return;
  }
  /* All was read: tcp_close() must see a full window, or it would reset. */
  lwipy_rcvbuf = pcb->rcv_wnd;
  tcp_close(pcb);
}

int
lwipy_tcp_bind(struct lwipy_end *end, const ip_addr_t *ip, u16_t port)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  int result;
  if (tcp->connected || (result = need_pcb(tcp)) != 0 || tcp->pcb->state != CLOSED || tcp->pcb->local_port != 0) {
    return LWIPY_EVAL;
  }
  if ((result = tcp_bind(tcp->pcb, ip, port)) == ERR_OK) {
    ip_addr_copy(tcp->bound, tcp->pcb->local_ip);
    tcp->bound_port = tcp->pcb->local_port;
  }
  return result;
}

int
lwipy_tcp_connect(struct lwipy_end *end, const ip_addr_t *ip, u16_t port)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  struct netif *netif;
  int result;
  if (tcp->error) {
    return take_error(tcp);
  }
  if (tcp->connected) {
    return LWIPY_EISCONN;
  }
  if (tcp->connecting) {
    return LWIPY_EALREADY;
  }
  lwipy_timers_stir();
  if ((result = need_pcb(tcp)) != 0) {
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
  use_window(tcp);
  result = tcp_connect(tcp->pcb, ip, port, on_connected);
  if (result == ERR_OK) {
    tcp->pcb->snd_buf = tcp->sndbuf;
    tcp->pcb->ssthresh = tcp->sndbuf;
    tcp->connecting = 1;
    remember(tcp);
  }
  return result;
}

int
core_tcp_connected(lwipy_handle handle)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->error) {
    return take_error(tcp);
  }
  if (tcp->connecting) {
    tcp->end.armed |= LWIPY_WRITABLE;
    return LWIPY_EWOULDBLOCK;
  }
  return tcp->connected ? 0 : LWIPY_ENOTCONN;
}

int
core_tcp_listen(lwipy_handle handle, int backlog)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  struct tcp_pcb *pcb, *listening;
  err_t err;
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  tcp->backlog = (u32_t)LWIP_MAX(backlog, 1);
  if (tcp->pcb != NULL && tcp->pcb->state == LISTEN) {
    return 0;                      /* a second listen() changes the backlog */
  }
  if (tcp->connected || tcp->connecting || need_pcb(tcp) != 0 || tcp->pcb->state != CLOSED) {
    return LWIPY_EVAL;
  }
  if (tcp->pcb->local_port == 0) {
    err = tcp_bind(tcp->pcb, NULL, 0);
    if (err != ERR_OK) {
      return err;
    }
  }
  pcb = detach(tcp);
  listening = tcp_listen_with_backlog_and_err(pcb, TCP_DEFAULT_LISTEN_BACKLOG, &err);
  if (listening == NULL) {
    attach(tcp, pcb);
    return err;
  }
  tcp->pcb = listening;
  tcp_arg(listening, tcp);
  tcp_accept(listening, on_accept);
  return 0;
}

int
core_tcp_accept(lwipy_handle handle, lwipy_handle *out)
{
  struct lwipy_tcp *listener = lwipy_end_find(handle, LWIPY_KIND_TCP), *tcp;
  if (listener == NULL) {
    return LWIPY_EHANDLE;
  }
  if (listener->pcb == NULL || listener->pcb->state != LISTEN) {
    return LWIPY_EVAL;
  }
  tcp = listener->first;
  if (tcp == NULL) {
    listener->end.armed |= LWIPY_READABLE;
    return LWIPY_EWOULDBLOCK;
  }
  listener->first = tcp->next;
  if (listener->first == NULL) {
    listener->last = &listener->first;
  }
  listener->waiting--;
  tcp->next = tcp->parent = NULL;
  tcp->last = &tcp->first;
  *out = tcp->end.handle;
  /* Events of its time in the queue went to nobody: say again what waits. */
  tcp->end.armed = LWIPY_READABLE | LWIPY_WRITABLE;
  if (tcp->queue.bytes > 0 || tcp->got_fin || tcp->pcb == NULL) {
    lwipy_signal(&tcp->end, LWIPY_READABLE | (tcp->error ? LWIPY_FAILED : 0) | (tcp->pcb == NULL ? LWIPY_CLOSED : 0));
  }
  return 0;
}

/* ---- Bytes -------------------------------------------------------------------------------------------------------- */

static int
cannot_send(struct lwipy_tcp *tcp)
{
  if (tcp->error) {
    return take_error(tcp);
  }
  if (tcp->connecting) {
    tcp->end.armed |= LWIPY_WRITABLE;
    return LWIPY_EWOULDBLOCK;
  }
  if (!tcp->connected || tcp->write_shut || tcp->pcb == NULL) {
    return LWIPY_EPIPE;
  }
  return 0;
}

int64_t
core_tcp_send(lwipy_handle handle, const void *data, size_t length)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  size_t done = 0;
  int result;
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if ((result = cannot_send(tcp)) != 0) {
    return result;
  }
  lwipy_timers_stir();
  use_window(tcp);
  raise_initial_window(tcp);
  while (done < length) {
    size_t part = LWIP_MIN(length - done, LWIP_MIN(tcp->pcb->snd_buf, 0xffff));
    u8_t more = done + part < length ? TCP_WRITE_FLAG_MORE : 0;
    if (part == 0 || tcp_write(tcp->pcb, (const u8_t *)data + done, (u16_t)part, TCP_WRITE_FLAG_COPY | more) != ERR_OK) {
      break;
    }
    done += part;
  }
  if (done > 0) {
    tcp_output(tcp->pcb);
  }
  if (done < length) {
    tcp->end.armed |= LWIPY_WRITABLE;
  }
  return done > 0 || length == 0 ? (int64_t)done : LWIPY_EWOULDBLOCK;
}

static void
open_window(struct lwipy_tcp *tcp, u32_t length)
{
  use_window(tcp);
  while (length > 0 && tcp->pcb != NULL) {
    u16_t part = (u16_t)LWIP_MIN(length, 0xffff);
    tcp_recved(tcp->pcb, part);
    length -= part;
  }
}

int64_t
core_tcp_recv(lwipy_handle handle, void *buffer, size_t room, int peek)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  u32_t done;
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->queue.bytes > 0) {
    done = lwipy_rxqueue_get(&tcp->queue, buffer, (u32_t)LWIP_MIN(room, 0x7fffffff), peek);
    if (!peek && tcp->pcb != NULL) {
      lwipy_timers_stir();
      open_window(tcp, done);
    }
    return done;
  }
  if (tcp->got_fin || tcp->read_shut) {
    return 0;                        /* the end stays the end, whatever happens to the other direction */
  }
  if (tcp->error) {
    return take_error(tcp);
  }
  if (tcp->connected && tcp->pcb == NULL) {
    return 0;
  }
  if (!tcp->connected && !tcp->connecting) {
    return LWIPY_ENOTCONN;
  }
  tcp->end.armed |= LWIPY_READABLE;
  return LWIPY_EWOULDBLOCK;
}

int
core_tcp_shutdown(lwipy_handle handle, int read, int write)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->pcb != NULL && tcp->pcb->state == LISTEN) {
    if (read) {
      /* Ends the listening, as on Linux: whoever waits in accept() gets EINVAL. */
      struct tcp_pcb *pcb;
      remember(tcp);
      memcpy(&tcp->shadow, tcp->pcb, sizeof(tcp->shadow));
      pcb = detach(tcp);
      end_listener(tcp, pcb);
      lwipy_signal(&tcp->end, LWIPY_READABLE);
    }
    return 0;
  }
  if (!tcp->connected) {
    return tcp->error ? take_error(tcp) : LWIPY_ENOTCONN;
  }
  if (read && !tcp->read_shut) {
    u32_t unread = tcp->queue.bytes;
    tcp->read_shut = 1;
    lwipy_rxqueue_clear(&tcp->queue);
    if (tcp->pcb != NULL) {
      open_window(tcp, unread);
    }
    lwipy_signal(&tcp->end, LWIPY_READABLE);
  }
  if (write && !tcp->write_shut) {
    tcp->write_shut = 1;
    if (tcp->pcb == NULL) {
      return LWIPY_ENOTCONN;
    }
    lwipy_timers_stir();
    use_window(tcp);
    return tcp_shutdown(tcp->pcb, 0, 1);
  }
  return 0;
}

int
core_tcp_linger(lwipy_handle handle)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->pcb == NULL || !tcp->connected) {
    lwipy_signal(&tcp->end, LWIPY_ACKED);
    return 0;
  }
  tcp->lingering = 1;
  if (!tcp->write_shut) {
    tcp->write_shut = 1;
    lwipy_timers_stir();
    use_window(tcp);
    return tcp_shutdown(tcp->pcb, 0, 1);
  }
  if (tcp->pcb->unsent == NULL && tcp->pcb->unacked == NULL) {
    lwipy_signal(&tcp->end, LWIPY_ACKED);
  }
  return 0;
}

/* ---- Loss recovery: the hook is called before lwIP has seen the segment, so the work waits until it is through ------- */

static lwipy_handle recovering;

void
lwipy_tcp_recover_later(const struct tcp_pcb *pcb)
{
  const struct lwipy_tcp *tcp = pcb->callback_arg;
  recovering = tcp != NULL ? tcp->end.handle : 0;
}

void
lwipy_tcp_recover(void)
{
  if (recovering != 0) {
    struct lwipy_tcp *tcp = lwipy_end_find(recovering, LWIPY_KIND_TCP);
    recovering = 0;
    if (tcp != NULL && tcp->pcb != NULL && tcp->connected) {
      use_window(tcp);
      lwipy_recover(&tcp->recovery, tcp->pcb);
    }
  }
}

/*
 * ---- One acknowledgement for many segments: lwIP acknowledges every second one, which is most of the work of a batch.
 * While `acknowledging` is some connection's, its delayed ACK is put off from segment to segment; the end of the batch
 * sends it. Segments out of order are acknowledged at once all the same: lwIP does that without the delay flag.
 */

#define ACKS_EACH 16

static int in_batch;
static lwipy_handle acknowledging;
static unsigned put_off;

void
lwipy_tcp_batch_begin(void)
{
  in_batch = 1;
  acknowledging = 0;
}

void
lwipy_tcp_batch_segment(struct tcp_pcb *pcb)
{
  const struct lwipy_tcp *tcp = pcb->callback_arg;
  if (!in_batch || tcp == NULL || (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW)) != TF_ACK_DELAY) {
    return;
  }
  if (acknowledging == 0) {
    acknowledging = tcp->end.handle;
    put_off = 0;
  }
  if (acknowledging == tcp->end.handle && ++put_off % ACKS_EACH != 0) {
    tcp_clear_flags(pcb, TF_ACK_DELAY);
  }
}

void
lwipy_tcp_batch_end(void)
{
  struct lwipy_tcp *tcp = acknowledging != 0 ? lwipy_end_find(acknowledging, LWIPY_KIND_TCP) : NULL;
  in_batch = 0;
  acknowledging = 0;
  if (tcp != NULL && tcp->pcb != NULL && put_off > 0 && tcp->connected) {
    use_window(tcp);
    tcp_ack_now(tcp->pcb);
    tcp_output(tcp->pcb);
  }
}

/* ---- Questions ----------------------------------------------------------------------------------------------------- */

int
lwipy_tcp_error(struct lwipy_end *end)
{
  return take_error((struct lwipy_tcp *)end);
}

int
lwipy_tcp_ready(struct lwipy_end *end)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  int ready = 0;
  if (tcp->pcb != NULL && tcp->pcb->state == LISTEN) {
    ready = tcp->waiting > 0 ? LWIPY_READABLE : 0;
  } else {
    /* Ready is what would not wait, and that includes what would fail. */
    int over = tcp->error || (tcp->pcb == NULL && !tcp->connecting) || (!tcp->connected && !tcp->connecting);
    if (tcp->queue.bytes > 0 || tcp->got_fin || tcp->read_shut || over) {
      ready |= LWIPY_READABLE;
    }
    if (over || tcp->write_shut || (tcp->connected && has_room(tcp))) {
      ready |= LWIPY_WRITABLE;
    }
  }
  end->armed |= (LWIPY_READABLE | LWIPY_WRITABLE) & ~ready;
  return ready;
}

void
lwipy_tcp_addresses(struct lwipy_end *end, lwipy_address *local, lwipy_address *remote)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  remember(tcp);
  *local = tcp->local;
  *remote = tcp->remote;
}

static u32_t
queued_bytes(const struct tcp_seg *seg)
{
  u32_t bytes = 0;
  for (; seg != NULL; seg = seg->next) {
    bytes += seg->len;
  }
  return bytes;
}

int
core_tcp_get_info(lwipy_handle handle, lwipy_tcp_info *out)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  const struct tcp_pcb *pcb;
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  memset(out, 0, sizeof(*out));
  out->queued = tcp->queue.bytes;
  if ((pcb = tcp->pcb) == NULL) {
    return 0;
  }
  out->state = (u8_t)pcb->state;
  if (pcb->state == LISTEN) {
    out->queued = tcp->waiting;
    return 0;
  }
  out->mss = pcb->mss;
  out->cwnd = pcb->cwnd;
  out->ssthresh = pcb->ssthresh;
  out->snd_wnd = pcb->snd_wnd;
  out->rcv_wnd = pcb->rcv_wnd;
  out->unsent = queued_bytes(pcb->unsent);
  out->unacked = queued_bytes(pcb->unacked);
  out->rto = (u32_t)(pcb->rto * TCP_SLOW_INTERVAL * 1000);
  out->rtt = pcb->sa < 0 ? 0 : (u32_t)((pcb->sa >> 3) * TCP_SLOW_INTERVAL * 1000);
  out->retransmits = pcb->nrtx;
  return 0;
}

/* ---- Options --------------------------------------------------------------------------------------------------------- */

static int
set_buffer(struct lwipy_tcp *tcp, int option, u32_t value)
{
  struct tcp_pcb *pcb = tcp->pcb;
  int live = pcb != NULL && pcb->state != LISTEN;
  value = LWIP_MIN(LWIP_MAX(value, 2048), LWIPY_WND_MAX);
  if (option == LWIPY_OPT_SNDBUF) {
    if (live) {
      /* What is queued stays; with less room than that, sending waits until it has drained. */
      s64_t room = (s64_t)pcb->snd_buf + value - tcp->sndbuf;
      if (room < 0) {
        return LWIPY_EVAL;
      }
      pcb->snd_buf = (tcpwnd_size_t)room;
    }
    tcp->sndbuf = value;
    return 0;
  }
  if (live && pcb->state == CLOSED) {
    pcb->rcv_wnd = pcb->rcv_ann_wnd = TCPWND_MIN16(value);
  } else if (live) {
    /* The window cannot be taken back from the peer (RFC 9293 3.8.6): a connection's buffer only grows. While the
       handshake runs it stays as it is, lwIP insists on that. */
    u32_t limit = (pcb->flags & TF_WND_SCALE) ? LWIPY_WND_MAX : 0xffff;
    if (!tcp->connected || LWIP_MIN(value, limit) <= LWIP_MIN(tcp->rcvbuf, limit)) {
      return 0;
    }
    pcb->rcv_wnd += LWIP_MIN(value, limit) - LWIP_MIN(tcp->rcvbuf, limit);
  }
  tcp->rcvbuf = value;
  return 0;
}

int
lwipy_tcp_set_option(struct lwipy_end *end, int option, int value)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  struct tcp_pcb *pcb = tcp->pcb;
  if (option == LWIPY_OPT_RCVBUF || option == LWIPY_OPT_SNDBUF) {
    return set_buffer(tcp, option, (u32_t)value);
  }
  switch (option) {
    case LWIPY_OPT_NODELAY:
      tcp->nodelay = (u8_t)(value != 0);
      break;
    case LWIPY_OPT_KEEPIDLE:
      tcp->keep_idle = (u32_t)value * 1000;
      break;
    case LWIPY_OPT_KEEPINTVL:
      tcp->keep_intvl = (u32_t)value * 1000;
      break;
    case LWIPY_OPT_KEEPCNT:
      tcp->keep_cnt = (u32_t)value;
      break;
    default:
      return LWIPY_ENOTSUP;
  }
  if (pcb != NULL && pcb->state != LISTEN) {
    lwipy_timers_stir();
    apply_options(tcp, pcb);
    if (tcp->nodelay && tcp->connected) {
      tcp_output(pcb);
    }
  }
  return 0;
}

int
lwipy_tcp_get_option(struct lwipy_end *end, int option)
{
  const struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  switch (option) {
    case LWIPY_OPT_RCVBUF:    return (int)tcp->rcvbuf;
    case LWIPY_OPT_SNDBUF:    return (int)tcp->sndbuf;
    case LWIPY_OPT_NODELAY:   return tcp->nodelay;
    case LWIPY_OPT_KEEPIDLE:  return (int)(tcp->keep_idle / 1000);
    case LWIPY_OPT_KEEPINTVL: return (int)(tcp->keep_intvl / 1000);
    case LWIPY_OPT_KEEPCNT:   return (int)tcp->keep_cnt;
    default:                  return LWIPY_ENOTSUP;
  }
}

/* lwIP's pcb itself, for the options that all protocols share (TTL, TOS, interface, reuse). */
struct ip_pcb *
lwipy_tcp_ip_pcb(struct lwipy_end *end)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  return tcp->pcb != NULL ? (struct ip_pcb *)(void *)tcp->pcb : &tcp->shadow;
}
