/*
 * What a connection does when nothing comes: the alarm for late segments, the probe of the tail, the timeout.
 *
 * Theory of operation. A connection with something in flight has one alarm, the first of these: the moment from which a
 * segment that something later has overtaken counts as lost (rack.c); a probe, where one can help (RFC 8985 7.2); the
 * retransmission timeout. It is set anew whenever something was sent or acknowledged. The same deadline serves the
 * pace, which only sends.
 *
 * Invariants:
 * 1. While something is in flight there is an alarm, and lwIP's own timer is set later than it: that remains as what
 *    happens when the alarm had no memory. With nothing in flight there is none.
 */
#include "sending.h"
#include "tcp_endpoint.h"

#include "lwip/priv/tcp_priv.h"

#define LWIP_LATER      40         /* ticks of lwIP's slow timer */
#define LWIP_LATEST     (120000 / TCP_SLOW_INTERVAL)
#define MOST_BACKOFF    12
#define LONGEST_RTO     60000000

/* ---- When ----------------------------------------------------------------------------------------------------------- */

/* RFC 8985 7.2: a probe, where one can help; else the timeout. `alarm` is REORDERING when that was set before. */
static void
choose_alarm(struct lwipy_sending *sending)
{
  int64_t rto = sending->rto_from + ((int64_t)sending->rto << sending->backoff), probe;
  if (sending->alarm == LWIPY_REORDERING && sending->alarm_at < rto) {
    return;
  }
  sending->alarm = LWIPY_RTO;
  sending->alarm_at = rto;
  if (sending->phase == LWIPY_OPEN && !sending->probing && sending->flight.sacked == 0 && sending->backoff == 0 &&
      ((sending->pcb->flags & TF_SACK) || sending->flight.count == 1)) {
    probe = LWIP_MAX(sending->sent_at + lwipy_probe_timeout(sending), sending->rto_from + sending->prompt8 / 16);
    if (probe < rto) {
      sending->alarm = LWIPY_PROBE;
      sending->alarm_at = probe;
    }
  }
}

static int
waits_for_pace(const struct lwipy_sending *sending)
{
  return sending->pacing_rate != 0 && sending->pace_due > lwipy_latest() &&
         (sending->pcb->unsent != NULL || sending->flight.lost > 0) && lwipy_sending_pipe(sending) < sending->cwnd;
}

void
lwipy_sending_arm(struct lwipy_sending *sending)
{
  int64_t due = LWIPY_NEVER;
  if (sending->flight.count == 0) {
    sending->alarm = LWIPY_NO_ALARM;
  } else {
    u32_t ticks = (u32_t)((((int64_t)sending->rto << sending->backoff) * 2) / (TCP_SLOW_INTERVAL * 1000)) + LWIP_LATER;
    choose_alarm(sending);
    due = sending->alarm_at;
    sending->pcb->rto = (s16_t)LWIP_MIN(ticks, LWIP_LATEST);
  }
  if (waits_for_pace(sending)) {
    due = LWIP_MIN(due, sending->pace_due);
  }
  lwipy_deadline_set(&sending->deadline, due);
}

/* ---- What ----------------------------------------------------------------------------------------------------------- */

static void
probe(struct lwipy_sending *sending)
{
  struct tcp_pcb *pcb = sending->pcb;
  struct lwipy_flight *flight = &sending->flight;
  u32_t cwnd = sending->cwnd;
  sending->probing = 1;
  sending->probes++;
  sending->rto_from = lwipy_latest();
  if (pcb->unsent != NULL && lwip_ntohl(pcb->unsent->tcphdr->seqno) + pcb->unsent->len - pcb->lastack <= pcb->snd_wnd) {
    sending->probe_again = 0;
    sending->cwnd = lwipy_sending_pipe(sending) + LWIP_MAX(pcb->mss, pcb->unsent->len);
  } else {
    sending->probe_again = 1;
    lwipy_flight_set(flight, lwipy_sent(flight, flight->count - 1), LWIPY_LOST);
    sending->cwnd = LWIP_MAX(cwnd, lwipy_sending_pipe(sending) + pcb->mss);
  }
  lwipy_sending_output(pcb);
  sending->probe_end = pcb->snd_nxt;
  sending->cwnd = cwnd;
  if (flight->lost > 0) {
    lwipy_flight_set(flight, lwipy_sent(flight, flight->count - 1), 0);     /* it could not be sent now */
  }
}

