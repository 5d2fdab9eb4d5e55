/*
 * The loop of benchmarks/pair.py in C: what the core does when Python is not in the way. The core's functions are given
 * by pointer, so that it is the very core that Python drives. Built when needed, by pair_in_c.py.
 */
#include <stddef.h>
#include <stdint.h>

/* csrc/lwipy.h's. The memory stays, so there is always a reference more than those of the cores. */
static struct hold {
  struct hold *next, **home;
  uint32_t references;
} hold = {.home = &hold.next, .references = 1};

struct side {
  void *core;
  uint64_t handle;
  char *buffer;
  size_t size;
};

void
transfer(int64_t (*send)(void *, uint64_t, const void *, size_t, struct hold *),
         int64_t (*recv)(void *, uint64_t, void *, size_t, int), int64_t (*poll)(void *), const struct side *from,
         const struct side *to, int64_t total)
{
  int64_t sent = 0, received = 0, done;
  while (received < total) {
    while (sent < total && (done = send(from->core, from->handle, from->buffer, from->size, &hold)) > 0) {
      sent += done;
      __atomic_add_fetch(&hold.references, 1, __ATOMIC_SEQ_CST);
    }
    poll(to->core);
    while ((done = recv(to->core, to->handle, to->buffer, to->size, 0)) > 0) {
      received += done;
      if (done < (int64_t)to->size) {      /* nothing more is there */
        break;
      }
    }
    poll(from->core);
  }
}
