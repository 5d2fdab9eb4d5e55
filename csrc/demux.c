/*
 * The demultiplexer: tens of thousands of connections, each found in a list of about one.
 *
 * Theory of operation. lwIP looks for the connection of a segment in one list of all (tcp_active_pcbs, then
 * tcp_tw_pcbs), and through the same lists go its timers. Here the connections are kept in buckets, by a hash of their
 * 4-tuple, and before lwIP looks, those two lists are made the bucket's: lwIP searches, inserts and removes there by
 * itself and knows nothing of it. The heads that lwIP may have changed are put back into the bucket when the next one
 * is selected. The hash has a key, so that no peer can aim at one bucket. There are at least as many buckets as there
 * are connections, and more or fewer as these come and go: four times as many at once, for whoever is put into another
 * bucket has to come from memory.
 *
 * When that happens: in tcp_input(), once lwIP knows the packet's addresses and before it searches (hooks.h has the
 * place; so packets of links, loopback, fragments put together are all the same); and before each call that the
 * port makes for a pcb (lwipy_tcp_use_window). What looks through all connections must not see one bucket only:
 * - tcp_bind() and tcp_new_port() look for a port: ports.c does that for them;
 * - tcp_netif_ip_addr_changed() aborts connections: it is called again for every bucket: demux_addresses.c;
 * - tcp_slowtmr() and tcp_fasttmr() are called for each bucket that is due: tcp_timers.c;
 * - tcp_listen_closed() forgets the listener in its half-open connections: half_open.c ends those before;
 * - tcp_alloc() without memory ends others, the oldest in TIME_WAIT first: half_open.c and tcp.c make room before.
 *
 * Each bucket says when it wants the timers; 64 of them make a group, which has the least of theirs. Who has selected
 * a bucket may have done anything to its connections, so it is asked again when it is left, while they are still in the
 * processor's cache. Buckets whose connections all rest cost nothing.
 *
 * Invariants:
 * 1. A pcb in the state SYN_SENT or later is in the bucket of its 4-tuple, and its 4-tuple does not change.
 * 2. `at` is the bucket whose lists lwIP has; its own heads are stale until another is selected. `nowhere` is no
 *    connection's bucket and always empty.
 * 3. The number of buckets changes only in lwipy_demux_select() and after a tick, never while lwIP walks a list.
 * 4. A group's `due` is no later than that of any of its buckets, `least` no later than that of any group.
 *    A bucket's is what its connections want, but for the one at hand while it is `unsettled`.
 * 5. With one bucket, to which lwipy_demux_open(0) keeps it, all this is what lwIP does by itself.
 */
#include "buckets.h"
#include "demux.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/priv/tcp_priv.h"

#define FEWEST     256
#define MOST       (1u << 20)
#define GROUP      64
#define AHEAD      16                  /* buckets: so long a connection takes to come from memory */
#define ENDS       128                 /* bytes of a pcb that its ends and the next one are in */
#define IN_TIME_WAIT 16384           /* connections; the oldest found end before their time then */

static struct lwipy_bucket nowhere = {0, 0, LWIPY_NO_TICK};
static struct lwipy_bucket *buckets, *at = &nowhere;
static int64_t *groups;
static u32_t mask, hand;             /* buckets, less one; where shedding goes on */
static int fixed, unsettled;
static int64_t least = LWIPY_NEVER;
static size_t live;                  /* pcbs of any kind */
static unsigned in_time_wait;

int64_t lwipy_tick;

/* ---- Buckets ------------------------------------------------------------------------------------------------------ */

static int64_t *
group_of(const struct lwipy_bucket *bucket)
{
  return &groups[(size_t)(bucket - buckets) / GROUP];
}

static void
wanted_at(struct lwipy_bucket *bucket, int64_t tick)
{
  if (tick < lwipy_bucket_due(bucket)) {
    int64_t *group = group_of(bucket);
    bucket->due = lwipy_bucket_tick(tick);
    *group = LWIP_MIN(*group, tick);
    least = LWIP_MIN(least, tick);
  }
}

static void
settle(void)
{
  if (unsettled) {
    unsettled = 0;
    at->due = LWIPY_NO_TICK;
    wanted_at(at, lwipy_tcp_timers_wanted());
  }
}

static void
point(struct lwipy_bucket *bucket)
{
  if (bucket != at) {
    settle();
    at->active = lwipy_bucket_place(tcp_active_pcbs);
    at->time_wait = lwipy_bucket_place(tcp_tw_pcbs);
    LWIP_ASSERT("a connection that no bucket was selected for", nowhere.active == 0 && nowhere.time_wait == 0);
    at = bucket;
    tcp_active_pcbs = lwipy_bucket_pcb(bucket->active);
    tcp_tw_pcbs = lwipy_bucket_pcb(bucket->time_wait);
    lwipy_bucket_prefetch(tcp_active_pcbs, sizeof(struct tcp_pcb));
  }
}

