/*
 * Where the port looks at each TCP segment: on its way in, when lwIP has found the pcb, and on its way out.
 *
 * In:  what would make lwIP read beyond the options, or fail one of its assertions, is dropped and counted; a full
 *      accept queue drops the SYN, so that the peer tries again, as with any listener; too many half-open
 *      connections have it answered by a cookie; a SYN for a connection in
 *      TIME_WAIT ends that state (RFC 1122 4.2.2.13), and its frame is fed once more; TCP_WND becomes the window of the
 *      socket at hand; what the peer says it has is noted for sending.c.
 * Out: lwIP 2.2.1 leaves FIN and PSH on the head when it splits an unsent segment, and the peer would see the end too
 *      early; they are cleared here, the tail has its own.
 */
#include "merge.h"
#include "demux.h"
#include "half_open.h"
#include "netif.h"
#include "sending.h"
#include "tcp.h"

#include "lwip/priv/tcp_priv.h"

#define SHED_EACH 16   /* connections in TIME_WAIT that go for a new one without memory */

struct lwipy_drops lwipy_drops;
int lwipy_replay, lwipy_long_segment;

/* lwIP doubles the retransmission timeout up to 27 minutes, twelve times over: what was sent to a peer that is gone
   would be kept for hours (RFC 6298 2.5 allows a bound of 60 s or more). */
#define LONGEST_RTO (120000 / TCP_SLOW_INTERVAL)

static u8_t
option_byte(const struct tcp_hdr *header, u16_t opt1_length, const u8_t *opt2, u16_t at)
{
  return at < opt1_length ? ((const u8_t *)header + TCP_HLEN)[at] : opt2[at - opt1_length];
}

/*
 * Every option lies inside the header, those that lwIP reads have their proper length, and those of the handshake come
 * with a SYN only (RFC 9293 3.1): lwIP would take a new MSS in mid connection.
 */
static int
options_are_sound(const struct tcp_hdr *header, u16_t length, u16_t opt1_length, const u8_t *opt2)
{
  int syn = (TCPH_FLAGS(header) & TCP_SYN) != 0;
  static const u8_t proper[] = {0, 0, 4, 3, 2};   /* MSS, window scale, SACK permitted */
  u16_t at = 0;
  while (at < length) {
    u8_t kind = option_byte(header, opt1_length, opt2, at), size;
    if (kind == 0) {
      return 1;
    }
    if (kind == 1) {
      at++;
      continue;
    }
    if (at + 1 >= length) {
      return 0;
    }
    size = option_byte(header, opt1_length, opt2, (u16_t)(at + 1));
    if (size < 2 || size > length - at ||
        (kind < sizeof(proper) && (size != proper[kind] || !syn)) || (kind == 8 && size != 10)) {
      return 0;
    }
    at = (u16_t)(at + size);
  }
  return 1;
}

static err_t
malformed(u64_t *counter)
{
  ++*counter;
  return ERR_VAL;
}

/* A new connection. What cannot be had now the peer asks for again. */
static err_t
asked_for(const struct tcp_pcb *listener, const struct tcp_hdr *header, u16_t opt_length)
{
  if (lwipy_tcp_backlog_full(listener->callback_arg)) {
    lwipy_drops.syn_backlog++;
  } else if (lwipy_arena_is_low() && lwipy_demux_shed(SHED_EACH) == 0) {
    lwipy_drops.memory++;
  } else if (lwipy_half_open_is_full()) {
    lwipy_cookie_answer(listener, header, opt_length);
  } else {
    return ERR_OK;
  }
  return ERR_MEM;
}

/* What a listener gets besides SYNs: only the echo of a cookie has a meaning. */
static err_t
echo_in(struct tcp_pcb *listener, const struct tcp_hdr *header)
{
  if (!(TCPH_FLAGS(header) & TCP_ACK) || lwipy_tcp_backlog_full(listener->callback_arg) || lwipy_arena_is_low() ||
      !lwipy_cookie_take(listener, header)) {
    return ERR_OK;
  }
  lwipy_replay = 1;
  return ERR_ABRT;
}

