/*
 * The sending side of a connection: state that lives as long as its pcb, and the gate that lwIP sends through.
 *
 * Theory of operation. lwIP sends what lies within the smaller of two windows from `lastack` on: the peer's, and cwnd.
 * Here cwnd is not a congestion window but a gate: the end of what may be sent now, set anew whenever that changes.
 * The real window is `sending->cwnd`, and is held against what is in the network (flight.c), so that holes and
 * segments that the peer has already do not count.
 *
 * A segment that comes in passes the hook first (lwipy_sending_in): the gate is shut, and TF_INFR set, which keeps lwIP
 * from its own fast retransmit. When lwIP is through with it (lwipy_sending_through), recovery.c works out what the
 * acknowledgement means, and lwipy_sending_output() sends again what is lost (it moves segments from lwIP's list of
 * unacked ones to that of unsent ones, as lwIP does itself), opens the gate and calls tcp_output(). What goes out passes
 * the other hook (lwipy_sending_out), which keeps the records; so nothing is missed that lwIP sends for its own reasons.
 *
 * The state hangs on the pcb (extension argument 1), not on the endpoint: a connection that the application has closed
 * recovers like any other. Without memory for it, or when "lwip" was chosen, lwIP goes on alone.
 *
 * Invariants:
 * 1. Between two events cwnd (the gate) - (snd_nxt - lastack) is what may be sent; during input it is one segment at
 *    most, which is less than any window.
 * 2. TF_INFR is set while loss is repaired, and only then; TF_RTO never is.
 * 3. `current` is the connection whose segment lwIP works on, or NULL; the pcb's end clears it.
 */
#include "sending.h"
#include "held.h"
#include "lend.h"
#include "netif.h"
#include "tcp_endpoint.h"

#include "lwip/mem.h"

#define EXT_ARG         1
#define INITIAL_WINDOW  10         /* segments, RFC 6928 */
#define HEADERS         54         /* bytes of a frame: Ethernet, IPv4, TCP */
#define BETWEEN_CALLS   500        /* microseconds: so long an application that has more may be away */

static struct lwipy_sending *current;
static struct lwipy_arrival arrival;

/* ---- Life ----------------------------------------------------------------------------------------------------------- */

struct lwipy_sending *
lwipy_sending_of(const struct tcp_pcb *pcb)
{
  return pcb->ext_args[EXT_ARG].data;
}

static void
destroyed(u8_t id, void *data)
{
  struct lwipy_sending *sending = data;
  LWIP_UNUSED_ARG(id);
  if (sending == NULL) {
    return;
  }
  if (current == sending) {
    current = NULL;
  }
  if (sending->controller->close != NULL) {
    sending->controller->close(sending);
  }
  lwipy_deadline_set(&sending->deadline, LWIPY_NEVER);
  lwipy_flight_clear(&sending->flight);
  lwipy_held_clear(sending);
  lwipy_lend_forget(sending);
  mem_free(sending);
}

static const struct tcp_ext_arg_callbacks callbacks = { destroyed, NULL };

struct lwipy_sending *
lwipy_sending_start(struct tcp_pcb *pcb, int controller)
{
  struct lwipy_sending *sending = lwipy_sending_of(pcb);
  struct netif *netif;
  u32_t rtt = pcb->bytes_acked;    /* see lwipy_sending_shaken() */
  if (sending != NULL || controller == LWIPY_CC_LWIP || (sending = mem_calloc(1, sizeof(*sending))) == NULL) {
    return sending;
  }
  sending->pcb = pcb;
  sending->deadline.due = LWIPY_NEVER;
  sending->deadline.run = lwipy_sending_alarm;
  sending->cwnd = (u32_t)LWIP_MAX(pcb->mss, LEAST_MSS) * INITIAL_WINDOW;
  sending->ssthresh = UINT32_MAX;
  lwipy_rack_open(sending);
  netif = ip_route(&pcb->local_ip, &pcb->remote_ip);
  sending->nic = netif != NULL ? netif_get_index(netif) : 0;
  sending->una = sending->highest = sending->point = pcb->lastack;
  lwipy_flight_open(&sending->flight);
  lwipy_rtt_open(sending);
  if (lwipy_congestion_use(sending, lwipy_congestion_at(controller)) != 0) {
    mem_free(sending);
    return NULL;
  }
  tcp_ext_arg_set_callbacks(pcb, EXT_ARG, &callbacks);
  tcp_ext_arg_set(pcb, EXT_ARG, sending);
  pcb->bytes_acked = 0;
  if (rtt != 0) {
    lwipy_rtt_sample(sending, lwipy_now32(), rtt, 0);
  }
  pcb->cwnd = (pcb->snd_nxt - pcb->lastack) + sending->cwnd;
  return sending;
}

/* The handshake's round trip is measured before there is a state to keep it: most connections of a flood never get
   one. lwIP uses `bytes_acked` only when data is acknowledged. 1: the SYN was sent twice, so nothing is known. */
