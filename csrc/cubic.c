/*
 * CUBIC's window (RFC 9438), with HyStart++ (RFC 9406).
 *
 * Theory of operation. After a loss the window is 0.7 of what it was, and then grows as C (t - K)^3 + W_max: fast while
 * far below where the loss happened, flat near it, fast again beyond. It depends on the time since the loss, not on
 * the round trip, so long ways are not punished; where Reno would be faster (short ways, small windows), the window
 * follows Reno's estimate. Windows here are in segments, times in seconds.
 *
 * Invariants:
 * 1. `epoch` is the beginning of the curve; `growing` says that there is one. Time in which the window was not the
 *    limit does not count (RFC 9438 5.8): the epoch moves with it.
 * 2. In a round trip the window grows by half at most (4.2).
 */
#include "sending.h"

#include "lwip/tcp.h"

#define C     0.4
#define BETA  0.7
#define ALPHA (3 * (1 - BETA) / (1 + BETA))

static double
cube_root(double x)
{
  double r = x > 1 ? x : 1;
  int i;
  if (x <= 0) {
    return 0;
  }
  for (i = 0; i < 100; i++) {
    double next = (2 * r + x / (r * r)) / 3;
    if (next >= r * (1 - 1e-9)) {
      break;
    }
    r = next;
  }
  return r;
}

static void
begin(struct lwipy_cubic *cubic, double window, u32_t now)
{
  cubic->growing = 1;
  cubic->epoch = now;
  cubic->w_est = window;
  if (window < cubic->w_max) {
    cubic->k = cube_root((cubic->w_max - window) / C);
  } else {
    cubic->k = 0;
    cubic->w_max = window;
  }
}

/* Bytes by which the window grows for `bytes` delivered in congestion avoidance. */
static u32_t
avoid(struct lwipy_cubic *cubic, const struct lwipy_sending *sending, u32_t bytes, u32_t now)
{
  double mss = sending->pcb->mss, window = sending->cwnd / mss, t, target;
  if (!cubic->growing) {
    begin(cubic, window, now);
  }
  t = ((double)(now - cubic->epoch) + lwipy_rtt(sending)) * 1e-6 - cubic->k;
  target = C * t * t * t + cubic->w_max;
  target = target < window ? window : target > 1.5 * window ? 1.5 * window : target;
  cubic->w_est += (cubic->w_est < cubic->w_max ? ALPHA : 1) * (bytes / mss) / window;
  if (cubic->w_est > target) {
    return (u32_t)((cubic->w_est - window) * mss);
  }
  return (u32_t)((target - window) / window * bytes);
}

static void
on_ack(struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  struct lwipy_cubic *cubic = &sending->control.cubic;
  if (!ack->limited) {
    cubic->epoch += ack->now - cubic->last;
  } else {
    u32_t bytes = ack->delivered;
    if (sending->cwnd < sending->ssthresh) {
      bytes = lwipy_slow_start(sending, lwipy_hystart_ack(&cubic->hystart, sending, ack));
    }
    if (sending->cwnd >= sending->ssthresh && bytes > 0) {
      sending->cwnd += avoid(cubic, sending, bytes, ack->now);
    }
  }
  cubic->last = ack->now;
}

static u32_t
on_loss(struct lwipy_sending *sending)
{
  struct lwipy_cubic *cubic = &sending->control.cubic;
  double window = (double)sending->cwnd / sending->pcb->mss;
  cubic->growing = 0;
  cubic->hystart.over = 1;
  /* Fast convergence (4.7): whoever has lost ground leaves some to newcomers. */
  cubic->w_max = window < cubic->w_max ? window * (1 + BETA) / 2 : window;
  return (u32_t)(sending->cwnd * BETA);
}

static void
on_timeout(struct lwipy_sending *sending)
{
  sending->control.cubic.growing = 0;
}

const struct lwipy_controller lwipy_cubic = { "cubic", NULL, NULL, on_ack, on_loss, on_timeout, 0 };
