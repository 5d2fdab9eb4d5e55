/*
 * What flow a frame is of: see steer_flow.c.
 */
#ifndef LWIPY_STEER_FLOW_H
#define LWIPY_STEER_FLOW_H

#include "core.h"

/* Who of a group gets a frame. */
enum lwipy_verdict { TO_FIRST, TO_ALL, BY_FLOW, BY_ADDRESSES, DROP };

struct lwipy_flow {
  const u8_t *source, *destination;      /* `width` bytes each */
  size_t width;
  u16_t ports[2];
  u8_t protocol;
};

enum lwipy_verdict lwipy_flow_read(int layer, struct lwipy_flow *flow, const u8_t *frame, size_t length);
/* How many bytes the Ethernet header has, with a VLAN's tag if there is one; 0: no IP packet. */
size_t lwipy_flow_ethernet(const u8_t *frame, size_t length, u16_t *type);

u64_t lwipy_flow_hash(u64_t key, const struct lwipy_flow *flow, int with_ports);
int lwipy_flow_member(u64_t hash, int count);

static inline u16_t
lwipy_flow_word(const u8_t *p)
{
  return (u16_t)(p[0] << 8 | p[1]);
}

#endif /* LWIPY_STEER_FLOW_H */
