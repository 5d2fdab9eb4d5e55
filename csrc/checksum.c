/*
 * The Internet checksum (RFC 1071).
 *
 * Theory of operation. The sum of 16-bit words with end-around carry may be taken in wider words and folded at the end
 * (section 2 there). Here 32-bit words are added up in 64-bit lanes, where no carry is lost before there are 2^32 of
 * them; so nothing waits for a carry, and gcc and clang make vector instructions of it on every machine that has them.
 *
 * Invariant: nothing outside of `data` is read, whatever its alignment and length.
 */
#include "core.h"

#include <string.h>

#define ROUND 32

#if defined(__GNUC__)
typedef u64_t lanes __attribute__((vector_size(16)));

static u64_t
sum_rounds(const u8_t *p, size_t rounds)
{
  const lanes low = {0xffffffff, 0xffffffff};
  lanes a = {0, 0}, b = {0, 0}, c = {0, 0}, d = {0, 0};
  for (; rounds > 0; rounds--, p += ROUND) {
    lanes v, w;
    memcpy(&v, p, sizeof(v));
    memcpy(&w, p + sizeof(v), sizeof(w));
    a += v & low;
    b += v >> 32;
    c += w & low;
    d += w >> 32;
  }
  a += b + (c + d);
  return a[0] + a[1];
}
#else
static u64_t
sum_rounds(const u8_t *p, size_t rounds)
{
  u64_t a = 0, b = 0, w[ROUND / 8];
  for (; rounds > 0; rounds--, p += ROUND) {
    memcpy(w, p, ROUND);
    a += (w[0] & 0xffffffff) + (w[0] >> 32) + (w[1] & 0xffffffff) + (w[1] >> 32);
    b += (w[2] & 0xffffffff) + (w[2] >> 32) + (w[3] & 0xffffffff) + (w[3] >> 32);
  }
  return a + b;
}
#endif

uint16_t
lwipy_fold(uint32_t sum)
{
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint16_t
lwipy_checksum(const void *data, int length)
{
  const u8_t *p = data;
  size_t left = (size_t)length;
  u64_t sum = sum_rounds(p, left / ROUND);
  u32_t word;
  p += left / ROUND * ROUND;
  for (left %= ROUND; left >= sizeof(word); left -= sizeof(word), p += sizeof(word)) {
    memcpy(&word, p, sizeof(word));
    sum += word;
  }
  if (left > 0) {
    word = 0;
    memcpy(&word, p, left);
    sum += word;
  }
  sum = (sum & 0xffffffffu) + (sum >> 32);
  sum = (sum & 0xffffffffu) + (sum >> 32);
  return lwipy_fold((u32_t)sum);
}
