/*
 * Loss recovery: what an acknowledgement means for a connection. Its absence: alarms.c.
 *
 * Theory of operation. Each acknowledgement is turned into facts about the flight: what has been delivered, cumulatively
 * or by SACK (RFC 2018), which gives round trips and rate samples; what the peer has had twice (DSACK, RFC 2883); what
 * is lost by now (rack.c). From these follow the phases:
 *
 *   open - something is lost -> recovering: the window goes to the controller's ssthresh, by proportional rate reduction
 *     (RFC 9937): for each byte delivered about ssthresh / (flight at the beginning) bytes are sent.
 *   any - the timeout -> timed out: everything that is old enough is taken for lost, and sent again beginning with one
 *     segment. If then something arrives that was not sent again, the timeout was for nothing (F-RTO, RFC 5682).
 *   either ends when everything is acknowledged that was sent before it began. If by then the peer has reported
 *     every segment sent again as needless, or none was sent again, the reduction of the window is undone.
 *
 * A peer without SACK is treated as RFC 6582 says: each duplicate is taken to say that something has arrived, three
 * begin recovery, and a partial acknowledgement says what is lost next.
 *
 * What a peer may lie about: blocks outside of what is in flight are ignored. Data it SACKed and did not keep is
 * noticed by the timeout, when the first segment is marked: all marks are void then (RFC 2018 section 8). An
 * acknowledgement of what did not arrive, one for each byte, or many duplicates give it no larger window than honest
 * ones would (congestion.c), and duplicates count only up to what is in flight.
 *
 * Invariants:
 * 1. Every byte is counted as delivered once: when it is SACKed, or when the cumulative acknowledgement covers it.
 * 2. The window is reduced once for each phase, and `point` is what was sent by then.
 */
#include "sending.h"

#include "lwip/priv/tcp_priv.h"

#define DUP_THRESHOLD 3

/* ---- What was delivered ---------------------------------------------------------------------------------------------- */

static void
rate_sample(struct lwipy_sending *sending, const struct lwipy_sent *sent, struct lwipy_ack *ack)
{
  if (ack->rate_bytes == 0 || (s32_t)(sent->delivered - ack->rate_since) >= 0) {
    u32_t sending_took = sent->sent_at - sent->first_at, arriving_took = ack->now - sent->delivered_at;
    ack->rate_since = sent->delivered;
    ack->rate_time = LWIP_MAX(sending_took, arriving_took);
    ack->rate_starved = (sent->flags & LWIPY_STARVED) != 0;
    ack->rate_bytes = 1;           /* counted when all of this acknowledgement is known */
    sending->first_at = sent->sent_at;
  }
}

static void
delivered(struct lwipy_sending *sending, struct lwipy_sent *sent, struct lwipy_ack *ack)
{
  if (sent->flags & LWIPY_SACKED) {
    return;
  }
  if (!(sent->flags & LWIPY_RESENT)) {
    u32_t rtt = LWIP_MAX(ack->now - sent->sent_at, 1);
    ack->rtt = ack->rtt == 0 ? rtt : LWIP_MIN(ack->rtt, rtt);
    ack->original |= (sent->flags & LWIPY_LOST) != 0;
  }
  lwipy_rack_delivered(sending, sent, ack->now);
  rate_sample(sending, sent, ack);
  ack->delivered += lwipy_sent_length(sent);
  ack->segments++;
  lwipy_flight_set(&sending->flight, sent, LWIPY_SACKED);
}

