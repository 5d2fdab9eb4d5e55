/*
 * A bounded queue of frames in one circular stretch of the process's heap: [32-bit length][frame], as in a packed
 * batch. It grows by doubling up to LWIPY_FIFO_MAX and refuses beyond.
 *
 * Invariants: `used` <= `room`; `room` is 0 or a power of two; `head` < `room` where `room` > 0.
 */
#ifndef LWIPY_FIFO_H
#define LWIPY_FIFO_H

#include <stddef.h>
#include <stdint.h>

#define LWIPY_FIFO_MAX ((size_t)4 << 20)

struct pbuf;

struct lwipy_fifo {
  uint8_t *memory;
  size_t room, head, used;
};

int lwipy_fifo_put(struct lwipy_fifo *fifo, const struct pbuf *p);      /* 0, or -1 when full */
int lwipy_fifo_put_behind(struct lwipy_fifo *fifo, uint32_t prefix, const struct pbuf *p);   /* another prefix */
/* The same in parts: -1, or 0 and room for a frame of so many bytes, all of which are then added. */
int lwipy_fifo_begin(struct lwipy_fifo *fifo, uint32_t length);
void lwipy_fifo_add(struct lwipy_fifo *fifo, const void *part, size_t length);
/* The first frame in one piece, in place or in `spare`; NULL when empty. It stays valid until the drop. */
const uint8_t *lwipy_fifo_peek(const struct lwipy_fifo *fifo, uint8_t *spare, size_t *length);
void lwipy_fifo_drop(struct lwipy_fifo *fifo, size_t length);           /* takes it away */
size_t lwipy_fifo_take(struct lwipy_fifo *fifo, uint8_t *batch, size_t room);  /* whole frames, packed */
void lwipy_fifo_take_frame(struct lwipy_fifo *fifo, uint8_t *out, size_t length);   /* the first one, of that length */
/* What lies `at` bytes behind the head: how much of `length` is in one piece, and where. */
size_t lwipy_fifo_piece(const struct lwipy_fifo *fifo, size_t at, size_t length, uint8_t **start);
size_t lwipy_fifo_length(const struct lwipy_fifo *fifo, size_t at);     /* of the frame whose prefix lies there */
void lwipy_fifo_skip(struct lwipy_fifo *fifo, size_t length);           /* takes bytes away, whatever they are */
void lwipy_fifo_clear(struct lwipy_fifo *fifo);                         /* gives the memory back */

#endif /* LWIPY_FIFO_H */
