/*
 * A window from a model of the path, after BBR (version 1, draft-cardwell-iccrg-bbr-congestion-control-00).
 *
 * Theory of operation. Not losses but two measurements say how much to send: the greatest rate at which data was
 * delivered in the last ten rounds (a maximum filter), and the least round trip of the last ten seconds. Their product
 * is what the path holds without a queue. Segments leave at the rate (paced), and in flight is at most twice the
 * product and what waits on the way in one piece: bursts of the pace, acknowledgements in bunches. To find out whether
 * there is more, the pace goes through a cycle: a round trip at 1.25 of the rate, one at 0.75 to drain what that has
 * queued, six at the rate itself. In the beginning the rate doubles with each round, until three rounds have not brought
 * a quarter more; then the queue that this has built is drained. Every ten seconds without a lower round trip, 200 ms
 * with four segments in flight measure it anew.
 *
 * Losses alone do not slow it down: in one round of recovery no more is sent than was delivered, then the model rules
 * again. That is the first round; but in the beginning, when losses by chance would keep the rate from doubling, it is
 * the one in which a tenth of the flight is lost, because the queue overflows. A timeout falls back to one segment until something is acknowledged.
 *
 * Invariants:
 * 1. A sample taken while the application had nothing to send raises the rate, but never stands for it.
 * 2. cwnd >= 4 segments, except after a timeout and in the one round of recovery.
 */
#include "sending.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/priv/tcp_priv.h"

#define ROUNDS       10            /* of the maximum filter */
#define HIGH_GAIN    2.885         /* 2 / ln 2 */
#define CYCLE        8
#define WINDOW_GAIN  2.0
#define MIN_RTT_FOR  10000000
#define PROBE_RTT    200000
#define LEAST        4             /* segments */
#define MARGIN       0.99          /* of the pace: keeps queues from standing */
#define STRETCH      5             /* rounds */
#define LONGEST_BUNCH 100000       /* microseconds */
#define OVERFLOWS    10            /* one in so many lost: not by chance */

enum mode { STARTUP, DRAIN, PROBE_BW, PROBE_RTT_NOW };

struct lwipy_bbr {
  double rate[ROUNDS];             /* bytes a microsecond: the greatest sample of each of the last rounds */
  double full_rate, pace_gain, window_gain;
  u32_t round, round_end;          /* a round ends when `delivered` reaches what was out at its beginning */
  u32_t min_rtt, min_since, cycle_since, probe_until;
  u32_t prior_cwnd;
  u32_t bunch_since, bunch;        /* bytes delivered since then, while faster than the rate */
  u32_t surplus[2], surplus_rounds;   /* the most by which they were too many, in this stretch of rounds and the last */
  u32_t lost;                      /* bytes, in this recovery */
  u8_t mode, cycle, full_rounds, full, new_round, conserving, conserved, was_phase, paced;
};

static double
greatest(const struct lwipy_bbr *bbr)
{
  double most = 0;
  int i;
  for (i = 0; i < ROUNDS; i++) {
    most = bbr->rate[i] > most ? bbr->rate[i] : most;
  }
  return most;
}

static u32_t
product(const struct lwipy_bbr *bbr, double gain, u32_t mss)
{
  double bytes;
  if (bbr->min_rtt == UINT32_MAX || greatest(bbr) <= 0) {
    return 10 * mss;
  }
  bytes = greatest(bbr) * bbr->min_rtt * gain;
  return bytes < 1e9 ? (u32_t)bytes : 1000000000;
}

static void
take_rate(struct lwipy_bbr *bbr, const struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  double rate;
  bbr->new_round = 0;
  if (ack->rate_bytes == 0) {
    return;
  }
  if ((s32_t)(ack->rate_since - bbr->round_end) >= 0) {
    bbr->round_end = sending->delivered;
    bbr->round++;
    bbr->new_round = 1;
    bbr->conserving = 0;
    bbr->rate[bbr->round % ROUNDS] = 0;
  }
  /* Over less than a round trip, acknowledgements that came in a bunch would look like bandwidth. */
  if (ack->rate_time < sending->min_rtt || ack->rate_time == 0) {
    return;
  }
  rate = (double)ack->rate_bytes / ack->rate_time;
  if (!ack->rate_starved || rate >= greatest(bbr)) {
    double *place = &bbr->rate[bbr->round % ROUNDS];
    *place = rate > *place ? rate : *place;
  }
}

/* Acknowledgements that come in bunches, with pauses between: by how much a bunch exceeds what the rate explains. The
   window is larger by that, or the line would run empty in the pauses. */