/* After something else was pointed at: whoever had selected `before` goes on with it. */
static void
point_again(struct lwipy_bucket *before)
{
  point(before);
  unsettled = before != &nowhere;
}

static void
rehash(struct tcp_pcb *pcb, int time_wait, int64_t due)
{
  while (pcb != NULL) {
    u32_t hash = lwipy_demux_hash(&pcb->local_ip, pcb->local_port, &pcb->remote_ip, pcb->remote_port);
    struct lwipy_bucket *bucket = &buckets[hash & mask];
    struct tcp_pcb *next = pcb->next;
    u32_t *list = time_wait ? &bucket->time_wait : &bucket->active;
    pcb->next = lwipy_bucket_pcb(*list);
    *list = lwipy_bucket_place(pcb);
    wanted_at(bucket, due);
    pcb = next;
  }
}

static int
resize(u32_t count)
{
  struct lwipy_bucket *before = buckets, *after;
  u32_t old = mask, i;
  size_t group_count = (count - 1) / GROUP + 1;
  int64_t *memory = mem_malloc(group_count * sizeof(*groups) + count * sizeof(*after)), *former = groups;
  if (memory == NULL) {
    return -1;
  }
  after = (struct lwipy_bucket *)(void *)(memory + group_count);
  lwipy_demux_nowhere();
  memset(after, 0, count * sizeof(*after));
  buckets = after;
  groups = memory;
  mask = count - 1;
  hand = 0;
  least = LWIPY_NEVER;
  for (i = 0; i < count; i++) {
    after[i].due = LWIPY_NO_TICK;
  }
  for (i = 0; i < group_count; i++) {
    groups[i] = LWIPY_NEVER;
  }
  for (i = 0; before != NULL && i <= old; i++) {
    const struct tcp_pcb *soon = lwipy_bucket_pcb(before[LWIP_MIN(i + AHEAD, old)].active);
    lwipy_bucket_prefetch(lwipy_bucket_pcb(before[LWIP_MIN(i + 2 * AHEAD, old)].active), ENDS);
    if (soon != NULL) {
      lwipy_bucket_prefetch(soon->next, ENDS);
    }
    rehash(lwipy_bucket_pcb(before[i].active), 0, lwipy_bucket_due(&before[i]));
    rehash(lwipy_bucket_pcb(before[i].time_wait), 1, lwipy_bucket_due(&before[i]));
  }
  if (former != NULL) {
    mem_free(former);
  }
  return 0;
}

void
lwipy_demux_born(void)
{
  live++;
}

void
lwipy_demux_died(void)
{
  live--;
}

/* ---- Selecting ---------------------------------------------------------------------------------------------------- */

void
lwipy_demux_select(u32_t hash)
{
  if (live > mask && !fixed && mask + 1 < MOST) {
    resize((mask + 1) * 4);          /* without memory for it the lists are longer, that is all */
  }
  point(&buckets[hash & mask]);
  unsettled = 1;
}

void
lwipy_demux_nowhere(void)
{
  point(&nowhere);
}

static int
is_between(const struct tcp_pcb *pcb, const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote,
           u16_t remote_port)
{
  return pcb->remote_port == remote_port && pcb->local_port == local_port && ip_addr_eq(&pcb->remote_ip, remote) &&
         ip_addr_eq(&pcb->local_ip, local);
}

struct tcp_pcb *
lwipy_demux_find(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
  struct tcp_pcb *pcb;
  int time_wait;
  lwipy_demux_select(lwipy_demux_hash(local, local_port, remote, remote_port));
  for (time_wait = 0; time_wait < 2; time_wait++) {
    for (pcb = time_wait ? tcp_tw_pcbs : tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
      if (is_between(pcb, local, local_port, remote, remote_port)) {
        return pcb;
      }
    }
  }
  return NULL;
}

void
lwipy_demux_each(void (*visit)(void *argument), void *argument)
{
  struct lwipy_bucket *before = at;
  u32_t i;
  lwipy_demux_nowhere();
  for (i = 0; i <= mask; i++) {
    if (buckets[i].active != 0 || buckets[i].time_wait != 0) {
      point(&buckets[i]);
      visit(argument);
    }
  }
  point_again(before);
}

/* ---- lwIP's side --------------------------------------------------------------------------------------------------- */

static const struct tcp_pcb *time_wait_before;

/* At the start of tcp_input(): `p` begins with the TCP header, as it came. */
void
lwipy_segment_begin(const struct pbuf *p)
{
  const struct tcp_hdr *header = p->payload;
  if (p->len >= TCP_HLEN) {
    u16_t ours = lwip_ntohs(header->dest), theirs = lwip_ntohs(header->src);
    const ip_addr_t *local = ip_current_dest_addr(), *remote = ip_current_src_addr();
    /* Segments come in trains: the one before is likely to have been of the same connection. */
    if (tcp_active_pcbs != NULL && is_between(tcp_active_pcbs, local, ours, remote, theirs)) {
      unsettled = 1;
    } else {
      lwipy_demux_select(lwipy_demux_hash(local, ours, remote, theirs));
    }
  }
  time_wait_before = tcp_tw_pcbs;
}