/* The end of a handshake. While there is no room for the connection the peer hears nothing, and asks again. */
static int
cannot_accept(const struct tcp_pcb *pcb)
{
  if (lwipy_tcp_backlog_over(pcb->callback_arg)) {
    lwipy_drops.syn_backlog++;
    return 1;
  }
  if (lwipy_arena_is_low()) {
    lwipy_drops.memory++;
    return 1;
  }
  return 0;
}

/* A segment with SYN and without RST, in every state. ERR_OK: lwIP is to have it. */
static err_t
syn_in(struct tcp_pcb *pcb, const struct tcp_hdr *header, u16_t opt_length, u32_t tcplen)
{
  int ack = (TCPH_FLAGS(header) & TCP_ACK) != 0;
  switch (pcb->state) {
    case LISTEN:
      return ack ? ERR_OK : asked_for(pcb, header, opt_length);
    case SYN_SENT:
      /* lwIP would take the options of one that does not answer our SYN. It means a half-open connection at the other
         side: that is reset, and our SYN sent again, as lwIP does it. */
      if (!ack) {
        return malformed(&lwipy_guard_counters.tcp_flags);
      }
      if (header->ackno != pcb->lastack + 1) {
        tcp_rst(pcb, header->ackno, header->seqno + tcplen, &pcb->local_ip, &pcb->remote_ip, pcb->local_port,
                pcb->remote_port);
        if (pcb->nrtx < TCP_SYNMAXRTX) {
          pcb->rtime = 0;
          tcp_rexmit_rto(pcb);
        }
        return ERR_VAL;
      }
      return ERR_OK;
    case SYN_RCVD:
      /* Another copy: the answer is sent again, its options are not read a second time. */
      if (!ack && header->seqno == pcb->rcv_nxt - 1) {
        tcp_rexmit(pcb);
        tcp_output(pcb);
      }
      return ERR_VAL;
    case TIME_WAIT:
      if (!ack && TCP_SEQ_GT(header->seqno, pcb->rcv_nxt)) {
        tcp_pcb_remove(&tcp_tw_pcbs, pcb);
        tcp_free(pcb);
        lwipy_demux_left_time_wait(1);
        lwipy_replay = 1;
        return ERR_ABRT;
      }
      return ERR_OK;
    default:
      return ERR_OK;
  }
}

/*
 * Out of order, lwIP queues the first segment untrimmed, and copies a FIN it has queued to whatever covers it. Both end
 * in an assertion when the segment comes in order later and is longer than the window. No honest peer sends beyond the
 * window (a probe of a closed one is in order), nor beyond its own FIN.
 */
static int
is_beyond(const struct tcp_pcb *pcb, u32_t seqno, u32_t length, u32_t tcplen)
{
  const struct tcp_seg *seg = pcb->ooseq;
  if (TCP_SEQ_GT(seqno, pcb->rcv_nxt) && TCP_SEQ_GT(seqno + tcplen, pcb->rcv_nxt + pcb->rcv_wnd)) {
    return 1;
  }
  if (seg != NULL) {
    while (seg->next != NULL) {
      seg = seg->next;
    }
    return (TCPH_FLAGS(seg->tcphdr) & TCP_FIN) && TCP_SEQ_GT(seqno + length, seg->tcphdr->seqno + seg->len);
  }
  return 0;
}

/* A segment for a connection, without SYN and RST. */
static err_t
segment_in(struct tcp_pcb *pcb, struct tcp_hdr *header, u32_t length, u32_t tcplen)
{
  if (pcb->state == SYN_RCVD && cannot_accept(pcb)) {
    return ERR_MEM;
  }
  if (tcplen > 0 && pcb->state >= SYN_RCVD && pcb->state < CLOSE_WAIT &&
      is_beyond(pcb, header->seqno, length, tcplen)) {
    lwipy_guard_counters.tcp_window++;
    if (pcb->state != SYN_RCVD) {
      tcp_ack_now(pcb);
      tcp_output(pcb);
    }
    return ERR_VAL;
  }
  /* The byte that a window probe carried may be all there was: lwIP asserts that something is left to probe with. If
     there is, tcp_output() starts the timer again. */
  if (pcb->persist_backoff > 0 && TCP_SEQ_BETWEEN(header->ackno, pcb->lastack + 1, pcb->snd_nxt)) {
    pcb->persist_backoff = 0;
  }
  /* lwIP splits a segment at the lower 16 bits of the window, and asserts that they are not zero. */
  if (header->wnd != 0 && (SND_WND_SCALE(pcb, (u32_t)header->wnd) & 0xffff) == 0) {
    header->wnd--;
  }
  return ERR_OK;
}

