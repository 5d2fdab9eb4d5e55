/*
 * Listeners: the accept queue, its bound, and what goes when a listener goes.
 */
#include "half_open.h"
#include "tcp_endpoint.h"

#define HANDSHAKES 255     /* that were begun before the queue was full, and may still join it */

int
lwipy_tcp_backlog_full(const void *listener)
{
  const struct lwipy_tcp *tcp = listener;
  return tcp == NULL || tcp->waiting >= tcp->backlog;
}

int
lwipy_tcp_backlog_over(const void *listener)
{
  const struct lwipy_tcp *tcp = listener;
  return tcp != NULL && tcp->waiting >= tcp->backlog + HANDSHAKES;
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
  tcp->sndbuf_fixed = listener->sndbuf_fixed;
  tcp->rcvbuf_fixed = listener->rcvbuf_fixed;
  tcp->quickack = listener->quickack;
  tcp->congestion = listener->congestion;
  tcp->most_rate = listener->most_rate;
  tcp->keep_idle = listener->keep_idle;
  tcp->keep_intvl = listener->keep_intvl;
  tcp->keep_cnt = listener->keep_cnt;
  tcp->connected = 1;
  tcp->hash = lwipy_demux_hash(&pcb->local_ip, pcb->local_port, &pcb->remote_ip, pcb->remote_port);
  lwipy_half_open_end(pcb);
  pcb->snd_buf = tcp->sndbuf;
  pcb->ssthresh = tcp->sndbuf;
  lwipy_tcp_attach(tcp, pcb);
  lwipy_autotune_shaken(tcp, lwipy_sending_shaken(pcb));
  pcb->mss = LWIP_MAX(pcb->mss, LEAST_MSS);
  lwipy_tcp_remember(tcp);
  *listener->last = tcp;
  listener->last = &tcp->next;
  listener->waiting++;
  lwipy_signal(&listener->end, LWIPY_READABLE);
  return ERR_OK;
}

/* A listener that goes takes with it what nobody can accept any more: half-open connections, and waiting ones. */
static void
abort_waiting(struct lwipy_tcp *listener)
{
  while (listener->first != NULL) {
    struct lwipy_tcp *tcp = listener->first;
    struct tcp_pcb *pcb;
    lwipy_tcp_use_window(tcp);
    pcb = lwipy_tcp_detach(tcp);
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

void
lwipy_tcp_end_listener(struct lwipy_tcp *tcp, struct tcp_pcb *pcb)
{
  lwipy_half_open_abort(tcp);
  abort_waiting(tcp);
  lwipy_rcvbuf = 0;
  tcp_close(pcb);
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
  if (tcp->pcb != NULL && tcp->pcb->state == LISTEN) {
    tcp->backlog = (u32_t)LWIP_MAX(backlog, 1);
    return 0;
  }
  if (tcp->connected || tcp->connecting || lwipy_tcp_need_pcb(tcp) != 0 || tcp->pcb->state != CLOSED) {
    return LWIPY_EVAL;
  }
  if (tcp->pcb->local_port == 0) {
    err = lwipy_port_bind(tcp->pcb, IP4_ADDR_ANY, 0);
    if (err != ERR_OK) {
      return err;
    }
  }
  pcb = lwipy_tcp_detach(tcp);
  listening = tcp_listen_with_backlog_and_err(pcb, TCP_DEFAULT_LISTEN_BACKLOG, &err);
  if (listening == NULL) {
    lwipy_tcp_attach(tcp, pcb);
    return err;
  }
  tcp->pcb = listening;
  tcp->backlog = (u32_t)LWIP_MAX(backlog, 1);
  tcp->waiting = 0;
  tcp->first = NULL;
  tcp->last = &tcp->first;
  lwipy_demux_born();
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
  tcp->next = NULL;
  *out = tcp->end.handle;
  /* Events of its time in the queue went to nobody: say again what waits. */
  tcp->end.armed = LWIPY_READABLE | LWIPY_WRITABLE;
  if (tcp->queue.bytes > 0 || tcp->got_fin || tcp->pcb == NULL) {
    lwipy_signal(&tcp->end, LWIPY_READABLE | (tcp->error ? LWIPY_FAILED : 0) | (tcp->pcb == NULL ? LWIPY_CLOSED : 0));
  }
  return 0;
}

int
core_tcp_accept_many(lwipy_handle handle, lwipy_accepted *out, int room)
{
  int count = 0, result = 0;
  while (count < room && (result = core_tcp_accept(handle, &out[count].handle)) == 0) {
    lwipy_tcp_addresses(lwipy_end_find(out[count].handle, LWIPY_KIND_TCP), &out[count].local, &out[count].remote);
    count++;
  }
  return count > 0 || result == LWIPY_EWOULDBLOCK ? count : result;
}
