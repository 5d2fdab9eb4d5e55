/*
 * The allocator of one core: all that lwIP and the port allocate lies in one stretch of address space.
 *
 * Theory of operation. The stretch is reserved once and costs memory only where it was touched. A block comes from
 * the free list of its size class, else from the end of what is used (`top`). Small classes are 16 bytes apart, for a
 * connection is few small blocks and there may be many; larger ones are four to a doubling, so at most a quarter is
 * wasted. lwIP allocates few distinct sizes, so the lists serve nearly every call. When the stretch is used up, a small
 * block may come from a list of larger ones: what was packets once must not be lost to everything else.
 * A fault for each page costs more than clearing it: pages are populated in batches, a few at a time within the first
 * megabyte, which most stacks never exceed, and from the next boundary on they are large. But a hypervisor may have
 * taken back what its guest had free, and give a large page again piece by piece, in milliseconds, while the guest still
 * has small ones at hand. So the first touch of each large one is timed, and after a slow one all are small.
 *
 * Invariants:
 * 1. A block belongs to its class for ever; memory goes back to the system when the core is closed, at once.
 * 2. Nothing outside the stretch is ever handed out, and nothing grows beyond `limit`: NULL is the answer then.
 * 3. `used` is what blocks that are handed out take, but for those that their holder calls spare.
 * 4. Eight bytes before each block hold its class and a mark that tells used from free; a double free is an
 *    assertion, not a corrupted list.
 */
#include "core.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define LWIPY_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LWIPY_ASAN 1
#endif
#endif
#ifdef LWIPY_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n)   do {} while (0)
#define UNPOISON(p, n) do {} while (0)
#endif

#define STEP        16                   /* between the sizes of small blocks, header included */
#define SMALL_SHIFT 9                    /* up to 512 bytes */
#define SMALL       ((1u << SMALL_SHIFT) / STEP)
#define MAX_SHIFT   24                   /* the largest is 16 MB */
#define CLASSES     (SMALL + (MAX_SHIFT - SMALL_SHIFT) * 4)
#define BORROW      12                   /* classes above its own, for a small block in need */
#define COMMIT_STEP ((size_t)1 << 20)
#define PLAIN       ((size_t)1 << 20)    /* has its pages in small batches */
#define FEW         ((size_t)16 << 10)   /* populated at once there, */
#define BATCH       ((size_t)128 << 10)  /* and behind */
#define MOST        ((size_t)UINT32_MAX * 8)   /* what buckets.h can tell places in */
#define MARK_USED   0x75736564u
#define MARK_FREE   0x66726565u

struct header {
  u32_t class;
  u32_t mark;
};

u8_t *lwipy_arena;
static u8_t *top, *committed, *end;
static u8_t *entered, *large;            /* how far pages were seen to, and where large ones begin */
static struct header *free_list[CLASSES];
static size_t used;

/* The boundary there, or behind it. */
static u8_t *
page_after(u8_t *at)
{
  return at + (0 - (uintptr_t)at) % LWIPY_PAGE;
}

/* What is used grows beyond `entered`, as far as `next`. */
static void
enter_pages(u8_t *next)
{
  int slow;
  if (entered < large) {
    size_t batch = entered < lwipy_arena + PLAIN ? FEW : BATCH;
    size_t batches = ((size_t)(next - entered) + batch - 1) / batch * batch;
    batches = LWIP_MIN(batches, (size_t)(large - entered));
    lwipy_populate(entered, batches);
    entered += batches;
  }
  if (next <= entered) {
    return;                        /* later, what lies behind would be somebody's already */
  }
  UNPOISON(entered, sizeof(struct header));
  slow = lwipy_page_is_slow(entered);
  POISON(entered, sizeof(struct header));
  entered = LWIP_MIN(page_after(next), end);
  large = entered;
  if (slow) {
    lwipy_enlarge_pages(entered, (size_t)(end - entered), 0);
    large = end;
  }
}

int
lwipy_arena_open(size_t limit)
{
  limit = LWIP_MIN(limit, MOST);
  while ((lwipy_arena = lwipy_reserve(limit)) == NULL) {
    limit /= 2;
    if (limit < COMMIT_STEP) {
      return -1;
    }
  }
  top = committed = lwipy_arena;
  end = lwipy_arena + limit;
  entered = lwipy_arena;
  large = limit > PLAIN ? LWIP_MIN(page_after(lwipy_arena + PLAIN), end) : end;
  lwipy_enlarge_pages(large, (size_t)(end - large), 1);
  POISON(lwipy_arena, limit);
  return 0;
}