static void
acknowledge(struct lwipy_sending *sending, u32_t una, struct lwipy_ack *ack)
{
  struct lwipy_flight *flight = &sending->flight;
  int again = 0;
  while (flight->count > 0 && TCP_SEQ_LEQ(lwipy_sent(flight, 0)->end, una)) {
    again |= lwipy_sent(flight, 0)->flags & LWIPY_RESENT;
    delivered(sending, lwipy_sent(flight, 0), ack);
    lwipy_flight_drop_first(flight);
  }
  if (flight->count > 0 && TCP_SEQ_LT(lwipy_sent(flight, 0)->seq, una)) {
    struct lwipy_sent *first = lwipy_sent(flight, 0);
    u32_t part = una - first->seq;
    if (!(first->flags & LWIPY_SACKED)) {
      ack->delivered += part;
    }
    if (!(first->flags & (LWIPY_SACKED | LWIPY_LOST))) {
      flight->pipe -= part;
    }
    first->seq = una;
  }
  if (again) {
    ack->rtt = 0;                  /* what lies behind a hole has waited for it, and says nothing of the way */
  }
  sending->una = una;
}

/* Returns 1 for a DSACK: below what is acknowledged, or within the second block (RFC 2883 section 4). */
static int
is_dsack(const struct lwipy_arrival *arrival)
{
  if (arrival->blocks == 0 || !TCP_SEQ_LT(arrival->left[0], arrival->right[0])) {
    return 0;
  }
  return TCP_SEQ_LEQ(arrival->right[0], arrival->ack) ||
         (arrival->blocks > 1 && TCP_SEQ_GEQ(arrival->left[0], arrival->left[1]) &&
          TCP_SEQ_LEQ(arrival->right[0], arrival->right[1]));
}

static void
mark(struct lwipy_sending *sending, u32_t left, u32_t right, struct lwipy_ack *ack)
{
  struct lwipy_flight *flight = &sending->flight;
  u32_t i;
  if (!TCP_SEQ_LT(left, right) || TCP_SEQ_LT(left, sending->una) || TCP_SEQ_GT(right, sending->pcb->snd_nxt)) {
    return;
  }
  for (i = lwipy_flight_find(flight, left); i < flight->count; i++) {
    struct lwipy_sent *sent = lwipy_sent(flight, i);
    if (TCP_SEQ_GT(sent->end, right)) {
      break;
    }
    if (TCP_SEQ_GEQ(sent->seq, left)) {
      delivered(sending, sent, ack);
    }
  }
}

/* Duplicates of a peer without SACK, never more than could have arrived. */
static void
count_duplicates(struct lwipy_sending *sending, const struct lwipy_arrival *arrival, struct lwipy_ack *ack)
{
  if (ack->delivered > 0) {
    /* All but the first of these had been told by duplicates. */
    u32_t told = LWIP_MIN(sending->dupacks, ack->segments > 0 ? ack->segments - 1 : 0);
    ack->delivered -= LWIP_MIN(told * sending->pcb->mss, ack->delivered - 1);
    sending->dupacks = (u16_t)(sending->dupacks - told);
    sending->dupacks = (u16_t)(sending->phase == LWIPY_OPEN ? 0 : LWIP_MIN(sending->dupacks, sending->flight.count));
  } else if (arrival->duplicate && sending->dupacks + 1u < sending->flight.count) {
    sending->dupacks++;
    ack->delivered += sending->pcb->mss;
  }
}

/* ---- Phases ----------------------------------------------------------------------------------------------------------- */

void
lwipy_reduce(struct lwipy_sending *sending)
{
  u32_t least = 2u * sending->pcb->mss;
  sending->undo_cwnd = sending->cwnd;
  sending->undo_ssthresh = sending->ssthresh;
  sending->undo_again = 0;
  sending->ssthresh = LWIP_MAX(sending->controller->on_loss(sending), least);
}

static void
undo(struct lwipy_sending *sending)
{
  u32_t i;
  sending->cwnd = LWIP_MAX(sending->cwnd, sending->undo_cwnd);
  sending->ssthresh = LWIP_MAX(sending->ssthresh, sending->undo_ssthresh);
  sending->undo_cwnd = 0;
  sending->undone++;
  sending->phase = LWIPY_OPEN;
  sending->backoff = 0;
  for (i = 0; i < sending->flight.count && sending->flight.lost > 0; i++) {
    struct lwipy_sent *sent = lwipy_sent(&sending->flight, i);
    if (sent->flags & LWIPY_LOST) {
      lwipy_flight_set(&sending->flight, sent, 0);
    }
  }
}

