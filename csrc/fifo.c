/*
 * See fifo.h.
 */
#include "fifo.h"
#include "copy.h"

#include <stdlib.h>
#include <string.h>

#include "lwip/pbuf.h"

#define FIRST_ROOM ((size_t)64 << 10)
#define PREFIX     sizeof(uint32_t)

static void
copy_out(const struct lwipy_fifo *fifo, size_t at, void *to, size_t length)
{
  size_t start = (fifo->head + at) & (fifo->room - 1);
  size_t first = fifo->room - start;
  if (first > length) {
    first = length;
  }
  lwipy_copy(to, fifo->memory + start, first);
  lwipy_copy((uint8_t *)to + first, fifo->memory, length - first);
}

static void
append(struct lwipy_fifo *fifo, const void *from, size_t length)
{
  size_t start = (fifo->head + fifo->used) & (fifo->room - 1);
  size_t first = fifo->room - start;
  if (first > length) {
    first = length;
  }
  lwipy_copy(fifo->memory + start, from, first);
  lwipy_copy(fifo->memory, (const uint8_t *)from + first, length - first);
  fifo->used += length;
}

static int
grow(struct lwipy_fifo *fifo, size_t need)
{
  size_t room = fifo->room ? fifo->room : FIRST_ROOM;
  uint8_t *bigger;
  while (room < need) {
    room *= 2;
  }
  if (room > LWIPY_FIFO_MAX || (bigger = malloc(room)) == NULL) {
    return -1;
  }
  if (fifo->used > 0) {
    copy_out(fifo, 0, bigger, fifo->used);
  }
  free(fifo->memory);
  fifo->memory = bigger;
  fifo->room = room;
  fifo->head = 0;
  return 0;
}

int
lwipy_fifo_begin(struct lwipy_fifo *fifo, uint32_t length)
{
  size_t need = fifo->used + PREFIX + length;
  if (need > fifo->room && grow(fifo, need) != 0) {
    return -1;
  }
  append(fifo, &length, PREFIX);
  return 0;
}

void
lwipy_fifo_add(struct lwipy_fifo *fifo, const void *part, size_t length)
{
  append(fifo, part, length);
}

int
lwipy_fifo_put_behind(struct lwipy_fifo *fifo, uint32_t prefix, const struct pbuf *p)
{
  size_t need = fifo->used + PREFIX + p->tot_len;
  if (need > fifo->room && grow(fifo, need) != 0) {
    return -1;
  }
  append(fifo, &prefix, PREFIX);
  for (; p != NULL; p = p->next) {
    append(fifo, p->payload, p->len);
  }
  return 0;
}

int
lwipy_fifo_put(struct lwipy_fifo *fifo, const struct pbuf *p)
{
  return lwipy_fifo_put_behind(fifo, p->tot_len, p);
}

size_t
lwipy_fifo_length(const struct lwipy_fifo *fifo, size_t at)
{
  uint32_t length;
  copy_out(fifo, at, &length, PREFIX);
  return length;
}

size_t
lwipy_fifo_piece(const struct lwipy_fifo *fifo, size_t at, size_t length, uint8_t **start)
{
  size_t begin = (fifo->head + at) & (fifo->room - 1);
  size_t whole = fifo->room - begin;
  *start = fifo->memory + begin;
  return whole < length ? whole : length;
}

void
lwipy_fifo_skip(struct lwipy_fifo *fifo, size_t length)
{
  fifo->used -= length;
  fifo->head = fifo->used == 0 ? 0 : (fifo->head + length) & (fifo->room - 1);
}

const uint8_t *
lwipy_fifo_peek(const struct lwipy_fifo *fifo, uint8_t *spare, size_t *length)
{
  size_t start, size;
  if (fifo->used == 0) {
    return NULL;
  }
  *length = size = lwipy_fifo_length(fifo, 0);
  start = (fifo->head + PREFIX) & (fifo->room - 1);
  if (start + size <= fifo->room) {
    return fifo->memory + start;
  }
  copy_out(fifo, PREFIX, spare, size);
  return spare;
}

void
lwipy_fifo_drop(struct lwipy_fifo *fifo, size_t length)
{
  lwipy_fifo_skip(fifo, PREFIX + length);
}

size_t
lwipy_fifo_take(struct lwipy_fifo *fifo, uint8_t *batch, size_t room)
{
  size_t taken = 0;
  if (fifo->used <= room) {
    taken = fifo->used;      /* the usual case: everything, in one copy */
  } else {
    while (taken < fifo->used) {
      size_t length = lwipy_fifo_length(fifo, taken);
      if (taken + PREFIX + length > room) {
        break;
      }
      taken += PREFIX + length;
    }
  }
  if (taken > 0) {
    copy_out(fifo, 0, batch, taken);
    lwipy_fifo_skip(fifo, taken);
  }
  return taken;
}

void
lwipy_fifo_take_frame(struct lwipy_fifo *fifo, uint8_t *out, size_t length)
{
  copy_out(fifo, PREFIX, out, length);
  lwipy_fifo_drop(fifo, length);
}

void
lwipy_fifo_clear(struct lwipy_fifo *fifo)
{
  free(fifo->memory);
  memset(fifo, 0, sizeof(*fifo));
}
