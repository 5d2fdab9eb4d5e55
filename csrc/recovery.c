/*
 * Loss recovery on the sending side, by the peer's selective acknowledgements (RFC 2018, RFC 6675).
 *
 * lwIP reports what it received out of order, but takes no notice of what its peer reports: after the first hole of a
 * window it waits for the retransmission timer. Here the peer's blocks mark segments on lwIP's own list of unacked
 * ones (the scoreboard), and the holes among them are sent again as soon as three segments above are marked.
 *
 * Theory of operation. lwIP begins: three duplicate ACKs make it halve the window and send the first hole
 * (tcp_rexmit_fast, which is called here too when blocks tell of the loss before duplicates do). From then on until all
 * that was outstanding is acknowledged, every ACK runs lwipy_recover(): a hole is moved from unacked to unsent, where
 * tcp_output() takes it from; the congestion window is ssthresh plus what the peer has beyond the holes, so that as
 * much is in the network as half the old flight. A segment that was sent again and is still missing when something
 * sent after it has arrived is lost a second time.
 *
 * Invariants:
 * 1. The bits SACKED and RESENT in a segment's flags are ours; lwIP does not use them and copies none.
 * 2. While `active`, TF_INFR is set: lwIP neither halves the window again nor sends the first hole by itself.
 * 3. After a timeout (TF_RTO) lwIP sends everything again; recovery is over then, and RESENT means nothing any more.
 */
#include "tcp_endpoint.h"

#include <string.h>

#define SACKED        0x40
#define RESENT        0x80
#define DUP_THRESHOLD 3

static u32_t
seq_of(const struct tcp_seg *seg)
{
  return lwip_ntohl(seg->tcphdr->seqno);
}

static u32_t
be32(const u8_t *p)
{
  return (u32_t)p[0] << 24 | (u32_t)p[1] << 16 | (u32_t)p[2] << 8 | p[3];
}

/* A block that could be: within what is outstanding (RFC 2018 section 8; duplicates below lastack say nothing here). */
static void
mark(struct tcp_pcb *pcb, u32_t left, u32_t right)
{
  struct tcp_seg *seg;
  if (!TCP_SEQ_LT(left, right) || TCP_SEQ_LEQ(left, pcb->lastack) || TCP_SEQ_GT(right, pcb->snd_nxt)) {
    return;
  }
  for (seg = pcb->unacked; seg != NULL && TCP_SEQ_LT(seq_of(seg), right); seg = seg->next) {
    if (TCP_SEQ_LEQ(left, seq_of(seg)) && TCP_SEQ_LEQ(seq_of(seg) + TCP_TCPLEN(seg), right)) {
      seg->flags |= SACKED;
    }
  }
}

int
lwipy_scoreboard(struct tcp_pcb *pcb, const struct tcp_hdr *header, u16_t opt_length)
{
  const u8_t *option = (const u8_t *)header + TCP_HLEN;
  u16_t at = 0;
  if (pcb->unacked == NULL || !(pcb->flags & TF_SACK)) {
    return 0;
  }
  /* The options are sound, or the guard would have dropped the segment. */
  while (at + 1 < opt_length && option[at] != 0) {
    u8_t size = option[at] == 1 ? 1 : option[at + 1];
    if (option[at] == 5) {
      u16_t block;
      for (block = (u16_t)(at + 2); block + 8 <= at + size; block = (u16_t)(block + 8)) {
        mark(pcb, be32(option + block), be32(option + block + 4));
      }
    }
    at = (u16_t)(at + size);
  }
  return 1;
}

/* lwIP's tcp_rexmit(), for any segment: `*link` points to it on the list of unacked ones. */
static void
send_again(struct tcp_pcb *pcb, struct tcp_seg **link)
{
  struct tcp_seg *seg = *link, **place = &pcb->unsent;
  *link = seg->next;
  while (*place != NULL && TCP_SEQ_LT(seq_of(*place), seq_of(seg))) {
    place = &(*place)->next;
  }
  seg->next = *place;
  *place = seg;
  if (seg->next == NULL) {
    pcb->unsent_oversize = 0;
  }
  seg->flags |= RESENT;
  pcb->rttest = 0;               /* Karn: no round trip is measured over what was sent twice */
}

static void
forget_resent(struct tcp_seg *seg)
{
  for (; seg != NULL; seg = seg->next) {
    seg->flags &= (u8_t)~RESENT;
  }
}

struct board {
  unsigned marked;               /* segments that the peer has */
  u32_t bytes;                   /* their length */
  u32_t highest;                 /* the end of the last of them */
};

static struct board
read_board(const struct tcp_pcb *pcb)
{
  struct board board = {0, 0, pcb->lastack};
  const struct tcp_seg *seg;
  for (seg = pcb->unacked; seg != NULL; seg = seg->next) {
    if (seg->flags & SACKED) {
      board.marked++;
      board.bytes += TCP_TCPLEN(seg);
      board.highest = seq_of(seg) + TCP_TCPLEN(seg);
    }
  }
  return board;
}

static void
begin(struct lwipy_recovery *recovery, struct tcp_pcb *pcb)
{
  recovery->active = 1;
  recovery->point = recovery->mark = pcb->snd_nxt;
  if (pcb->unacked != NULL) {
    pcb->unacked->flags |= RESENT;         /* lwIP has just done that */
  }
}

/* Sends every hole again that has three marked segments above it, and the first one in any case. */
static void
fill_holes(struct lwipy_recovery *recovery, struct tcp_pcb *pcb, const struct board *board)
{
  struct tcp_seg **link = &pcb->unacked;
  unsigned below = 0;
  int first = 1, sent = 0;
  if (TCP_SEQ_GT(board->highest, recovery->mark)) {
    /* Something that was sent after the holes has arrived, and they have not. */
    forget_resent(pcb->unacked);
  }
  while (*link != NULL && TCP_SEQ_LT(seq_of(*link), recovery->point)) {
    struct tcp_seg *seg = *link;
    if (seg->flags & SACKED) {
      below++;
    } else if (!(seg->flags & RESENT) && (first || board->marked - below >= DUP_THRESHOLD) && seg->p->ref == 1) {
      send_again(pcb, link);
      first = 0;
      sent = 1;
      continue;
    }
    first = first && (seg->flags & SACKED);
    link = &seg->next;
  }
  if (sent) {
    recovery->mark = pcb->snd_nxt;
  }
}

void
lwipy_recover(struct lwipy_recovery *recovery, struct tcp_pcb *pcb)
{
  struct board board;
  if (pcb->flags & TF_RTO) {
    if (recovery->active) {
      recovery->active = 0;
      forget_resent(pcb->unacked);
      forget_resent(pcb->unsent);
    }
    return;
  }
  if (pcb->unacked == NULL || (recovery->active && TCP_SEQ_GEQ(pcb->lastack, recovery->point))) {
    recovery->active = 0;
    return;
  }
  board = read_board(pcb);
  if (!recovery->active) {
    if (!(pcb->flags & TF_INFR)) {
      if (board.marked < DUP_THRESHOLD || (pcb->unacked->flags & SACKED)) {
        return;
      }
      tcp_rexmit_fast(pcb);
    }
    begin(recovery, pcb);
  }
  fill_holes(recovery, pcb, &board);
  tcp_set_flags(pcb, TF_INFR);
  pcb->cwnd = pcb->ssthresh + board.bytes;
  tcp_output(pcb);
}

/* The hook is called before lwIP has seen the segment, so the work waits until it is through. */
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
      lwipy_tcp_use_window(tcp);
      lwipy_recover(&tcp->recovery, tcp->pcb);
    }
  }
}