static void
time_out(struct lwipy_sending *sending)
{
  struct tcp_pcb *pcb = sending->pcb;
  struct lwipy_flight *flight = &sending->flight;
  u32_t i, now = lwipy_now32(), patience = sending->rack_rtt + lwipy_rack_window(sending);
  int reneged = lwipy_sent(flight, 0)->flags & LWIPY_SACKED;
  for (i = 0; i < flight->count; i++) {
    struct lwipy_sent *sent = lwipy_sent(flight, i);
    if ((sent->flags & LWIPY_SACKED) && !reneged) {
      continue;
    }
    if (i == 0 || reneged || now - sent->sent_at >= patience) {
      sending->lost_segments += !(sent->flags & LWIPY_LOST);
      lwipy_flight_set(flight, sent, LWIPY_LOST);
    }
  }
  if (sending->phase != LWIPY_TIMED_OUT) {
    lwipy_reduce(sending);
  }
  sending->suspect = !reneged;
  sending->controller->on_timeout(sending);
  sending->phase = LWIPY_TIMED_OUT;
  sending->point = pcb->snd_nxt;
  sending->cwnd = lwipy_sending_pipe(sending) + pcb->mss;
  sending->dupacks = 0;
  sending->probing = 0;
  sending->timeouts++;
  sending->rto_from = lwipy_latest();
  if (sending->backoff < MOST_BACKOFF && ((int64_t)sending->rto << sending->backoff) < LONGEST_RTO / 2) {
    sending->backoff++;
  }
  pcb->rtime = 0;
  if (pcb->nrtx < 0xff) {
    pcb->nrtx++;                   /* lwIP gives the connection up after TCP_MAXRTX */
  }
}

static void
run_alarm(struct lwipy_sending *sending, enum lwipy_alarm alarm)
{
  struct lwipy_ack ack = { 0 };
  u32_t wait = 0;
  if (sending->flight.count == 0) {
    return;
  }
  switch (alarm) {
    case LWIPY_REORDERING:
      ack.now = lwipy_now32();
      ack.lost = lwipy_rack_detect(sending, ack.now, &wait);
      lwipy_recovery_judge(sending, &ack, 0);
      if (wait != 0) {
        sending->alarm = LWIPY_REORDERING;
        sending->alarm_at = lwipy_latest() + wait;
      }
      break;
    case LWIPY_PROBE:
      probe(sending);
      break;
    case LWIPY_RTO:
      if (sending->pcb->persist_backoff > 0) {
        sending->rto_from = lwipy_latest();     /* the peer's window is shut: lwIP asks for it */
      } else {
        time_out(sending);
      }
      break;
    default:
      break;
  }
}

void
lwipy_sending_alarm(struct lwipy_deadline *deadline)
{
  struct lwipy_sending *sending = (struct lwipy_sending *)((u8_t *)deadline - offsetof(struct lwipy_sending, deadline));
  struct lwipy_tcp *tcp = sending->pcb->callback_arg;
  lwipy_sending_through();
  lwipy_demux_select_pcb(sending->pcb);
  lwipy_rcvbuf = tcp != NULL ? tcp->rcvbuf : LWIP_MAX(sending->pcb->rcv_wnd, 1);
  if (sending->alarm != LWIPY_NO_ALARM && sending->alarm_at <= lwipy_latest()) {
    enum lwipy_alarm alarm = (enum lwipy_alarm)sending->alarm;
    sending->alarm = LWIPY_NO_ALARM;
    run_alarm(sending, alarm);
  }
  lwipy_sending_output(sending->pcb);
}