/* At its end, when the segment was a connection's. */
void
lwipy_segment_end(void)
{
  if (tcp_tw_pcbs != time_wait_before && tcp_tw_pcbs != NULL && ++in_time_wait > IN_TIME_WAIT) {
    lwipy_demux_shed(1);
  }
}

int
lwipy_demux_open(int on)
{
  lwipy_demux_watch_addresses();
  lwipy_demux_draw_factors();
  fixed = !on;
  return resize(on ? FEWEST : 1);
}

/* ---- TIME_WAIT ------------------------------------------------------------------------------------------------------ */

void
lwipy_demux_left_time_wait(unsigned count)
{
  in_time_wait -= LWIP_MIN(count, in_time_wait);
}

unsigned
lwipy_demux_shed(unsigned count)
{
  struct lwipy_bucket *before = at;
  unsigned done = 0;
  u32_t looked;
  lwipy_demux_nowhere();
  for (looked = 0; looked <= mask && done < count; looked++, hand = (hand + 1) & mask) {
    if (buckets[hand].time_wait != 0) {
      struct tcp_pcb *oldest;
      point(&buckets[hand]);
      for (oldest = tcp_tw_pcbs; oldest->next != NULL; oldest = oldest->next) {
      }
      tcp_abort(oldest);             /* says nothing to the peer in this state */
      done++;
    }
  }
  point_again(before);
  lwipy_demux_left_time_wait(done);
  lwipy_drops.time_wait += done;
  return done;
}

/* ---- In builds with sanitizers, after every tick ----------------------------------------------------------------------- */

#ifdef LWIPY_CHECKS
static void
check_list(const struct lwipy_bucket *bucket, const struct tcp_pcb *pcb, int time_wait)
{
  for (; pcb != NULL; pcb = pcb->next) {
    u32_t hash = lwipy_demux_hash(&pcb->local_ip, pcb->local_port, &pcb->remote_ip, pcb->remote_port);
    LWIP_ASSERT("a connection is in another's bucket", &buckets[hash & mask] == bucket);
    LWIP_ASSERT("a connection is in the wrong list", (pcb->state == TIME_WAIT) == time_wait && pcb->state > LISTEN);
    LWIP_ASSERT("nobody looks after an unacknowledged segment", pcb->unacked == NULL || bucket->due != LWIPY_NO_TICK);
    LWIP_ASSERT("TIME_WAIT has no end", !time_wait || bucket->due != LWIPY_NO_TICK);
  }
}

static void
check(void)
{
  u32_t i;
  lwipy_demux_nowhere();
  for (i = 0; i <= mask; i++) {
    LWIP_ASSERT("a bucket is due before its group", *group_of(&buckets[i]) <= lwipy_bucket_due(&buckets[i]));
    LWIP_ASSERT("a group is due before all", least <= *group_of(&buckets[i]));
    check_list(&buckets[i], lwipy_bucket_pcb(buckets[i].active), 0);
    check_list(&buckets[i], lwipy_bucket_pcb(buckets[i].time_wait), 1);
  }
}
#else
#define check() do {} while (0)
#endif

/* ---- Ticks ---------------------------------------------------------------------------------------------------------- */

int64_t
lwipy_demux_due(void)
{
  settle();
  return least;
}

static void
run_group(int64_t *group, struct lwipy_bucket *first, const struct lwipy_bucket *end, int64_t (*run)(void))
{
  struct lwipy_bucket *bucket;
  *group = LWIPY_NEVER;
  for (bucket = first; bucket < end; bucket++) {
    if (lwipy_bucket_due(bucket) <= lwipy_tick) {
      point(bucket);
      bucket->due = LWIPY_NO_TICK;
      wanted_at(bucket, run());
    } else {
      *group = LWIP_MIN(*group, lwipy_bucket_due(bucket));
    }
  }
}

static void
shrink(void)
{
  u32_t count = mask + 1;
  if (!fixed && live < count / 8) {
    while (count > FEWEST && live < count / 4) {
      count /= 2;
    }
    if (count <= mask) {
      resize(count);
    }
  }
}

void
lwipy_demux_run(int64_t (*run)(void))
{
  size_t i, count = mask / GROUP + 1;
  lwipy_demux_nowhere();
  for (i = 0; i < count; i++) {
    if (groups[i] <= lwipy_tick) {
      run_group(&groups[i], buckets + i * GROUP, buckets + LWIP_MIN((i + 1) * GROUP, (size_t)mask + 1), run);
    }
  }
  least = LWIPY_NEVER;
  for (i = 0; i < count; i++) {
    least = LWIP_MIN(least, groups[i]);
  }
  shrink();
  check();
}