static void
take_surplus(struct lwipy_bbr *bbr, const struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  double explained = greatest(bbr) * (ack->now - bbr->bunch_since);
  u32_t more;
  if (ack->delivered == 0) {
    return;
  }
  if (bbr->new_round && ++bbr->surplus_rounds >= STRETCH) {
    bbr->surplus_rounds = 0;
    bbr->surplus[1] = bbr->surplus[0];
    bbr->surplus[0] = 0;
  }
  if (bbr->bunch <= explained) {
    bbr->bunch = 0;
    bbr->bunch_since = ack->now;
    explained = 0;
  }
  bbr->bunch += ack->delivered;
  more = LWIP_MIN(bbr->bunch - (u32_t)explained, sending->cwnd);
  bbr->surplus[0] = LWIP_MAX(bbr->surplus[0], more);
}

static u32_t
surplus(const struct lwipy_bbr *bbr)
{
  double most = greatest(bbr) * LONGEST_BUNCH;
  u32_t bytes = LWIP_MAX(bbr->surplus[0], bbr->surplus[1]);
  return !bbr->full ? 0 : bytes < most ? bytes : (u32_t)most;
}

static void
look_for_full(struct lwipy_bbr *bbr, const struct lwipy_ack *ack)
{
  if (bbr->full || !bbr->new_round || ack->rate_starved) {
    return;
  }
  if (greatest(bbr) >= bbr->full_rate * 1.25) {
    bbr->full_rate = greatest(bbr);
    bbr->full_rounds = 0;
  } else {
    bbr->full = ++bbr->full_rounds >= 3;
  }
}

static void
begin_probing(struct lwipy_bbr *bbr, u32_t now)
{
  bbr->mode = PROBE_BW;
  bbr->window_gain = WINDOW_GAIN;
  bbr->cycle = (u8_t)(2 + lwipy_rand() % (CYCLE - 2));   /* anywhere but where it drains, or it would do so at once */
  bbr->cycle_since = now;
  bbr->pace_gain = 1;
}

static void
move_cycle(struct lwipy_bbr *bbr, const struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  static const double gains[CYCLE] = {1.25, 0.75, 1, 1, 1, 1, 1, 1};
  int over = ack->now - bbr->cycle_since > bbr->min_rtt;
  if (bbr->pace_gain > 1) {
    over = over && (ack->lost > 0 || ack->flight >= product(bbr, bbr->pace_gain, sending->pcb->mss));
  } else if (bbr->pace_gain < 1) {
    over = over || ack->flight <= product(bbr, 1, sending->pcb->mss);
  }
  if (over) {
    bbr->cycle = (u8_t)((bbr->cycle + 1) % CYCLE);
    bbr->cycle_since = ack->now;
    bbr->pace_gain = gains[bbr->cycle];
  }
}

static void
move_mode(struct lwipy_bbr *bbr, const struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  if (bbr->mode == STARTUP && bbr->full) {
    bbr->mode = DRAIN;
    bbr->pace_gain = 1 / HIGH_GAIN;
    bbr->window_gain = HIGH_GAIN;
  }
  if (bbr->mode == DRAIN && lwipy_sending_pipe(sending) <= product(bbr, 1, sending->pcb->mss)) {
    begin_probing(bbr, ack->now);
  }
  if (bbr->mode == PROBE_BW) {
    move_cycle(bbr, sending, ack);
  }
}

static void
take_min_rtt(struct lwipy_bbr *bbr, struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  int old = ack->now - bbr->min_since > MIN_RTT_FOR;
  if (ack->rtt != 0 && (ack->rtt <= bbr->min_rtt || old)) {
    bbr->min_rtt = ack->rtt;
    bbr->min_since = ack->now;
  }
  if (old && bbr->mode != PROBE_RTT_NOW && ack->rtt != 0) {
    bbr->prior_cwnd = sending->cwnd;
    bbr->mode = PROBE_RTT_NOW;
    bbr->pace_gain = 1;
    bbr->probe_until = 0;
  }
  if (bbr->mode == PROBE_RTT_NOW) {
    if (bbr->probe_until == 0 && lwipy_sending_pipe(sending) <= (u32_t)LEAST * sending->pcb->mss) {
      bbr->probe_until = ack->now + PROBE_RTT;
      bbr->probe_until += bbr->probe_until == 0;
    } else if (bbr->probe_until != 0 && lwipy_later(ack->now, bbr->probe_until)) {
      bbr->min_since = ack->now;
      sending->cwnd = LWIP_MAX(sending->cwnd, bbr->prior_cwnd);
      if (bbr->full) {
        begin_probing(bbr, ack->now);
      } else {
        bbr->mode = STARTUP;
        bbr->pace_gain = bbr->window_gain = HIGH_GAIN;
      }
    }
  }
}