void
lwipy_sending_syn(struct tcp_pcb *pcb)
{
  pcb->bytes_acked = pcb->bytes_acked == 0 ? LWIP_MAX(lwipy_now32(), 2) : 1;
}

u32_t
lwipy_sending_shaken(struct tcp_pcb *pcb)
{
  u32_t rtt = pcb->bytes_acked > 1 ? lwipy_now32() - pcb->bytes_acked : 0;
  pcb->bytes_acked = pcb->bytes_acked > 1 ? LWIP_MIN(LWIP_MAX(rtt, 1), 60000000) : 0;
  return pcb->bytes_acked;
}

/* ---- In ------------------------------------------------------------------------------------------------------------- */

static u32_t
be32(const u8_t *p)
{
  return (u32_t)p[0] << 24 | (u32_t)p[1] << 16 | (u32_t)p[2] << 8 | p[3];
}

/* The options are sound, or tcp_hooks.c would have dropped the segment. */
static void
read_blocks(const u8_t *option, u16_t length)
{
  u16_t at = 0, block;
  while (at + 1 < length && option[at] != 0) {
    u8_t size = option[at] == 1 ? 1 : option[at + 1];
    if (option[at] == 5) {
      for (block = (u16_t)(at + 2); block + 8 <= at + size && arrival.blocks < 4; block = (u16_t)(block + 8)) {
        arrival.left[arrival.blocks] = be32(option + block);
        arrival.right[arrival.blocks++] = be32(option + block + 4);
      }
    }
    at = (u16_t)(at + size);
  }
}

void
lwipy_sending_in(struct tcp_pcb *pcb, const struct tcp_hdr *header, u16_t options, u32_t length)
{
  struct lwipy_sending *sending = lwipy_sending_of(pcb);
  lwipy_sending_through();
  if (sending == NULL || !(TCPH_FLAGS(header) & TCP_ACK)) {
    return;
  }
  current = sending;
  arrival.ack = header->ackno;
  arrival.duplicate = length == 0 && header->ackno == pcb->lastack && pcb->unacked != NULL &&
                      SND_WND_SCALE(pcb, (u32_t)header->wnd) == pcb->snd_wnd;
  arrival.blocks = 0;
  if (pcb->flags & TF_SACK) {
    read_blocks((const u8_t *)header + TCP_HLEN, options);
  }
  sending->nic = netif_get_index(ip_current_input_netif());
  pcb->cwnd = pcb->ssthresh = 0;
  tcp_set_flags(pcb, TF_INFR);
}

void
lwipy_sending_through(void)
{
  struct lwipy_sending *sending = current;
  lwipy_dsack_through();
  if (sending == NULL) {
    return;
  }
  current = NULL;
  sending->pcb->dupacks = 0;
  lwipy_held_acked(sending);
  if (sending->pcb->state == TIME_WAIT || sending->pcb->state < ESTABLISHED) {
    lwipy_flight_clear(&sending->flight);
    lwipy_sending_arm(sending);
    return;
  }
  lwipy_sending_hunger(sending);
  lwipy_recovery_ack(sending, &arrival);
  lwipy_sending_output(sending->pcb);
}

/* ---- Out ------------------------------------------------------------------------------------------------------------ */

static void
stamp(struct lwipy_sending *sending, struct lwipy_sent *sent, u32_t now)
{
  sent->sent_at = now;
  sent->delivered = sending->delivered;
  sent->delivered_at = sending->delivered_at;
  sent->first_at = sending->first_at;
}

static void
note_resent(struct lwipy_sending *sending, u32_t seq, u32_t end, u32_t now)
{
  struct lwipy_flight *flight = &sending->flight;
  u32_t i;
  for (i = lwipy_flight_find(flight, seq); i < flight->count; i++) {
    struct lwipy_sent *sent = lwipy_sent(flight, i);
    if (TCP_SEQ_GEQ(sent->seq, end)) {
      break;
    }
    if (!(sent->flags & LWIPY_SACKED)) {
      lwipy_flight_set(flight, sent, 0);
      sent->flags |= LWIPY_RESENT;
      stamp(sending, sent, now);
      sending->rto_from = i == 0 ? lwipy_latest() : sending->rto_from;
      sending->resent_segments++;
      sending->undo_again++;
    }
  }
}

static void
note_new(struct lwipy_sending *sending, u32_t seq, u32_t end, u32_t now)
{
  struct lwipy_flight *flight = &sending->flight;
  struct lwipy_sent *sent;
  if (flight->count == 0) {
    sending->first_at = sending->delivered_at = now;
    sending->rto_from = lwipy_latest();
  }
  sent = lwipy_flight_add(flight, seq, end);
  stamp(sending, sent, now);
  if (sending->starved_until != 0) {
    sent->flags |= LWIPY_STARVED;
  }
}

