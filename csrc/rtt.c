/*
 * Round trips and the retransmission timeout (RFC 6298), in microseconds.
 *
 * Theory of operation. lwIP measures with its slow timer, 50 ms a tick. Here each segment carries the time it was sent
 * (flight.c), so every acknowledgement of something sent once gives a sample. The timeout is srtt + 4 rttvar as in the
 * RFC, but its floor is LEAST_SLACK above srtt (and twice srtt) in place of a second: a second is a thousand round trips
 * of a LAN. That is safe because a timeout is never the first thing to happen at the tail (a probe is, rack.c), and
 * because one that came too early is found out and undone (recovery.c).
 *
 * The answer to a segment that was alone may have been kept back by the peer, in the hope of another (delayed ACK). For
 * the probe that is the wrong measure of the way: `prompt8` follows such samples down, but not up.
 *
 * Invariants:
 * 1. Segments sent again give no sample (Karn), nor does an acknowledgement that delivers nothing new.
 * 2. LEAST_SLACK <= rto <= MOST; the backoff is not part of `rto`.
 * 3. min_rtt is the least of the last 10 to 20 seconds: it follows a route that has become longer.
 */
#include "sending.h"

#define FIRST_RTO    1000000       /* RFC 6298 2.1 */
#define LEAST_SLACK  50000
#define MOST         60000000      /* RFC 6298 2.5 */
#define MIN_WINDOW   10000000

void
lwipy_rtt_open(struct lwipy_sending *sending)
{
  sending->rto = FIRST_RTO;
  sending->min_rtt = sending->next_min_rtt = UINT32_MAX;
}

u32_t
lwipy_rtt(const struct lwipy_sending *sending)
{
  return sending->srtt8 / 8;
}

static void
note_least(struct lwipy_sending *sending, u32_t now, u32_t rtt)
{
  if (now - sending->min_since > MIN_WINDOW) {
    sending->min_rtt = LWIP_MIN(sending->next_min_rtt, rtt);
    sending->next_min_rtt = UINT32_MAX;
    sending->min_since = now;
  }
  sending->next_min_rtt = LWIP_MIN(sending->next_min_rtt, rtt);
  sending->min_rtt = LWIP_MIN(sending->min_rtt, rtt);
}

void
lwipy_rtt_sample(struct lwipy_sending *sending, u32_t now, u32_t rtt, int alone)
{
  u32_t slack;
  rtt = LWIP_MIN(LWIP_MAX(rtt, 1), MOST);
  if (sending->min_rtt == UINT32_MAX) {
    sending->min_since = now;
  }
  note_least(sending, now, rtt);
  if (sending->srtt8 == 0) {
    sending->srtt8 = rtt * 8;
    sending->rttvar4 = rtt * 2;
    sending->prompt8 = rtt * 8;
  } else {
    u32_t srtt = sending->srtt8 / 8, error = rtt > srtt ? rtt - srtt : srtt - rtt;
    sending->rttvar4 += error - sending->rttvar4 / 4;
    sending->srtt8 += rtt - srtt;
    if (!alone || rtt < sending->prompt8 / 8) {
      sending->prompt8 += rtt - sending->prompt8 / 8;
    }
  }
  slack = LWIP_MAX(LWIP_MAX(sending->rttvar4, LEAST_SLACK), lwipy_rtt(sending));
  sending->rto = LWIP_MIN(lwipy_rtt(sending) + slack, MOST);
}
