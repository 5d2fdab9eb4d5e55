/*
 * TCP's timers: lwIP's ticks, for the connections that wait for something.
 *
 * Theory of operation. lwIP wants tcp_fasttmr() and tcp_slowtmr() called at fixed intervals, and walks through
 * all connections each time. Here a tick goes to the buckets of the demultiplexer that asked for it (demux.c), and a
 * bucket asks when one of its connections has something to wait for: an acknowledgement, the end of TIME_WAIT, a
 * keepalive. A connection at rest costs nothing, and when all rest there is no next tick: the ticks that were missed are
 * added when something stirs the stack again. lwIP keeps no count for a resting connection, only the tick of its
 * last segment; so it cannot tell.
 *
 * Invariants:
 * 1. tcp_ticks is what it would be had every tick been run. tcp_slowtmr() counts it up by itself, once for each bucket:
 *    it is put back.
 * 2. lwIP marks a pcb with the number of the timer's call, so as not to treat it twice, and has 256 of them. So the mark
 *    is set to the number before, whatever it was.
 * 3. Ticks are never run in a burst longer than BURST: after a long suspension lwIP sees time jump instead.
 */
#include "demux.h"

#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"

#define TCP_FAST    (TCP_TMR_INTERVAL * 1000)
#define BURST       40

static int64_t last;                     /* when the last tick was */
static int overslept;                    /* nobody was there to hear the answer */
static u8_t calls;                       /* of tcp_fasttmr() and tcp_slowtmr(), as lwIP counts them */

void
lwipy_tcp_timers_open(void)
{
  last = lwipy_now();
}

/* Every second tick is a slow one as well. */
static int
is_slow(int64_t tick)
{
  return (int)(tick & 1);
}

static int64_t
slow_tick_after(int64_t count)
{
  return lwipy_tick + 2 * count - !is_slow(lwipy_tick);
}

/* ---- What a connection wants ----------------------------------------------------------------------------------------- */

static int64_t
after_idle(const struct tcp_pcb *pcb, u32_t limit)
{
  u32_t idle = tcp_ticks - pcb->tmr;
  return slow_tick_after(idle > limit ? 1 : (int64_t)(limit - idle) + 1);
}

static int64_t
active_wants(const struct tcp_pcb *pcb)
{
  int64_t wanted = LWIPY_NEVER;
  if ((pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW | TF_CLOSEPEND | TF_NAGLEMEMERR)) || pcb->refused_data != NULL) {
    return lwipy_tick + 1;
  }
  if ((pcb->state != ESTABLISHED && pcb->state != CLOSE_WAIT && pcb->state != FIN_WAIT_2) ||
      pcb->unacked != NULL || pcb->unsent != NULL || pcb->ooseq != NULL || pcb->poll != NULL) {
    return slow_tick_after(1);
  }
  if (pcb->state == FIN_WAIT_2) {
    return pcb->flags & TF_RXCLOSED ? after_idle(pcb, TCP_FIN_WAIT_TIMEOUT / TCP_SLOW_INTERVAL) : LWIPY_NEVER;
  }
  if (ip_get_option(pcb, SOF_KEEPALIVE)) {
    wanted = after_idle(pcb, (pcb->keep_idle + pcb->keep_cnt_sent * pcb->keep_intvl) / TCP_SLOW_INTERVAL);
  }
  return wanted;
}

/* What the bucket at hand wants. */
int64_t
lwipy_tcp_timers_wanted(void)
{
  const struct tcp_pcb *pcb;
  int64_t least = LWIPY_NEVER;
  for (pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    int64_t wanted = active_wants(pcb);
    least = LWIP_MIN(least, wanted);
  }
  for (pcb = tcp_tw_pcbs; pcb != NULL; pcb = pcb->next) {
    int64_t wanted = after_idle(pcb, 2 * TCP_MSL / TCP_SLOW_INTERVAL);
    least = LWIP_MIN(least, wanted);
  }
  return least;
}

/* ---- Ticks --------------------------------------------------------------------------------------------------------- */

static void
prepare(struct tcp_pcb *pcb)
{
  pcb->last_timer = calls;
  if (overslept) {
    pcb->rttest = 0;               /* as a round trip, the time away would stop the connection for minutes */
  }
  /* lwIP drops a connection that has heard nothing in LAST_ACK for two TCP_MSL, which are short here (lwipopts.h), even
     if the application's last bytes were not acknowledged or not even sent. Those end by their retransmissions. */
  if (pcb->state == LAST_ACK && (pcb->unacked != NULL || pcb->unsent != NULL)) {
    pcb->tmr = tcp_ticks;
  }
}

static unsigned
time_wait_count(void)
{
  const struct tcp_pcb *pcb;
  unsigned count = 0;
  for (pcb = tcp_tw_pcbs; pcb != NULL; pcb = pcb->next) {
    count++;
  }
  return count;
}

/* One tick for the bucket at hand; when it wants the next. */
static int64_t
tick_bucket(void)
{
  struct tcp_pcb *pcb;
  for (pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    prepare(pcb);
  }
  tcp_fasttmr();
  calls++;
  if (is_slow(lwipy_tick)) {
    unsigned before = time_wait_count();
    tcp_ticks--;
    tcp_slowtmr();
    calls++;
    lwipy_demux_left_time_wait(before - time_wait_count());
  }
  return lwipy_tcp_timers_wanted();
}

/* Time passes without ticks being run. */
static void
skip_to(int64_t time)
{
  int64_t ticks = (time - last) / TCP_FAST;
  if (ticks > 0) {
    overslept |= ticks > BURST;
    tcp_ticks += (u32_t)((lwipy_tick + ticks + 1) / 2 - (lwipy_tick + 1) / 2);
    lwipy_tick += ticks;
    last += ticks * TCP_FAST;
  }
}

int64_t
lwipy_tcp_timers_deadline(void)
{
  int64_t due = lwipy_demux_due();
  return due == LWIPY_NEVER ? LWIPY_NEVER : last + LWIP_MAX(due - lwipy_tick, 1) * TCP_FAST;
}

int
lwipy_tcp_timers_run(int64_t now)
{
  STAT_COUNTER sent = lwip_stats.tcp.xmit;
  int64_t next;
  while ((next = lwipy_tcp_timers_deadline()) <= now) {
    skip_to(LWIP_MAX(next - TCP_FAST, now - BURST * (int64_t)TCP_FAST));
    last += TCP_FAST;
    if (is_slow(++lwipy_tick)) {
      tcp_ticks++;
    }
    lwipy_demux_run(tick_bucket);
    overslept = 0;
  }
  return lwip_stats.tcp.xmit != sent;
}

/* Something happens now. Ticks that are due anyway come after it; others did not happen. */
void
lwipy_tcp_timers_stir(int64_t now)
{
  if (lwipy_demux_due() > lwipy_tick + 1) {
    lwipy_tcp_timers_run(now);    /* a keepalive may be due */
    skip_to(now);
  }
}
