/*
 * A guest's memory and its virtio rings, seen from the device's side: see vhost_ring.c.
 */
#ifndef LWIPY_VHOST_RING_H
#define LWIPY_VHOST_RING_H

#include "lwipy.h"

#include <sys/uio.h>

/* What of the guest's memory is mapped here. */
struct lwipy_guest {
  struct lwipy_region {
    uint64_t guest, user, size;    /* its addresses in the guest and in the emulator */
    uint8_t *host;                 /* and here */
    void *map;
    size_t mapped;
  } regions[LWIPY_VHOST_REGIONS];
  uint32_t count;
};

int lwipy_guest_map(struct lwipy_guest *guest, const lwipy_vhost_region *regions, uint32_t count);   /* 0, or a code */
void lwipy_guest_unmap(struct lwipy_guest *guest);

struct lwipy_vring {
  const struct lwipy_vring_descriptor *descriptors;
  struct lwipy_vring_available *available;
  struct lwipy_vring_used *used;
  uint32_t size;
  uint16_t taken, given;           /* indices of the next to take and to give back, modulo 2^16 */
  uint16_t told;                   /* `given` when the guest was last told, or need not be */
  uint8_t event_index;
  int call;                        /* -1: the guest looks by itself */
};

/* What a ring may say that costs the link; the numbers are told to Python. */
enum { LWIPY_VRING_JUMPS = -1, LWIPY_VRING_HEAD = -2, LWIPY_VRING_CHAIN = -3, LWIPY_VRING_MEMORY = -4,
       LWIPY_VRING_FLAGS = -5 };

int lwipy_vring_open(struct lwipy_vring *ring, const struct lwipy_guest *guest, const lwipy_vhost_ring *is,
                     int event_index);   /* 0, or LWIPY_EARG */

/* How many buffers the guest has made available, or LWIPY_VRING_JUMPS. */
int lwipy_vring_waiting(const struct lwipy_vring *ring);

/* The `ahead`-th of them: its pieces here, behind the `count` that are there already, and its bytes. 0, or one of the
   above. `writable`: it must be for the device to write into; else, to read. */
#define LWIPY_VRING_PIECES 1024
struct lwipy_buffer {
  uint16_t head;
  uint64_t bytes;
};
int lwipy_vring_look(const struct lwipy_vring *ring, const struct lwipy_guest *guest, uint16_t ahead, int writable,
                     struct lwipy_buffer *out, struct iovec *pieces, uint32_t *count);

/* Gives the buffer that was next back, with so many bytes written; the guest sees it after the publication. */
void lwipy_vring_give(struct lwipy_vring *ring, uint16_t head, uint32_t written);
void lwipy_vring_publish(struct lwipy_vring *ring);
void lwipy_vring_tell(struct lwipy_vring *ring);   /* interrupts the guest, if there is news and it wants that */

/* The guest is to kick when it makes more buffers available than the `seen` that are waiting; look again after that. Or
   it need not, until then. */
void lwipy_vring_listen(struct lwipy_vring *ring, uint16_t seen);
void lwipy_vring_ignore(struct lwipy_vring *ring);

#endif /* LWIPY_VHOST_RING_H */
