/*
 * A bad network: a stage that loses, delays, reorders, repeats and corrupts frames, and a slow line with its queue.
 *
 * Theory of operation. Each direction is a lane of its own. What befalls a frame, in this order:
 *
 *   lost? - repeated? - each copy: corrupted? - overtaken? - waits for the line (rate, queue) - travels (delay, jitter)
 *
 * A line that is not slow and a way that takes no time let a frame through at once; everything else is kept in the
 * lane's queue and leaves it from the front alone: jitter and a changed delay move frames in time, never past each
 * other. A frame that is to be overtaken stands aside until one to three later frames have come, or for ASIDE_LONGEST;
 * `reorder` is the only thing that changes the order.
 *
 * Invariants:
 * 1. frames + duplicated = lost + queue_full + passed + (kept now). Every frame is counted on its way in and out.
 * 2. What happens depends on the lane's generator, the frames and the clock, on nothing else. Each question that may
 *    be answered either way draws once; a probability of 0 draws nothing.
 * 3. At most ASIDE frames stand aside: each is let go by the third frame that comes after it.
 * 4. A lane keeps at most KEPT_MOST bytes and its slow line `queue` frames and `queue_bytes`; more is dropped and
 *    counted in queue_full.
 */
#include "netif.h"
#include "stage.h"

#include <string.h>

#define ASIDE         4
#define ASIDE_LONGEST 10000                    /* microseconds */
#define KEPT_MOST     ((size_t)64 << 20)       /* 5 s of 100 Mbit/s */

struct aside {
  struct lwipy_kept *kept;
  u32_t to_pass;                               /* so many frames overtake it yet */
};

struct lane {
  int direction;
  lwipy_impairment set;
  u64_t random;
  struct aside aside[ASIDE];                   /* in the order of their coming; the first `standing` are there */
  int standing;
  struct lwipy_queue queue;
  struct lwipy_kept *unsent;                   /* the first in the queue that the line has not sent yet */
  u32_t unsent_frames;
  size_t unsent_bytes;
  int64_t busy_ns;                             /* the line is busy until then */
  lwipy_impair_counters count;
};

struct impair {
  struct lwipy_stage stage;
  struct lane lane[2];
};

/* ---- Chance ------------------------------------------------------------------------------------------------------- */

