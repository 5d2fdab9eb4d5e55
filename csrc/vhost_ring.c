/*
 * Split virtqueues (VIRTIO 1.2, 2.7), the device's side, in memory that a guest shares with us.
 *
 * Theory of operation. The guest puts buffers into a table of descriptors, which chain, and the number of each first
 * one into the "available" ring; the device gives it back in the "used" ring. Both indices run freely modulo 2^16. All of
 * it lies in the guest's memory, which a master (QEMU) hands over in regions (SET_MEM_TABLE): descriptors say guest
 * addresses, the master its own. The guest, and the master, may write anything there at any time.
 *
 * Whoever waits is told by an eventfd. With VIRTIO_RING_F_EVENT_IDX each side writes behind its ring the index at which
 * it wants to be told, without it a flag. What was written must be visible before the other side's wish is read, and the
 * own wish before the other side's index, or both could sleep.
 *
 * Invariants:
 * 1. No address is used that is not in a mapped region, with all its bytes; a region lies within its file, whose size was
 *    asked for, and which cannot shrink (F_SEAL_SHRINK) unless the user has taken that risk.
 * 2. What the guest may change is read once, into a variable, and that is checked and used.
 * 3. Every loop over a chain ends after as many descriptors as the ring has, or LWIPY_VRING_PIECES.
 * 4. An index is masked, or compared with the ring's size, before it is used. Its own indices the device keeps itself.
 */
#ifdef __linux__
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "vhost_ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_DESCRIPTORS 32768

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };      /* of a descriptor */
enum { NO_INTERRUPT = 1 };                       /* of the available ring */
enum { NO_NOTIFY = 1 };                          /* of the used ring */

struct lwipy_vring_descriptor { uint64_t address, length_flags_next; };
struct lwipy_vring_available { uint16_t flags, index, ring[]; };
struct lwipy_vring_used { uint16_t flags, index; struct { uint32_t head, written; } ring[]; };

/* ---- Memory ----------------------------------------------------------------------------------------------------------- */

static int
map(struct lwipy_region *out, const lwipy_vhost_region *region)
{
  struct stat file;
  uint64_t end = region->offset + region->size, unit;
  if (region->size == 0 || end < region->size || region->guest + region->size < region->size ||
      region->user + region->size < region->size) {
    return LWIPY_EARG;
  }
  if (fstat(region->fd, &file) != 0) {
    return LWIPY_ESYSTEM - errno;
  }
  if (file.st_size < 0 || end > (uint64_t)file.st_size || end > SIZE_MAX / 2) {
    return LWIPY_EARG;
  }
  /* From its beginning and in whole blocks: huge pages want that. */
  unit = file.st_blksize > 0 ? (uint64_t)file.st_blksize : 4096;
  out->mapped = (size_t)((end + unit - 1) / unit * unit);
  out->map = mmap(NULL, out->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, region->fd, 0);
  if (out->map == MAP_FAILED) {
    return LWIPY_ESYSTEM - errno;
  }
  out->guest = region->guest;
  out->user = region->user;
  out->size = region->size;
  out->host = (uint8_t *)out->map + region->offset;
  return 0;
}

int
lwipy_guest_map(struct lwipy_guest *guest, const lwipy_vhost_region *regions, uint32_t count)
{
  int result = count <= LWIPY_VHOST_REGIONS ? 0 : LWIPY_EARG;
  for (guest->count = 0; result == 0 && guest->count < count; ) {
    result = map(&guest->regions[guest->count], &regions[guest->count]);
    guest->count += result == 0;
  }
  if (result != 0) {
    lwipy_guest_unmap(guest);
  }
  return result;
}

void
lwipy_guest_unmap(struct lwipy_guest *guest)
{
  while (guest->count > 0) {
    guest->count--;
    munmap(guest->regions[guest->count].map, guest->regions[guest->count].mapped);
  }
}

/* Where the byte at a guest's address is, and how much of `length` is in one piece with it; NULL: nowhere. */
static uint8_t *
at_guest(const struct lwipy_guest *guest, uint64_t address, uint64_t *length)
{
  uint32_t i;
  for (i = 0; i < guest->count; i++) {
    const struct lwipy_region *region = &guest->regions[i];
    uint64_t offset = address - region->guest;
    if (address >= region->guest && offset < region->size) {
      *length = *length < region->size - offset ? *length : region->size - offset;
      return region->host + offset;
    }
  }
  return NULL;
}

/* A part of a ring, at the emulator's address; all in one region. */
static void *
at_user(const struct lwipy_guest *guest, uint64_t address, uint64_t length, uint64_t aligned)
{
  uint32_t i;
  for (i = 0; i < guest->count; i++) {
    const struct lwipy_region *region = &guest->regions[i];
    uint64_t offset = address - region->user;
    if (address >= region->user && offset < region->size && length <= region->size - offset) {
      uint8_t *at = region->host + offset;
      return (uintptr_t)at % aligned == 0 ? at : NULL;
    }
  }
  return NULL;
}

/* ---- Rings ------------------------------------------------------------------------------------------------------------ */

