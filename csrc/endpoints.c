/*
 * Handles and the event ring: how Python names endpoints and hears from them.
 *
 * Theory of operation. Each endpoint sits in a slot of a growing table; its handle is the slot's number and the
 * slot's generation, which grows each time the slot is given away. An endpoint with news links itself into the
 * ring once; Python drains the ring with lwipy_events().
 *
 * Invariants:
 * 1. A handle finds its endpoint or nothing, never another endpoint.
 * 2. An endpoint is on the ring at most once; whoever frees it takes it off first.
 * 3. READABLE and WRITABLE are reported once, then not again until an operation had to wait (`armed`). So an
 *    application that is busy reading is never interrupted to be told that there is more.
 * 4. What happens to an endpoint is told to the threads that wait for it in C (waiters.c), then to Python, unless it is
 *    `quiet`. Python makes it so where it asks the endpoint itself when its threads return.
 * 5. No callback of lwIP runs Python or closes a pcb: it queues, and calls lwipy_signal().
 */
#include "core.h"
#include "waiters.h"

#include <string.h>

#include "lwip/mem.h"

#define ONCE (LWIPY_READABLE | LWIPY_WRITABLE)

struct slot {
  struct lwipy_end *end;
  u32_t generation;
  u32_t next_free;       /* 0: none; slot 0 is never used, so that no handle is 0 */
};

static struct slot *slots;
static u32_t slot_count, slot_room, free_slot;
static size_t live;
static struct lwipy_end *ring_head, **ring_tail = &ring_head;

static int
grow(void)
{
  u32_t room = slot_room ? slot_room * 2 : 64;
  struct slot *bigger = mem_malloc(room * sizeof(*bigger));
  if (bigger == NULL) {
    return -1;
  }
  if (slots != NULL) {
    memcpy(bigger, slots, slot_count * sizeof(*bigger));
    mem_free(slots);
  } else {
    memset(bigger, 0, sizeof(*bigger));
    slot_count = 1;
  }
  slots = bigger;
  slot_room = room;
  return 0;
}

/* A zeroed endpoint of `size` bytes whose first member is a struct lwipy_end; NULL when memory is out. */
void *
lwipy_end_new(enum lwipy_kind kind, size_t size)
{
  struct lwipy_end *end;
  u32_t slot = free_slot;
  if (slot == 0 && slot_count == slot_room && grow() != 0) {
    return NULL;
  }
  if ((end = mem_calloc(1, (mem_size_t)size)) == NULL) {
    return NULL;
  }
  if (slot != 0) {
    free_slot = slots[slot].next_free;
  } else {
    slot = slot_count++;
    slots[slot].generation = 0;
  }
  slots[slot].end = end;
  slots[slot].generation++;
  end->handle = ((lwipy_handle)slots[slot].generation << 32) | slot;
  end->kind = (u8_t)kind;
  end->armed = ONCE;
  live++;
  return end;
}

void *
lwipy_end_find(lwipy_handle handle, enum lwipy_kind kind)
{
  u32_t slot = (u32_t)handle;
  struct lwipy_end *end;
  if (slot >= slot_count || (end = slots[slot].end) == NULL || end->handle != handle) {
    return NULL;
  }
  return kind == LWIPY_KIND_ANY || end->kind == kind ? end : NULL;
}

static void
leave_ring(struct lwipy_end *end)
{
  struct lwipy_end **link = &ring_head;
  while (*link != end) {
    link = &(*link)->next;
  }
  *link = end->next;
  if (*link == NULL) {
    ring_tail = link;
  }
}

void
lwipy_end_free(struct lwipy_end *end)
{
  u32_t slot = (u32_t)end->handle;
  if (end->queued) {
    leave_ring(end);
  }
  lwipy_waiters_signal(lwipy_self, end->handle, ~(u32_t)0);
  slots[slot].end = NULL;
  slots[slot].next_free = free_slot;
  free_slot = slot;
  live--;
  mem_free(end);
}

size_t
lwipy_end_count(void)
{
  return live;
}

void
lwipy_signal(struct lwipy_end *end, u32_t events)
{
  events &= end->armed | ~(u32_t)ONCE;
  if (events == 0) {
    return;
  }
  end->armed &= ~events;
  lwipy_waiters_signal(lwipy_self, end->handle, events);
  if (end->quiet) {
    return;
  }
  end->events |= events;
  if (!end->queued) {
    end->queued = 1;
    end->next = NULL;
    *ring_tail = end;
    ring_tail = &end->next;
    lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_EVENTS);
  }
}

/* ---- What threads that wait need to know ----------------------------------------------------------------------- */

/* Whether one of `wanted` was reported since an operation had to wait for it. */
int
core_missed(lwipy_handle handle, int wanted)
{
  const struct lwipy_end *end = lwipy_end_find(handle, LWIPY_KIND_ANY);
  return end == NULL ? LWIPY_EHANDLE : (end->armed & (u32_t)wanted) != (u32_t)wanted;
}

int
core_rouse(lwipy_handle handle)
{
  struct lwipy_end *end = lwipy_end_find(handle, LWIPY_KIND_ANY);
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  lwipy_signal(end, ONCE);
  return 0;
}

int
core_quiet(lwipy_handle handle, int on)
{
  struct lwipy_end *end = lwipy_end_find(handle, LWIPY_KIND_ANY);
  if (end == NULL) {
    return LWIPY_EHANDLE;
  }
  end->quiet = on != 0;
  return 0;
}

/* ---- The ring's end ---------------------------------------------------------------------------------------------- */

int
core_events(lwipy_event *out, int room)
{
  int count = 0;
  while (count < room && ring_head != NULL) {
    struct lwipy_end *end = ring_head;
    ring_head = end->next;
    end->queued = 0;
    out[count].handle = end->handle;
    out[count].events = end->events;
    end->events = 0;
    count++;
  }
  if (ring_head == NULL) {
    ring_tail = &ring_head;
    lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_EVENTS);
  }
  return count;
}
