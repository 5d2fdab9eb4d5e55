/*
 * A burst limit: the stage that keeps a device with few buffers from drowning.
 *
 * Theory of operation. Emulated network cards of the NE2000 kind hold about eight full frames; what comes beyond that
 * before the guest has looked is lost without a word. So no more than `burst` frames (and `burst_bytes` bytes) go
 * towards the wire within any `interval`; the rest waits in order. A log of the frames that went within the last
 * interval tells when the next may go.
 *
 * That is blind: an emulator that the host's scheduler holds up finds many intervals' frames at once. What the guest
 * has acknowledged has left its card, so TCP's own window is the better limit where there is TCP: no connection over
 * this interface has more than `in_flight` segments unacknowledged (lwipy_limit_in_flight(), called by the hook for
 * incoming segments).
 *
 * Invariants:
 * 1. Any stretch of time of length `interval` sees at most `burst` frames, and at most `burst_bytes` bytes or a single
 *    frame. A driver that wakes late makes the line slower, never a burst larger.
 * 2. Frames never pass each other; at most `queue` wait, more are dropped and counted.
 */
#include "netif.h"
#include "stage.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/tcp.h"

struct sent {
  int64_t when;
  u32_t length;
};

struct pace {
  struct lwipy_stage stage;
  lwipy_pacing set;
  struct sent *log;                    /* a ring of `set.burst` places */
  u32_t oldest, logged;
  u64_t logged_bytes;
  struct lwipy_queue queue;
  lwipy_pace_counters count;
};

static int
may_go(struct pace *pace, int64_t now, u32_t length)
{
  while (pace->logged > 0 && pace->log[pace->oldest].when + pace->set.interval <= now) {
    pace->logged_bytes -= pace->log[pace->oldest].length;
    pace->oldest = (pace->oldest + 1) % pace->set.burst;
    pace->logged--;
  }
  return pace->logged == 0 || (pace->logged < pace->set.burst && (pace->set.burst_bytes == 0 ||
                               pace->logged_bytes + length <= pace->set.burst_bytes));
}

static void
let_go(struct pace *pace, int64_t now, const struct pbuf *p)
{
  struct sent *entry = &pace->log[(pace->oldest + pace->logged) % pace->set.burst];
  entry->when = now;
  entry->length = p->tot_len;
  pace->logged++;
  pace->logged_bytes += p->tot_len;
  pace->count.passed++;
  lwipy_stage_pass(&pace->stage, LWIPY_OUT, p);
}

static int64_t
pace_run(struct lwipy_stage *stage, int64_t now)
{
  struct pace *pace = (struct pace *)stage;
  while (pace->queue.first != NULL && may_go(pace, now, pace->queue.first->frame.pbuf.tot_len)) {
    struct lwipy_kept *kept = lwipy_queue_take(&pace->queue);
    let_go(pace, now, &kept->frame.pbuf);
    lwipy_kept_free(kept);
  }
  return pace->queue.first != NULL ? pace->log[pace->oldest].when + pace->set.interval : LWIPY_NEVER;
}

static void
pace_frame(struct lwipy_stage *stage, int direction, const struct pbuf *p)
{
  struct pace *pace = (struct pace *)stage;
  struct lwipy_kept *kept;
  if (direction == LWIPY_IN) {
    lwipy_stage_pass(stage, direction, p);
    return;
  }
  if (pace->queue.first == NULL) {
    int64_t now = lwipy_now();
    if (may_go(pace, now, p->tot_len)) {
      let_go(pace, now, p);
      return;
    }
    lwipy_stage_wake(pace->log[pace->oldest].when + pace->set.interval);
  }
  if (pace->queue.frames >= pace->set.queue || (kept = lwipy_keep(p)) == NULL) {
    pace->count.queue_full++;
    stage->nic->count.tx_full++;
    return;
  }
  pace->count.waited++;
  lwipy_queue_put(&pace->queue, kept);
}

static void
pace_end(struct lwipy_stage *stage, int pass_on)
{
  struct pace *pace = (struct pace *)stage;
  struct lwipy_kept *kept;
  while (pass_on && (kept = lwipy_queue_take(&pace->queue)) != NULL) {
    lwipy_stage_pass(stage, LWIPY_OUT, &kept->frame.pbuf);
    lwipy_kept_free(kept);
  }
  lwipy_queue_clear(&pace->queue);
  stage->nic->in_flight = 0;
  if (pace->log != NULL) {
    mem_free(pace->log);
  }
}

static const struct lwipy_stage_kind pace_kind = { pace_frame, pace_run, pace_end };

/* ---- TCP's window ------------------------------------------------------------------------------------------------------ */

/* Before the first segments, and before lwIP looks at an acknowledgement: that may add two segments, and send. */
void
lwipy_limit_in_flight(struct tcp_pcb *pcb, const struct netif *netif)
{
  const struct lwipy_nic *nic = netif != NULL ? lwipy_nic_of(netif) : NULL;
  if (nic != NULL && nic->in_flight > 0) {
    tcpwnd_size_t limit = (tcpwnd_size_t)LWIP_MAX(nic->in_flight - 2, 1) * pcb->mss;
    pcb->cwnd = LWIP_MIN(pcb->cwnd, limit);
  }
}

/* ---- The border ------------------------------------------------------------------------------------------------------- */

/* The latest frames of the old log are the first of the new one. */
static int
set_limits(struct pace *pace, const lwipy_pacing *set)
{
  struct sent *log = mem_malloc(set->burst * sizeof(*log));
  u32_t i, kept = LWIP_MIN(pace->logged, set->burst);
  if (log == NULL) {
    return LWIPY_EMEM;
  }
  pace->logged_bytes = 0;
  for (i = 0; i < kept; i++) {
    log[i] = pace->log[(pace->oldest + pace->logged - kept + i) % pace->set.burst];
    pace->logged_bytes += log[i].length;
  }
  if (pace->log != NULL) {
    mem_free(pace->log);
  }
  pace->log = log;
  pace->oldest = 0;
  pace->logged = kept;
  pace->set = *set;
  pace->stage.nic->in_flight = set->in_flight;
  lwipy_stage_wake(lwipy_now());       /* what waits may go sooner now */
  return 0;
}

int
core_pace_add(int number, const lwipy_pacing *set)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct pace *pace;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if ((pace = lwipy_stage_new(nic, &pace_kind, LWIPY_RANK_PACING, sizeof(*pace))) == NULL) {
    return LWIPY_EMEM;
  }
  if (set_limits(pace, set) != 0) {
    lwipy_stage_end(&pace->stage);
    return LWIPY_EMEM;
  }
  return pace->stage.number;
}

int
core_pace_set(int number, int stage, const lwipy_pacing *set)
{
  struct pace *pace = lwipy_stage_find(number, stage, &pace_kind);
  return pace != NULL ? set_limits(pace, set) : LWIPY_ENODEV;
}

int
core_pace_get_counters(int number, int stage, lwipy_pace_counters *out)
{
  struct pace *pace = lwipy_stage_find(number, stage, &pace_kind);
  if (pace == NULL) {
    return LWIPY_ENODEV;
  }
  *out = pace->count;
  out->waiting = pace->queue.frames;
  return 0;
}