/* `flight`: what was in the network before the acknowledgement that told of the loss. */
static void
begin(struct lwipy_sending *sending, u32_t flight)
{
  sending->prr_start = LWIP_MAX(flight, sending->flight.pipe + sending->pcb->mss);
  lwipy_reduce(sending);
  sending->phase = LWIPY_RECOVERING;
  sending->point = sending->pcb->snd_nxt;
  sending->prr_delivered = sending->prr_out = 0;
}

static void
end(struct lwipy_sending *sending)
{
  if (sending->phase == LWIPY_RECOVERING) {
    lwipy_rack_recovered(sending);
    if (!sending->controller->alone) {
      sending->cwnd = sending->ssthresh;
    }
  }
  sending->phase = LWIPY_OPEN;
  sending->suspect = 0;
}

/* RFC 9937. `good`: the hole at the front has moved and nothing more was lost. */
static void
reduce_in_proportion(struct lwipy_sending *sending, const struct lwipy_ack *ack, int good)
{
  u32_t pipe = lwipy_sending_pipe(sending), mss = sending->pcb->mss, may;
  sending->prr_delivered += ack->delivered;
  if (pipe > sending->ssthresh) {
    u64_t share = ((u64_t)sending->prr_delivered * sending->ssthresh + sending->prr_start - 1) / sending->prr_start;
    may = share > sending->prr_out ? (u32_t)(share - sending->prr_out) : 0;
  } else {
    may = sending->prr_delivered > sending->prr_out ? sending->prr_delivered - sending->prr_out : 0;
    may = LWIP_MAX(may, ack->delivered) + (good ? mss : 0);
    may = LWIP_MIN(may, sending->ssthresh - pipe);
  }
  if (sending->prr_out == 0) {
    may = LWIP_MAX(may, mss);
  }
  sending->cwnd = pipe + may;
}

/* RFC 8985 7.4.2. */
static void
judge_probe(struct lwipy_sending *sending, const struct lwipy_arrival *arrival, int dsack)
{
  if (!sending->probing || TCP_SEQ_LT(sending->una, sending->probe_end)) {
    return;
  }
  if (!sending->probe_again) {
    sending->probing = 0;
  } else if (dsack || (sending->una == sending->probe_end && arrival->duplicate && arrival->blocks == 0)) {
    lwipy_probe_judged(sending, 1);
  } else if (TCP_SEQ_GT(sending->una, sending->probe_end)) {
    lwipy_probe_judged(sending, 0);
    if (sending->phase == LWIPY_OPEN) {
      begin(sending, 0);                     /* the probe has repaired a loss */
      sending->cwnd = sending->ssthresh;
      end(sending);
    }
  }
}

static void
note_dsack(struct lwipy_sending *sending)
{
  lwipy_rack_dsack(sending);
  if (sending->undo_cwnd != 0 && sending->undo_again > 0 && --sending->undo_again == 0) {
    undo(sending);
  }
}

/* The first segment is lost, says a peer without SACK: by three duplicates, or by acknowledging only a part. */
static u32_t
lose_first(struct lwipy_sending *sending, int progress)
{
  struct lwipy_sent *first;
  if (sending->flight.count == 0 || (sending->pcb->flags & TF_SACK)) {
    return 0;
  }
  first = lwipy_sent(&sending->flight, 0);
  if (first->flags & LWIPY_LOST) {
    return 0;
  }
  if (sending->phase == LWIPY_OPEN ? sending->dupacks >= DUP_THRESHOLD && TCP_SEQ_GEQ(sending->una, sending->point) : progress) {
    lwipy_flight_set(&sending->flight, first, LWIPY_LOST);
    sending->lost_segments++;
    return lwipy_sent_length(first);
  }
  return 0;
}

