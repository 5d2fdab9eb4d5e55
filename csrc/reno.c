/*
 * Reno's window (RFC 5681): one segment more in each round trip, half after a loss.
 *
 * Invariant: `counted` bytes were delivered since the window last grew in congestion avoidance (RFC 3465 2.1).
 */
#include "sending.h"

#include "lwip/tcp.h"

static void
on_ack(struct lwipy_sending *sending, const struct lwipy_ack *ack)
{
  struct lwipy_reno *reno = &sending->control.reno;
  if (!ack->limited) {
    return;
  }
  reno->counted += lwipy_slow_start(sending, ack->delivered);
  while (reno->counted >= sending->cwnd) {
    reno->counted -= sending->cwnd;
    sending->cwnd += sending->pcb->mss;
  }
}

static u32_t
on_loss(struct lwipy_sending *sending)
{
  sending->control.reno.counted = 0;
  return sending->cwnd / 2;
}

static void
on_timeout(struct lwipy_sending *sending)
{
  LWIP_UNUSED_ARG(sending);
}

const struct lwipy_controller lwipy_reno = { "reno", NULL, NULL, on_ack, on_loss, on_timeout, 0 };