int
lwipy_vring_open(struct lwipy_vring *ring, const struct lwipy_guest *guest, const lwipy_vhost_ring *is, int event_index)
{
  uint64_t size = is->size;
  memset(ring, 0, sizeof(*ring));
  ring->call = -1;
  if (size == 0 || size > MOST_DESCRIPTORS || (size & (size - 1)) != 0) {
    return LWIPY_EARG;
  }
  ring->size = is->size;
  ring->event_index = event_index != 0;
  ring->descriptors = at_user(guest, is->descriptors, 16 * size, 16);
  ring->available = at_user(guest, is->available, 2 * size + 6, 2);
  ring->used = at_user(guest, is->used, 8 * size + 6, 4);
  if (ring->descriptors == NULL || ring->available == NULL || ring->used == NULL) {
    return LWIPY_EARG;
  }
  ring->taken = (uint16_t)is->base;
  ring->given = ring->told = __atomic_load_n(&ring->used->index, __ATOMIC_ACQUIRE);
  ring->call = is->call;
  return 0;
}

/* Where the guest says at which index it wants to be told, and the device at which it wants to be kicked. */
static uint16_t *
used_event(const struct lwipy_vring *ring)
{
  return &ring->available->ring[ring->size];
}

static uint16_t *
available_event(const struct lwipy_vring *ring)
{
  return (uint16_t *)(void *)&ring->used->ring[ring->size];
}

int
lwipy_vring_waiting(const struct lwipy_vring *ring)
{
  uint16_t count = (uint16_t)(__atomic_load_n(&ring->available->index, __ATOMIC_ACQUIRE) - ring->taken);
  return count <= ring->size ? count : LWIPY_VRING_JUMPS;
}

static int
add_pieces(const struct lwipy_guest *guest, uint64_t address, uint64_t length, struct iovec *pieces, uint32_t *count)
{
  while (length > 0) {
    uint64_t here = length;
    uint8_t *at = at_guest(guest, address, &here);
    if (at == NULL) {
      return LWIPY_VRING_MEMORY;
    }
    if (*count == LWIPY_VRING_PIECES) {
      return LWIPY_VRING_CHAIN;
    }
    pieces[*count].iov_base = at;
    pieces[(*count)++].iov_len = (size_t)here;
    address += here;
    length -= here;
  }
  return 0;
}

int
lwipy_vring_look(const struct lwipy_vring *ring, const struct lwipy_guest *guest, uint16_t ahead, int writable,
                 struct lwipy_buffer *out, struct iovec *pieces, uint32_t *count)
{
  uint32_t left = ring->size;
  uint16_t next = __atomic_load_n(&ring->available->ring[(uint16_t)(ring->taken + ahead) & (ring->size - 1)],
                                  __ATOMIC_RELAXED);
  out->head = next;
  out->bytes = 0;
  for (;;) {
    uint64_t address, rest;
    uint16_t flags;
    int result;
    if (next >= ring->size) {
      return LWIPY_VRING_HEAD;
    }
    if (left-- == 0) {
      return LWIPY_VRING_CHAIN;
    }
    address = __atomic_load_n(&ring->descriptors[next].address, __ATOMIC_RELAXED);
    rest = __atomic_load_n(&ring->descriptors[next].length_flags_next, __ATOMIC_RELAXED);
    flags = (uint16_t)(rest >> 32);
    if ((flags & INDIRECT) || !(flags & WRITE) != !writable) {
      return LWIPY_VRING_FLAGS;
    }
    if ((result = add_pieces(guest, address, (uint32_t)rest, pieces, count)) != 0) {
      return result;
    }
    out->bytes += (uint32_t)rest;
    if (!(flags & NEXT)) {
      return 0;
    }
    next = (uint16_t)(rest >> 48);
  }
}

void
lwipy_vring_give(struct lwipy_vring *ring, uint16_t head, uint32_t written)
{
  uint32_t at = ring->given & (ring->size - 1);
  __atomic_store_n(&ring->used->ring[at].head, head, __ATOMIC_RELAXED);
  __atomic_store_n(&ring->used->ring[at].written, written, __ATOMIC_RELAXED);
  ring->taken++;
  ring->given++;
}

void
lwipy_vring_publish(struct lwipy_vring *ring)
{
  __atomic_store_n(&ring->used->index, ring->given, __ATOMIC_RELEASE);
}

/* ---- Telling each other ------------------------------------------------------------------------------------------------- */

static int
wants_to_know(const struct lwipy_vring *ring)
{
  if (ring->event_index) {
    uint16_t event = __atomic_load_n(used_event(ring), __ATOMIC_RELAXED);
    return (uint16_t)(ring->given - event - 1) < (uint16_t)(ring->given - ring->told);
  }
  return !(__atomic_load_n(&ring->available->flags, __ATOMIC_RELAXED) & NO_INTERRUPT);
}

void
lwipy_vring_tell(struct lwipy_vring *ring)
{
  uint64_t one = 1;
  if (ring->given == ring->told) {
    return;
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (wants_to_know(ring) && ring->call >= 0) {
    /* A full counter is already an interrupt. */
    ssize_t written = write(ring->call, &one, sizeof(one));
    (void)written;
  }
  ring->told = ring->given;
}

void
lwipy_vring_listen(struct lwipy_vring *ring, uint16_t seen)
{
  if (ring->event_index) {
    __atomic_store_n(available_event(ring), (uint16_t)(ring->taken + seen), __ATOMIC_RELAXED);
  } else {
    __atomic_store_n(&ring->used->flags, 0, __ATOMIC_RELAXED);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* With an index there is nothing to do: it lies behind. */
void
lwipy_vring_ignore(struct lwipy_vring *ring)
{
  if (!ring->event_index) {
    __atomic_store_n(&ring->used->flags, NO_NOTIFY, __ATOMIC_RELAXED);
  }
}
#endif
