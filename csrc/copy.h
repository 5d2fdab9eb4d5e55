/*
 * memcpy() for what may be long.
 *
 * glibc copies 4 KB and more by `rep movsb`. On AMD's Zen that takes twenty times as long when the destination lies 1 to
 * 31 bytes behind the source modulo 4096 (33 instead of 1.5 microseconds for 64 KB; glibc's bug 30994, cured in 2024).
 * Shorter copies are made by vectors, which are as fast and do not mind: so long ones are made in pieces.
 */
#ifndef LWIPY_COPY_H
#define LWIPY_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LWIPY_COPY_PIECE 1984      /* whole vectors, and below every threshold of glibc's */

/* memcpy() itself: a compiler that knows how long it may be at most writes `rep movs`, which takes longer to begin. */
static inline void
lwipy_copy_piece(void *to, const void *from, size_t length)
{
#ifdef __GNUC__
  __asm__("" : "+r"(length));
#endif
  memcpy(to, from, length);
}

static inline void
lwipy_copy(void *to, const void *from, size_t length)
{
  uint8_t *out = (uint8_t *)to;
  const uint8_t *in = (const uint8_t *)from;
  while (length > LWIPY_COPY_PIECE) {
    lwipy_copy_piece(out, in, LWIPY_COPY_PIECE);
    out += LWIPY_COPY_PIECE;
    in += LWIPY_COPY_PIECE;
    length -= LWIPY_COPY_PIECE;
  }
  lwipy_copy_piece(out, in, length);
}

#endif /* LWIPY_COPY_H */