static void
move_window(struct lwipy_sending *sending, struct lwipy_ack *ack, int progress)
{
  u32_t most = LWIP_MAX(sending->peak, sending->last_peak);
  ack->limited = sending->cwnd < sending->ssthresh ? most * 2 >= sending->cwnd
                                                   : most + 2 * sending->pcb->mss > sending->cwnd;
  if (sending->controller->alone) {
    sending->controller->on_ack(sending, ack);
  } else if (sending->phase == LWIPY_RECOVERING) {
    reduce_in_proportion(sending, ack, progress && ack->lost == 0);
  } else if (ack->delivered > 0 && (sending->phase == LWIPY_OPEN || progress)) {
    sending->controller->on_ack(sending, ack);
  }
  if (!sending->controller->alone) {
    lwipy_tempo_follow(sending);
  }
  lwipy_autotune_send(sending);
}

/* All that was taken for lost has arrived before any of it was sent again: it was late, and no DSACK will say so. */
static int
needless(const struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  return ack->original && sending->flight.lost == 0 && sending->undo_cwnd != 0 && sending->undo_again == 0;
}

static void
change_phase(struct lwipy_sending *sending, struct lwipy_ack *ack)
{
  if (sending->phase == LWIPY_TIMED_OUT && sending->suspect && ack->original) {
    undo(sending);
  }
  if (sending->phase == LWIPY_RECOVERING && needless(sending, ack)) {
    undo(sending);
  }
  if (sending->phase != LWIPY_OPEN && TCP_SEQ_GEQ(sending->una, sending->point)) {
    end(sending);
  }
  if (sending->phase == LWIPY_OPEN && sending->flight.lost > 0) {
    begin(sending, ack->flight);
  }
}

void
lwipy_recovery_judge(struct lwipy_sending *sending, struct lwipy_ack *ack, int progress)
{
  change_phase(sending, ack);
  move_window(sending, ack, progress);
}

void
lwipy_recovery_ack(struct lwipy_sending *sending, const struct lwipy_arrival *arrival)
{
  struct tcp_pcb *pcb = sending->pcb;
  struct lwipy_ack ack = { 0 };
  int progress = TCP_SEQ_GT(pcb->lastack, sending->una), dsack = is_dsack(arrival);
  u32_t wait = 0;
  u8_t i;
  ack.now = lwipy_now32();
  ack.flight = sending->flight.pipe;
  if (progress) {
    acknowledge(sending, pcb->lastack, &ack);
    sending->backoff = 0;
    sending->rto_from = lwipy_latest();
  }
  for (i = 0; i < arrival->blocks; i++) {
    mark(sending, arrival->left[i], arrival->right[i], &ack);
  }
  if (!(pcb->flags & TF_SACK)) {
    count_duplicates(sending, arrival, &ack);
  }
  if (ack.rtt != 0) {
    lwipy_rtt_sample(sending, ack.now, ack.rtt, ack.segments == 1);
  }
  if (ack.delivered > 0) {
    sending->delivered += ack.delivered;
    sending->delivered_at = ack.now;
    ack.rate_bytes = ack.rate_bytes != 0 ? sending->delivered - ack.rate_since : 0;
  }
  if (dsack) {
    note_dsack(sending);
  }
  judge_probe(sending, arrival, dsack);
  if (pcb->flags & TF_SACK) {
    ack.lost = lwipy_rack_detect(sending, ack.now, &wait);
  } else {
    ack.lost = lose_first(sending, progress);
  }
  lwipy_recovery_judge(sending, &ack, progress);
  sending->alarm = wait != 0 ? LWIPY_REORDERING : LWIPY_NO_ALARM;
  sending->alarm_at = lwipy_latest() + wait;
}
