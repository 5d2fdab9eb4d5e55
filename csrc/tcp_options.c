/*
 * What a TCP endpoint tells about itself, and its options.
 */
#include "tcp_endpoint.h"

#include <errno.h>
#include <string.h>

int
lwipy_tcp_error(struct lwipy_end *end)
{
  return lwipy_tcp_take_error((struct lwipy_tcp *)end);
}

void
lwipy_tcp_touch(struct lwipy_end *end)
{
  lwipy_tcp_use_window((struct lwipy_tcp *)end);
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
    if (over || tcp->write_shut || (tcp->connected && lwipy_tcp_has_room(tcp))) {
      ready |= LWIPY_WRITABLE;
    }
  }
  end->armed |= (LWIPY_READABLE | LWIPY_WRITABLE) & ~ready;
  return ready;
}

void
lwipy_tcp_addresses(struct lwipy_end *end, lwipy_address *local, lwipy_address *remote)
{
  const struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  const struct tcp_pcb *pcb = tcp->pcb;
  const struct ip_pcb *ip = pcb != NULL ? (const struct ip_pcb *)(const void *)pcb : &tcp->shadow;
  lwipy_address_from_ip(local, &ip->local_ip, pcb != NULL && pcb->local_port != 0 ? pcb->local_port : tcp->local_port);
  memset(remote, 0, sizeof(*remote));
  if (tcp->connected) {
    lwipy_address_from_ip(remote, &ip->remote_ip, tcp->remote_port);
  }
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

static void
tell_sending(const struct lwipy_sending *sending, lwipy_tcp_info *out)
{
  out->cwnd = sending->cwnd;
  out->ssthresh = sending->ssthresh;
  out->phase = sending->phase;
  out->reordering = sending->reordering;
  out->rto = (u32_t)LWIP_MIN((u64_t)sending->rto << sending->backoff, UINT32_MAX);
  out->rtt = lwipy_rtt(sending);
  out->rttvar = sending->rttvar4 / 4;
  out->min_rtt = sending->min_rtt == UINT32_MAX ? 0 : sending->min_rtt;
  out->in_flight = lwipy_sending_pipe(sending);
  out->pacing_rate = sending->pacing_rate;
  out->resent = sending->resent_segments;
  out->lost = sending->lost_segments;
  out->timeouts = sending->timeouts;
  out->probes = sending->probes;
  out->needless = sending->needless;
  out->undone = sending->undone;
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
  strcpy(out->congestion, lwipy_congestion_name(tcp->congestion));
  out->sndbuf = tcp->sndbuf;
  out->rcvbuf = tcp->rcvbuf;
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
  if (lwipy_sending_of(pcb) != NULL) {
    tell_sending(lwipy_sending_of(pcb), out);
  }
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
    tcp->sndbuf_fixed = 1;
    return 0;
  }
  tcp->rcvbuf_fixed = 1;
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
    case LWIPY_OPT_QUICKACK:
      tcp->quickack = (u8_t)(value != 0);
      if (value && tcp->connected && pcb != NULL && (pcb->flags & TF_ACK_DELAY)) {
        lwipy_timers_stir();
        lwipy_tcp_use_window(tcp);
        tcp_ack_now(pcb);
        lwipy_sending_output(pcb);
      }
      return 0;
    case LWIPY_OPT_MAX_PACING:
      tcp->most_rate = (u32_t)value;
      if (pcb != NULL && pcb->state != LISTEN && lwipy_sending_of(pcb) != NULL) {
        lwipy_tempo_limit(lwipy_sending_of(pcb), tcp->most_rate);
      }
      return 0;
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
    lwipy_tcp_use_window(tcp);
    lwipy_tcp_apply_options(tcp, pcb);
    if (tcp->nodelay && tcp->connected) {
      lwipy_sending_output(pcb);
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
    case LWIPY_OPT_QUICKACK:  return tcp->quickack;
    case LWIPY_OPT_MAX_PACING: return (int)tcp->most_rate;
    case LWIPY_OPT_KEEPIDLE:  return (int)(tcp->keep_idle / 1000);
    case LWIPY_OPT_KEEPINTVL: return (int)(tcp->keep_intvl / 1000);
    case LWIPY_OPT_KEEPCNT:   return (int)tcp->keep_cnt;
    default:                  return LWIPY_ENOTSUP;
  }
}

/* ---- Congestion control ---------------------------------------------------------------------------------------------- */

int
core_tcp_set_congestion(lwipy_handle handle, const char *name, size_t length)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  struct lwipy_sending *sending;
  int number = lwipy_congestion_find(name, length);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (number < 0) {
    return LWIPY_ESYSTEM - ENOENT;
  }
  sending = tcp->pcb != NULL && tcp->pcb->state != LISTEN ? lwipy_sending_of(tcp->pcb) : NULL;
  if (sending != NULL) {
    if (number == LWIPY_CC_LWIP) {
      return LWIPY_EISCONN;          /* what is in flight cannot be handed back to lwIP */
    }
    if (sending->controller != lwipy_congestion_at(number) &&
        lwipy_congestion_use(sending, lwipy_congestion_at(number)) != 0) {
      return LWIPY_EMEM;
    }
  } else if (tcp->congestion == LWIPY_CC_LWIP && tcp->started && number != LWIPY_CC_LWIP) {
    return LWIPY_EISCONN;
  }
  tcp->congestion = (u8_t)number;
  return 0;
}

int
core_tcp_get_congestion(lwipy_handle handle, char *name)
{
  const struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  strcpy(name, lwipy_congestion_name(tcp->congestion));
  return 0;
}

/* lwIP's pcb itself, for the options that all protocols share (TTL, TOS, interface, reuse). */
struct ip_pcb *
lwipy_tcp_ip_pcb(struct lwipy_end *end)
{
  struct lwipy_tcp *tcp = (struct lwipy_tcp *)end;
  return tcp->pcb != NULL ? (struct ip_pcb *)(void *)tcp->pcb : &tcp->shadow;
}