err_t
lwipy_tcp_in(struct tcp_pcb *pcb, struct tcp_hdr *header, u16_t opt_length, u16_t opt1_length,
             const u8_t *opt2, struct pbuf *p)
{
  u8_t flags = TCPH_FLAGS(header);
  u32_t tcplen = p->tot_len + ((flags & (TCP_SYN | TCP_FIN)) != 0);
  err_t err = ERR_OK;
  if (opt_length > 0 && !options_are_sound(header, opt_length, opt1_length, opt2)) {
    return malformed(&lwipy_guard_counters.tcp_options);
  }
  if ((flags & (TCP_SYN | TCP_FIN)) == (TCP_SYN | TCP_FIN) || !(flags & (TCP_SYN | TCP_ACK | TCP_RST))) {
    return malformed(&lwipy_guard_counters.tcp_flags);
  }
  lwipy_rcvbuf = lwipy_tcp_window(pcb);
  if (!(flags & TCP_RST)) {
    err = flags & TCP_SYN ? syn_in(pcb, header, opt2 == NULL ? opt_length : 0, tcplen) :
          pcb->state == LISTEN ? echo_in(pcb, header) : segment_in(pcb, header, p->tot_len, tcplen);
  }
  if (err == ERR_OK) {
    lwipy_merge_learn(pcb);
    if (pcb->state == ESTABLISHED && p->tot_len > 0) {
      if (lwipy_long_segment) {
        tcp_set_flags(pcb, TF_ACK_DELAY);      /* it is many: lwIP is to acknowledge it as a second one */
        if (lwipy_long_segment == LWIPY_LONG_BY_DEVICE) {
          lwipy_autotune_apart(pcb);
        }
      }
      lwipy_ack_segment(pcb, header->seqno);
    }
    if (pcb->state >= ESTABLISHED && pcb->state != TIME_WAIT && !(flags & (TCP_RST | TCP_SYN))) {
      lwipy_sending_in(pcb, header, opt2 == NULL ? opt1_length : 0, p->tot_len);
      lwipy_dsack_in(pcb, header->seqno, p->tot_len);
    }
  }
  return err;
}

/* A segment of lwIP's queue goes out, for the first time or again. */
static void
segment_out(struct tcp_pcb *pcb, struct tcp_hdr *header, u32_t length)
{
  if (pcb->rto > LONGEST_RTO) {
    pcb->rto = LONGEST_RTO;
  }
  if ((TCPH_FLAGS(header) & TCP_FIN) && pcb->unsent->next != NULL) {
    TCPH_UNSET_FLAG(header, TCP_FIN | TCP_PSH);
  }
  if (TCPH_FLAGS(header) & TCP_SYN) {
    lwipy_sending_syn(pcb);
  } else {
    lwipy_sending_out(pcb, header, length + ((TCPH_FLAGS(header) & TCP_FIN) != 0));
  }
}

u32_t *
lwipy_tcp_out(struct pbuf *p, struct tcp_hdr *header, const struct tcp_pcb *pcb, u32_t *options)
{
  if (pcb != NULL) {
    lwipy_ack_goes_out(pcb);
  }
  if (pcb != NULL && pcb->unsent != NULL && pcb->unsent->tcphdr == header) {
    segment_out((struct tcp_pcb *)(uintptr_t)pcb, header, (u32_t)p->tot_len - TCPH_HDRLEN_BYTES(header));
  }
  return options;
}
