/*
 * The rate at which a connection sends what its window allows.
 *
 * Theory of operation. A window says how much may be in the network, not how fast it may get there. Mostly the
 * acknowledgements are the clock. But when much becomes free at once - a hole was filled while the peer's window or the
 * application's bytes had come to an end, acknowledgements arrive in a bunch - the burst that follows overflows the
 * queue of a slow line, and the window that has just been reduced is reduced again. On long ways so does slow start,
 * long before its window fills the line: what it sends for a bunch of acknowledgements is twice that bunch.
 *
 * So there is a rate: BBR's own (bbr.c), or the window in a round trip, times a gain that leaves the clock to the
 * acknowledgements while these come evenly (Linux paces so where it does, tcp_update_pacing_rate()). In the beginning
 * it is twice the window, which doubles. SO_MAX_PACING_RATE is an upper limit to any.
 *
 * What is due leaves in pieces, and a driver that wakes late makes up for it: of the time in which nothing left, so
 * much counts as a timer may be late, and for windows so much more as BURST segments take.
 *
 * Invariants:
 * 1. Without a limit of the application's, a window of up to BURST segments leaves at once.
 * 2. Windows have no rate where a round trip takes less than LEAST_WAY: timers would cost more than bursts do.
 */
#include "sending.h"

#include "lwip/tcp.h"

#define QUANTUM    1000            /* microseconds of the rate that may go at once */
#define LATEST     2000            /* microseconds: a driver that wakes so late makes up for it */
#define LEAST_WAY  2000            /* microseconds */
#define BURST      10              /* segments: no more than the first window (RFC 6928) */
#define BEGINNING  200             /* percent of the window in a round trip */
#define AFTERWARDS 125

void
lwipy_tempo_limit(struct lwipy_sending *sending, u32_t most)
{
  sending->most_rate = most;
  if (!sending->controller->alone) {
    sending->pacing_rate = most;
  }
}

void
lwipy_tempo_follow(struct lwipy_sending *sending)
{
  u32_t rtt = lwipy_rtt(sending), window = sending->cwnd, gain = window < sending->ssthresh ? BEGINNING : AFTERWARDS;
  u64_t rate;
  if (rtt == 0 || sending->min_rtt < LEAST_WAY || (lwipy_without & LWIPY_WITHOUT_TEMPO)) {
    sending->pacing_rate = sending->most_rate;
    return;
  }
  if (sending->phase == LWIPY_RECOVERING) {
    window = sending->ssthresh;    /* cwnd is what may go now, and shrinks to that */
    gain = AFTERWARDS;
  }
  rate = (u64_t)window * gain * 10000 / rtt + 1;
  sending->pacing_rate = sending->most_rate != 0 ? LWIP_MIN(rate, sending->most_rate) : rate;
}

u32_t
lwipy_tempo_quantum(const struct lwipy_sending *sending)
{
  u64_t bytes = sending->pacing_rate * QUANTUM / 1000000;
  return (u32_t)LWIP_MAX(LWIP_MIN(bytes, UINT32_MAX / 4), 2u * sending->pcb->mss);
}

/* The time, microseconds, that may be made up for. */
static int64_t
credit(const struct lwipy_sending *sending)
{
  if (sending->controller->alone || sending->pacing_rate == sending->most_rate) {
    return LATEST;
  }
  return LATEST + (int64_t)((u64_t)BURST * sending->pcb->mss * 1000000 / sending->pacing_rate);
}

/* After this the next time is in the future: there is an alarm for it, unless the window is the limit. */
u32_t
lwipy_tempo_allows(const struct lwipy_sending *sending, u32_t room)
{
  int64_t late = lwipy_latest() - sending->pace_due;
  u64_t owed;
  if (sending->pacing_rate == 0) {
    return room;
  }
  if (late < 0) {
    return 0;
  }
  owed = sending->pacing_rate * (u64_t)LWIP_MIN(late, credit(sending)) / 1000000;
  return (u32_t)LWIP_MIN(lwipy_tempo_quantum(sending) + owed, room);
}

void
lwipy_tempo_sent(struct lwipy_sending *sending, u32_t length)
{
  if (sending->pacing_rate != 0) {
    sending->pace_due = LWIP_MAX(sending->pace_due, lwipy_latest() - credit(sending)) +
                        (int64_t)((u64_t)length * 1000000 / sending->pacing_rate);
  }
}
