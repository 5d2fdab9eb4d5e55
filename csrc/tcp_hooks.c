/*
 * Where the port looks at each TCP segment: on its way in, when lwIP has found the pcb, and on its way out.
 *
 * In:  malformed options are dropped before lwIP parses them (2.2.1 reads beyond them); a full accept queue drops the
 *      SYN, so that the peer tries again, as with any listener; a SYN for a connection in TIME_WAIT ends that state
 *      (RFC 1122 4.2.2.13), and its frame is fed once more; TCP_WND becomes the window of the socket at hand.
 * Out: lwIP 2.2.1 leaves FIN and PSH on the head when it splits an unsent segment, and the peer would see the end too
 *      early; they are cleared here, the tail has its own.
 */
#include "core.h"
#include "tcp.h"

#include "lwip/priv/tcp_priv.h"

struct lwipy_drops lwipy_drops;
int lwipy_replay;

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
syn_in(struct tcp_pcb *pcb, const struct tcp_hdr *header)
{
  switch (pcb->state) {
    case LISTEN:
      if (lwipy_tcp_backlog_full(pcb->callback_arg)) {
        lwipy_drops.syn_backlog++;
        return ERR_MEM;
      }
      break;
    case SYN_RCVD:
      /* Another copy: the answer is sent again, its options are not read a second time. */
      if (header->seqno == pcb->rcv_nxt - 1) {
        tcp_rexmit(pcb);
        tcp_output(pcb);
      }
      return ERR_VAL;
    case TIME_WAIT:
      if (TCP_SEQ_GT(header->seqno, pcb->rcv_nxt)) {
        tcp_pcb_remove(&tcp_tw_pcbs, pcb);
        tcp_free(pcb);
        lwipy_replay = 1;
        return ERR_ABRT;
      }
      break;
    default:
      break;
  }
  lwipy_rcvbuf = lwipy_tcp_window(pcb);
  return ERR_OK;
}

err_t
lwipy_tcp_in(struct tcp_pcb *pcb, struct tcp_hdr *header, u16_t opt_length, u16_t opt1_length,
             const u8_t *opt2, struct pbuf *p)
{
  u8_t flags = TCPH_FLAGS(header);
  LWIP_UNUSED_ARG(p);
  if (opt_length > 0 && !options_are_sound(header, opt_length, opt1_length, opt2)) {
    lwipy_guard_counters.tcp_options++;
    return ERR_VAL;
  }
  if ((flags & (TCP_SYN | TCP_FIN)) == (TCP_SYN | TCP_FIN)) {
    lwipy_guard_counters.tcp_flags++;
    return ERR_VAL;
  }
  if ((flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) {
    return syn_in(pcb, header);
  }
  lwipy_rcvbuf = lwipy_tcp_window(pcb);
  return ERR_OK;
}

u32_t *
lwipy_tcp_out(struct pbuf *p, struct tcp_hdr *header, const struct tcp_pcb *pcb, u32_t *options)
{
  LWIP_UNUSED_ARG(p);
  if ((TCPH_FLAGS(header) & TCP_FIN) && pcb != NULL && pcb->unsent != NULL && pcb->unsent->tcphdr == header &&
      pcb->unsent->next != NULL) {
    TCPH_UNSET_FLAG(header, TCP_FIN | TCP_PSH);
  }
  return options;
}