void
lwipy_arena_close(void)
{
  if (lwipy_arena != NULL) {
    UNPOISON(lwipy_arena, (size_t)(end - lwipy_arena));
    lwipy_unreserve(lwipy_arena, (size_t)(end - lwipy_arena));
    lwipy_arena = NULL;
  }
}

size_t
lwipy_arena_used(void)
{
  return used;
}

size_t
lwipy_arena_limit(void)
{
  return (size_t)(end - lwipy_arena);
}

static u32_t
class_of(size_t size)
{
  u32_t shift = SMALL_SHIFT;
  if (size <= (size_t)1 << SMALL_SHIFT) {
    return (u32_t)((size - 1) / STEP);
  }
#if defined(__GNUC__)
  shift = (u32_t)(63 - __builtin_clzll((unsigned long long)(size - 1)));
#else
  while (((size - 1) >> (shift + 1)) != 0) {
    shift++;
  }
#endif
  /* 2^shift < size <= 2^(shift+1): which quarter of the way? */
  return SMALL + (shift - SMALL_SHIFT) * 4 + (u32_t)((size - 1 - ((size_t)1 << shift)) >> (shift - 2));
}

static size_t
size_of(u32_t class)
{
  u32_t shift = SMALL_SHIFT + (class - SMALL) / 4;
  if (class < SMALL) {
    return (size_t)(class + 1) * STEP;
  }
  return ((size_t)1 << shift) + ((size_t)((class - SMALL) % 4 + 1) << (shift - 2));
}

int
lwipy_arena_is_low(void)
{
  size_t limit = (size_t)(end - lwipy_arena);
  return limit - used < limit / 16;
}

static struct header *
extend(u32_t class)
{
  size_t size = size_of(class);
  struct header *block = (struct header *)(void *)top;
  if (size > (size_t)(end - top)) {
    return NULL;
  }
  if (top + size > committed) {
    size_t step = (size + COMMIT_STEP - 1) / COMMIT_STEP * COMMIT_STEP;
    step = LWIP_MIN(step, (size_t)(end - committed));
    if (lwipy_commit(committed, step) != 0) {
      return NULL;
    }
    committed += step;
  }
  if (top + size > entered) {
    enter_pages(top + size);
  }
  UNPOISON(block, sizeof(*block));
  block->class = class;
  top += size;
  return block;
}

/* `class`, or a larger one that has a free block when the stretch is used up. */
static u32_t
class_with_room(u32_t class)
{
  u32_t larger = class, most = LWIP_MIN(LWIP_MAX(class, SMALL) + BORROW, CLASSES);
  if (free_list[class] != NULL || size_of(class) <= (size_t)(end - top)) {
    return class;
  }
  while (++larger < most) {
    if (free_list[larger] != NULL) {
      return larger;
    }
  }
  return class;
}

void *
lwipy_arena_malloc(size_t size)
{
  struct header *block;
  u32_t class;
  if (size > ((size_t)1 << MAX_SHIFT) - sizeof(struct header)) {
    return NULL;
  }
  class = class_with_room(class_of(size + sizeof(struct header)));
  block = free_list[class];
  if (block != NULL) {
    LWIP_ASSERT("arena: block on a free list is in use", block->mark == MARK_FREE);
    UNPOISON(block + 1, sizeof(block));
    memcpy(&free_list[class], block + 1, sizeof(block));
  } else if ((block = extend(class)) == NULL) {
    return NULL;
  }
  block->mark = MARK_USED;
  used += size_of(class);
  UNPOISON(block + 1, size);
  return block + 1;
}

void *
lwipy_arena_calloc(size_t count, size_t size)
{
  void *block;
  if (size != 0 && count > SIZE_MAX / size) {
    return NULL;
  }
  block = lwipy_arena_malloc(count * size);
  if (block != NULL) {
    memset(block, 0, count * size);
  }
  return block;
}

void
lwipy_arena_free(void *memory)
{
  struct header *block;
  if (memory == NULL) {
    return;
  }
  block = (struct header *)memory - 1;
  LWIP_ASSERT("arena: freed twice, or never allocated", block->mark == MARK_USED);
  block->mark = MARK_FREE;
  used -= size_of(block->class);
  UNPOISON(block + 1, sizeof(block));    /* the link may be longer than what was asked for */
  memcpy(block + 1, &free_list[block->class], sizeof(block));
  free_list[block->class] = block;
  POISON(block + 1, size_of(block->class) - sizeof(*block));
}

void
lwipy_arena_spare(const void *memory, int spare)
{
  size_t size = size_of(((const struct header *)memory - 1)->class);
  used = spare ? used - size : used + size;
}