void
lwipy_sending_out(struct tcp_pcb *pcb, const struct tcp_hdr *header, u32_t length)
{
  struct lwipy_sending *sending = lwipy_sending_of(pcb);
  struct lwipy_flight *flight;
  u32_t seq = lwip_ntohl(header->seqno), end = seq + length, now = lwipy_now32(), tail;
  lwipy_lend_from(sending);
  if (sending == NULL) {
    return;
  }
  flight = &sending->flight;
  tail = flight->count > 0 ? lwipy_sent(flight, flight->count - 1)->end : TCP_SEQ_GT(seq, sending->una) ? seq : sending->una;
  if (TCP_SEQ_LT(seq, tail)) {
    note_resent(sending, seq, end, now);
  }
  if (TCP_SEQ_GT(end, tail)) {
    note_new(sending, tail, end, now);
  }
  sending->prr_out += length;
  sending->sent_at = lwipy_latest();
  lwipy_tempo_sent(sending, length + HEADERS);
  if (sending->alarm == LWIPY_NO_ALARM) {
    lwipy_sending_arm(sending);
  }
}

u32_t
lwipy_sending_pipe(const struct lwipy_sending *sending)
{
  u32_t arrived = (u32_t)sending->dupacks * sending->pcb->mss;
  return sending->flight.pipe > arrived ? sending->flight.pipe - arrived : 0;
}

static void
open_gate(struct lwipy_sending *sending, u32_t room)
{
  struct tcp_pcb *pcb = sending->pcb;
  pcb->cwnd = (pcb->snd_nxt - pcb->lastack) + room;
  lwipy_limit_in_flight(pcb, lwipy_netif_by_index(sending->nic));
}

/* The most that was in flight in a round: whether the window limits it is not seen at the moment of an ACK. */
static void
note_peak(struct lwipy_sending *sending)
{
  u32_t pipe = sending->flight.pipe;
  if (TCP_SEQ_GEQ(sending->una, sending->peak_end)) {
    sending->last_peak = sending->peak;
    sending->peak = 0;
    sending->peak_end = sending->pcb->snd_nxt;
  }
  sending->peak = LWIP_MAX(sending->peak, pipe);
  if (sending->starved_until != 0 && lwipy_later(sending->delivered, sending->starved_until)) {
    sending->starved_until = 0;    /* the gap in what was sent has arrived */
  }
}

/* Does the application keep the network empty? Not while it waits for room, nor between two of its calls: only when
   nothing has left for longer than that takes, or on short ways than a good part of a round trip, though it might. */
void
lwipy_sending_hunger(struct lwipy_sending *sending)
{
  const struct lwipy_tcp *tcp = sending->pcb->callback_arg;
  int waits = tcp != NULL && tcp->has_more;
  int64_t since = LWIP_MAX(sending->sent_at, sending->pace_due);
  u32_t pipe = sending->flight.pipe;
  if (sending->pcb->unsent == NULL && pipe < sending->cwnd && !waits && sending->sent_at != 0 &&
      lwipy_latest() - since > LWIP_MIN(BETWEEN_CALLS, sending->min_rtt / 8)) {
    sending->starved_until = LWIP_MAX(sending->delivered + pipe, 1);
  }
}

/* A window that was not used for a while says nothing about the network any more (RFC 5681 4.1, as Linux does it). */
static void
restart(struct lwipy_sending *sending)
{
  u32_t least = (u32_t)sending->pcb->mss * INITIAL_WINDOW;
  int64_t idle = lwipy_latest() - sending->sent_at;
  while (idle > sending->rto && sending->cwnd > least) {
    sending->ssthresh = LWIP_MAX(sending->ssthresh, sending->cwnd / 4 * 3);
    sending->cwnd = LWIP_MAX(sending->cwnd / 2, least);
    idle -= sending->rto;
  }
}

void
lwipy_sending_output(struct tcp_pcb *pcb)
{
  struct lwipy_sending *sending = lwipy_sending_of(pcb);
  u32_t pipe, room, allowed;
  if (sending == NULL) {
    tcp_output(pcb);
    return;
  }
  pipe = lwipy_sending_pipe(sending);
  if (sending->flight.count == 0 && pcb->unsent != NULL && sending->sent_at != 0 && !sending->controller->alone) {
    restart(sending);
  }
  room = sending->cwnd > pipe ? sending->cwnd - pipe : 0;
  if (pipe == 0 && pcb->unsent != NULL) {
    room = LWIP_MAX(room, pcb->unsent->len);     /* cut when the maximum was larger */
  }
  allowed = lwipy_tempo_allows(sending, room);
  if (sending->flight.lost > 0 && allowed > 0) {
    allowed = lwipy_repair(sending, allowed);
  }
  open_gate(sending, allowed);
  if (sending->phase != LWIPY_OPEN || sending->flight.lost > 0) {
    tcp_set_flags(pcb, TF_INFR);
  } else {
    tcp_clear_flags(pcb, TF_INFR);
  }
  lwipy_output(sending);
  note_peak(sending);
  lwipy_sending_arm(sending);
}