/* SplitMix64: any state is a good one, so any seed is. */
static u64_t
draw(struct lane *lane)
{
  u64_t z = lane->random += 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

static int
chance(struct lane *lane, double probability)
{
  return probability > 0 && (double)(draw(lane) >> 11) * 0x1p-53 < probability;
}

/* One bit turned over, or one byte made another: what checksums are there to find. */
static void
corrupt(struct lane *lane, struct lwipy_kept *kept)
{
  u64_t at = draw(lane), how = draw(lane);
  kept->bytes[at % kept->frame.pbuf.tot_len] ^= how & 1 ? (u8_t)(1 << (how >> 1 & 7)) : (u8_t)(1 + (how >> 1) % 255);
  lane->count.corrupted++;
}

/* ---- The slow line and the long way --------------------------------------------------------------------------------- */

/* The frames that the line has sent by now leave its queue; they stay in the lane's until they have arrived. */
static void
note_sent(struct lane *lane, int64_t now)
{
  while (lane->unsent != NULL && lane->unsent->sent <= now) {
    lane->unsent_frames--;
    lane->unsent_bytes -= lane->unsent->frame.pbuf.tot_len;
    lane->unsent = lane->unsent->next;
  }
}

static int64_t
time_sent(struct lane *lane, int64_t now, u32_t length)
{
  int64_t start = LWIP_MAX(lane->busy_ns, now * 1000), sent = now;
  if (lane->set.rate > 0) {
    lane->busy_ns = start + (int64_t)((double)length * 8e9 / (double)lane->set.rate);
    sent = (lane->busy_ns + 999) / 1000;
  }
  /* Those before it were sent before, even if the line was slower then. */
  return lane->queue.last != NULL ? LWIP_MAX(sent, lane->queue.last->sent) : sent;
}

static int64_t
time_due(struct lane *lane, int64_t sent)
{
  int64_t due = sent + lane->set.delay;
  if (lane->set.jitter > 0) {
    due += (int64_t)(draw(lane) % (u64_t)(lane->set.jitter + 1));
  }
  return due;
}

/* `p` goes on its way; `kept` is the same frame when there is a copy already, else NULL. */
static void
depart(struct impair *impair, struct lane *lane, const struct pbuf *p, struct lwipy_kept *kept)
{
  int64_t now = lwipy_now(), sent, due;
  u32_t length = p->tot_len;
  note_sent(lane, now);
  if (lane->queue.bytes + length > KEPT_MOST ||
      (lane->set.rate > 0 && lane->unsent != NULL &&
       (lane->unsent_frames >= lane->set.queue || lane->unsent_bytes + length > lane->set.queue_bytes))) {
    goto full;
  }
  sent = time_sent(lane, now, length);
  due = time_due(lane, sent);
  if (due <= now && lane->queue.first == NULL) {
    lane->count.passed++;
    lwipy_stage_pass(&impair->stage, lane->direction, p);
    if (kept != NULL) {
      lwipy_kept_free(kept);
    }
    return;
  }
  if (kept == NULL && (kept = lwipy_keep(p)) == NULL) {
    goto full;
  }
  kept->due = due;
  kept->sent = sent;
  lwipy_queue_put(&lane->queue, kept);
  if (sent > now) {
    lane->unsent = lane->unsent != NULL ? lane->unsent : kept;
    lane->unsent_frames++;
    lane->unsent_bytes += length;
  }
  lane->count.delayed++;
  lwipy_stage_wake(due);
  return;
full:
  lane->count.queue_full++;
  if (kept != NULL) {
    lwipy_kept_free(kept);
  }
}

/* ---- Overtaking ------------------------------------------------------------------------------------------------------ */

static void
let_go_first(struct impair *impair, struct lane *lane)
{
  struct lwipy_kept *kept = lane->aside[0].kept;
  lane->standing--;
  memmove(&lane->aside[0], &lane->aside[1], (size_t)lane->standing * sizeof(lane->aside[0]));
  depart(impair, lane, &kept->frame.pbuf, kept);
}

/* A frame has come; the `before` that stood aside then have been overtaken once more. */
static void
overtake(struct impair *impair, struct lane *lane, int before)
{
  int i, at;
  for (i = 0, at = 0; i < before; i++) {
    if (--lane->aside[at].to_pass == 0) {
      struct aside done = lane->aside[at];
      lane->standing--;
      memmove(&lane->aside[at], &lane->aside[at + 1], (size_t)(lane->standing - at) * sizeof(done));
      depart(impair, lane, &done.kept->frame.pbuf, done.kept);
    } else {
      at++;
    }
  }
}

static void
stand_aside(struct lane *lane, struct lwipy_kept *kept)
{
  LWIP_ASSERT("impair: more frames stand aside than can", lane->standing < ASIDE);
  kept->due = lwipy_now() + ASIDE_LONGEST;
  lane->aside[lane->standing].kept = kept;
  lane->aside[lane->standing].to_pass = 1 + (u32_t)(draw(lane) % (ASIDE - 1));
  lane->standing++;
  lane->count.reordered++;
  lwipy_stage_wake(kept->due);
}

/* ---- The stage --------------------------------------------------------------------------------------------------------- */

static void
copy_comes(struct impair *impair, struct lane *lane, const struct pbuf *p)
{
  int corrupted = chance(lane, lane->set.corrupt), overtaken = chance(lane, lane->set.reorder);
  int before = lane->standing;
  struct lwipy_kept *kept = NULL;
  if ((corrupted || overtaken) && (kept = lwipy_keep(p)) == NULL) {
    lane->count.queue_full++;
    return;
  }
  if (corrupted) {
    corrupt(lane, kept);
    p = &kept->frame.pbuf;
  }
  if (overtaken) {
    stand_aside(lane, kept);
  } else {
    depart(impair, lane, p, kept);
  }
  overtake(impair, lane, before);
}

static void
impair_frame(struct lwipy_stage *stage, int direction, const struct pbuf *p)
{
  struct impair *impair = (struct impair *)stage;
  struct lane *lane = &impair->lane[direction];
  int again;
  lane->count.frames++;
  if (chance(lane, lane->set.loss)) {
    lane->count.lost++;
    return;
  }
  again = chance(lane, lane->set.duplicate);
  copy_comes(impair, lane, p);
  if (again) {
    lane->count.duplicated++;
    copy_comes(impair, lane, p);
  }
}

static void
arrive(struct impair *impair, struct lane *lane, int64_t now)
{
  struct lwipy_kept *kept;
  note_sent(lane, now);
  while (lane->queue.first != NULL && lane->queue.first->due <= now) {
    kept = lwipy_queue_take(&lane->queue);
    lane->count.passed++;
    lwipy_stage_pass(&impair->stage, lane->direction, &kept->frame.pbuf);
    lwipy_kept_free(kept);
  }
}

static int64_t
impair_run(struct lwipy_stage *stage, int64_t now)
{
  struct impair *impair = (struct impair *)stage;
  int64_t due = LWIPY_NEVER;
  int direction;
  for (direction = LWIPY_IN; direction <= LWIPY_OUT; direction++) {
    struct lane *lane = &impair->lane[direction];
    while (lane->standing > 0 && lane->aside[0].kept->due <= now) {
      let_go_first(impair, lane);
    }
    arrive(impair, lane, now);
    due = LWIP_MIN(due, lane->standing > 0 ? lane->aside[0].kept->due : LWIPY_NEVER);
    due = LWIP_MIN(due, lane->queue.first != NULL ? lane->queue.first->due : LWIPY_NEVER);
  }
  return due;
}

static void
impair_end(struct lwipy_stage *stage, int pass_on)
{
  struct impair *impair = (struct impair *)stage;
  int direction;
  /* Towards the wire first: what comes in now may be answered at once, and the answer may not overtake. */
  for (direction = LWIPY_OUT; direction >= LWIPY_IN; direction--) {
    struct lane *lane = &impair->lane[direction];
    memset(&lane->set, 0, sizeof(lane->set));
    while (pass_on && lane->standing > 0) {
      let_go_first(impair, lane);
    }
    if (pass_on) {
      arrive(impair, lane, LWIPY_NEVER);
    }
    while (lane->standing > 0) {
      lwipy_kept_free(lane->aside[--lane->standing].kept);
    }
    lwipy_queue_clear(&lane->queue);
  }
}

static const struct lwipy_stage_kind impair_kind = { impair_frame, impair_run, impair_end };

/* ---- The border ------------------------------------------------------------------------------------------------------- */

int
core_impair_add(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct impair *impair;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  impair = lwipy_stage_new(nic, &impair_kind, LWIPY_RANK_NESTED, sizeof(*impair));
  if (impair == NULL) {
    return LWIPY_EMEM;
  }
  impair->lane[LWIPY_OUT].direction = LWIPY_OUT;
  return impair->stage.number;
}

int
core_impair_seed(int number, int stage, uint64_t seed)
{
  struct impair *impair = lwipy_stage_find(number, stage, &impair_kind);
  int direction;
  if (impair == NULL) {
    return LWIPY_ENODEV;
  }
  for (direction = LWIPY_IN; direction <= LWIPY_OUT; direction++) {
    struct lane *lane = &impair->lane[direction];
    lane->random = seed + (u64_t)direction;
    lane->random = draw(lane);       /* far apart, however near the seeds */
  }
  return 0;
}

int
core_impair_set(int number, int stage, int direction, const lwipy_impairment *set)
{
  struct impair *impair = lwipy_stage_find(number, stage, &impair_kind);
  if (impair == NULL) {
    return LWIPY_ENODEV;
  }
  impair->lane[direction].set = *set;
  return 0;
}

int
core_impair_get_counters(int number, int stage, int direction, lwipy_impair_counters *out)
{
  struct impair *impair = lwipy_stage_find(number, stage, &impair_kind);
  struct lane *lane;
  if (impair == NULL) {
    return LWIPY_ENODEV;
  }
  lane = &impair->lane[direction];
  *out = lane->count;
  out->kept = (u64_t)lane->queue.frames + (u64_t)lane->standing;
  return 0;
}