static void
set_pace(struct lwipy_bbr *bbr, struct lwipy_sending *sending)
{
  double rate = greatest(bbr) * bbr->pace_gain * MARGIN * 1e6;
  u32_t rtt = lwipy_rtt(sending);
  if (greatest(bbr) <= 0) {
    rate = bbr->pace_gain * sending->cwnd * 1e6 / (rtt != 0 ? rtt : 1000);
  }
  if (bbr->full || rate > (double)sending->pacing_rate || (!bbr->paced && rtt != 0)) {
    sending->pacing_rate = (u64_t)rate + 1;
  }
  bbr->paced |= rtt != 0;          /* before, a millisecond was assumed */
  if (sending->most_rate != 0) {
    sending->pacing_rate = LWIP_MIN(sending->pacing_rate, sending->most_rate);
  }
}

static void
set_window(struct lwipy_bbr *bbr, struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  u32_t mss = sending->pcb->mss, least = LEAST * mss, target = product(bbr, bbr->window_gain, mss);
  u32_t pipe = lwipy_sending_pipe(sending), cwnd = sending->cwnd;
  target += 3 * lwipy_tempo_quantum(sending) + surplus(bbr);    /* what waits to go, on both sides, in one piece */
  if (sending->phase != bbr->was_phase) {
    if (sending->phase == LWIPY_OPEN) {
      cwnd = LWIP_MAX(cwnd, bbr->prior_cwnd);
      bbr->conserving = 0;
    }
    bbr->was_phase = sending->phase;
    bbr->lost = 0;
    bbr->conserved = 0;
  }
  bbr->lost += ack->lost;
  if (sending->phase == LWIPY_RECOVERING && !bbr->conserved &&
      (bbr->full || bbr->lost > sending->prr_start / OVERFLOWS)) {
    bbr->conserved = bbr->conserving = 1;
    bbr->round_end = sending->delivered;
    cwnd = pipe + LWIP_MAX(ack->delivered, mss);
  }
  if (sending->phase == LWIPY_OPEN && bbr->mode != PROBE_RTT_NOW) {
    bbr->prior_cwnd = cwnd;
  }
  if (bbr->conserving) {
    cwnd = LWIP_MAX(cwnd > ack->lost ? cwnd - ack->lost : mss, pipe + ack->delivered);
  } else {
    if (bbr->full) {
      cwnd = LWIP_MIN(cwnd + ack->delivered, target);
    } else if (cwnd < target || sending->delivered < 10 * mss) {
      cwnd += ack->delivered;
    }
    cwnd = LWIP_MAX(cwnd, least);
  }
  sending->cwnd = bbr->mode == PROBE_RTT_NOW ? LWIP_MIN(cwnd, least) : cwnd;
}

static void
on_ack(struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  struct lwipy_bbr *bbr = sending->control.bbr;
  take_rate(bbr, sending, ack);
  take_surplus(bbr, sending, ack);
  look_for_full(bbr, ack);
  move_mode(bbr, sending, ack);
  take_min_rtt(bbr, sending, ack);
  set_pace(bbr, sending);
  set_window(bbr, sending, ack);
}

/* The window to come back to. ssthresh means nothing here. */
static u32_t
on_loss(struct lwipy_sending *sending)
{
  struct lwipy_bbr *bbr = sending->control.bbr;
  if (sending->phase == LWIPY_OPEN && bbr->mode != PROBE_RTT_NOW) {
    bbr->prior_cwnd = sending->cwnd;
  }
  return UINT32_MAX;
}

static void
on_timeout(struct lwipy_sending *sending)
{
  sending->control.bbr->was_phase = LWIPY_TIMED_OUT;
  sending->control.bbr->conserving = 0;
}

static int
bbr_open(struct lwipy_sending *sending)
{
  struct lwipy_bbr *bbr = mem_calloc(1, sizeof(*bbr));
  if (bbr == NULL) {
    return -1;
  }
  bbr->min_rtt = sending->min_rtt;
  bbr->min_since = bbr->bunch_since = lwipy_now32();
  bbr->round_end = sending->delivered;
  bbr->pace_gain = bbr->window_gain = HIGH_GAIN;
  bbr->was_phase = sending->phase;
  sending->control.bbr = bbr;
  set_pace(bbr, sending);
  return 0;
}

static void
bbr_close(struct lwipy_sending *sending)
{
  mem_free(sending->control.bbr);
  sending->control.bbr = NULL;
}

const struct lwipy_controller lwipy_bbr = { "bbr", bbr_open, bbr_close, on_ack, on_loss, on_timeout, 1 };
