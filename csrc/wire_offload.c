/*
 * Long frames over a wire: segments of TCP that follow each other cross as one.
 *
 * Theory of operation. As the kernel's veth takes big segments uncut from an interface with an MTU of 1500, so does a
 * wire between two interfaces that both agree. lwIP sends what it always sends; segments of one call that only continue
 * each other are bundled (bundle.c), and leave together when the call ends or something else is to be sent: one header
 * and the payload of all, copied once into a long block of the receiver's. That one goes to lwIP as a single segment,
 * and counts as so many frames for counters and acknowledgements. Sums that an interface asks for are in it: lwIP has
 * summed up each segment, and the long one's sum follows from theirs; the receiver checks it like any. What the sender
 * holds is not copied at all, and a single frame of much of it crosses the same way: lend.c.
 *
 * Invariants:
 * 1. Nobody sees a frame longer than the MTU: an interface that has stages, or is a group's, neither bundles nor takes
 *    long frames. One that was on its way when a stage came passes below that stage.
 * 2. What is bundled leaves before the core puts any other frame on a wire, and before the call ends or waits for work.
 * 3. A long frame is put only where a block for it is; else its segments go as they are. Where the other side takes no
 *    long ones, a bundle has one segment.
 * 4. Each segment of a long frame fits into the receiver's MTU, or the frame is dropped and counted.
 */
#include "wire.h"
#include "lend.h"
#include "merge.h"
#include "offload.h"
#include "tcp.h"

#include <string.h>

#include "lwip/prot/ip.h"

#define LEAST 4                    /* segments; fewer are merged on the way in as well */
#define SHORT 512                  /* such frames are hardly a stream's */

static struct lwipy_bundle bundle;
static struct lwipy_nic *bundling; /* whose it is; NULL: it is empty */

/* ---- Who takes part ------------------------------------------------------------------------------------------------- */

void
lwipy_wire_restage(struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  if (wire != NULL) {
    struct lwipy_wire_end *own = &wire->end[nic->wire_side];
    int unseen = nic->stages[LWIPY_IN] == NULL && nic->stages[LWIPY_OUT] == NULL && nic->steer == NULL &&
                 nic->front == NULL;
    lwipy_mutex_lock(&wire->mutex);
    own->takes_long = own->offload && unseen;
    own->takes_lent = unseen && !(lwipy_without & LWIPY_WITHOUT_LENDING);
    lwipy_mutex_unlock(&wire->mutex);
  }
}

enum may { NOTHING, SINGLE, SEVERAL };

/* What the other side takes of it in a bundle. Asked once for each. `large`: it begins with what might be lent. */
static enum may
may_bundle(const struct lwipy_nic *nic, int large)
{
  struct lwipy_wire *wire = nic->wire;
  const struct lwipy_wire_end *own = &wire->end[nic->wire_side];
  struct lwipy_wire_end *to = &wire->end[1 - nic->wire_side];
  enum may result = NOTHING;
  lwipy_mutex_lock(&wire->mutex);
  if (to->core != NULL) {
    result = large && to->takes_lent ? SINGLE : NOTHING;
    if (own->takes_long && to->takes_long && to->segments.empty.first != NULL) {
      result = SEVERAL;
    } else if (own->takes_long && to->takes_long) {
      to->wanted = 1;
    }
  }
  lwipy_mutex_unlock(&wire->mutex);
  return result;
}

/* ---- Output ---------------------------------------------------------------------------------------------------------- */

/* The sum of the whole payload: each segment's own makes all of it add up to ones, so the rest tells that of its part. */
static u32_t
sum_of_payload(void)
{
  const struct lwipy_layout *at = &bundle.at;
  const u8_t *frame = bundle.segments[0]->payload;
  int v4 = at->version == 4;
  u32_t pseudo = (u32_t)lwipy_checksum(frame + at->network + (v4 ? 12 : 8), v4 ? 8 : 32) + lwip_htons(at->protocol);
  u32_t i, odd = 0, sum = 0;
  for (i = 0; i < bundle.count; i++) {
    const struct pbuf *p = bundle.segments[i];
    u16_t part;
    frame = p->payload;
    part = (u16_t)~lwipy_fold(pseudo + lwip_htons((u16_t)(p->tot_len - at->transport)) +
                              lwipy_checksum(frame + at->transport, at->payload - at->transport));
    sum += odd ? (u16_t)(part << 8 | part >> 8) : part;
    odd ^= (p->tot_len - at->payload) & 1;
  }
  return lwipy_fold(sum);
}

static void
write_sum(u8_t *headers)
{
  u8_t *field = headers + bundle.at.transport + 16;      /* the pseudo header's is there */
  u32_t of_header = lwipy_checksum(headers + bundle.at.transport, bundle.at.payload - bundle.at.transport);
  u16_t sum = (u16_t)~lwipy_fold(of_header + sum_of_payload());
  memcpy(field, &sum, sizeof(sum));
}

/* All but the payload. */
static void
begin(struct lwipy_block *block)
{
  struct lwipy_vnet_header unused = {0};
  block->length = (u32_t)lwipy_bundle_headers(&bundle, &unused, block->bytes);
  if (bundling->netif.chksum_flags & NETIF_CHECKSUM_GEN_TCP) {
    write_sum(block->bytes);
  }
  block->segments = (u16_t)bundle.count;
  block->each = bundle.at.payload + bundle.size;
  block->total = bundle.count * bundle.at.payload + bundle.bytes;
}

static void
copy(struct lwipy_block *block)
{
  u32_t i;
  for (i = 0; i < bundle.count; i++) {
    const struct pbuf *p = bundle.segments[i];
    block->length += pbuf_copy_partial(p, block->bytes + block->length, p->tot_len, bundle.at.payload);
  }
}

/* How many segments did not get through. */
static u32_t
put(const struct lwipy_wire_end *own, struct lwipy_wire_end *to)
{
  int lent = own->takes_lent && to->takes_lent && (bundle.count == 1 || to->takes_long);
  struct lwipy_block *block = lent ? lwipy_lend(to, &bundle) : NULL;
  u32_t i, lost = 0;
  if (block != NULL) {
    begin(block);
    return 0;
  }
  if (bundle.count >= LEAST && to->takes_long && (block = lwipy_wire_next_block(to, &to->segments)) != NULL) {
    begin(block);
    copy(block);
    return 0;
  }
  for (i = 0; i < bundle.count; i++) {
    lost += lwipy_wire_put(to, bundle.segments[i]) != 0;
  }
  return lost;
}

/* What was bundled is counted as sent already. */
void
lwipy_wire_flush(void)
{
  struct lwipy_nic *nic = bundling;
  struct lwipy_wire *wire;
  struct lwipy_wire_end *to;
  if (nic == NULL) {
    return;
  }
  wire = nic->wire;
  to = &wire->end[1 - nic->wire_side];
  lwipy_mutex_lock(&wire->mutex);
  if (to->core != NULL) {
    size_t used = to->queue.used;
    nic->count.tx_full += put(&wire->end[nic->wire_side], to);
    lwipy_wire_tell(nic, to, used);
  } else {
    nic->count.tx_full += bundle.count;
  }
  lwipy_mutex_unlock(&wire->mutex);
  bundling = NULL;
  lwipy_bundle_clear(&bundle);
}

int
lwipy_wire_bundle(struct lwipy_nic *nic, const struct pbuf *p)
{
  const struct lwipy_wire_end *own = &nic->wire->end[nic->wire_side];
  struct lwipy_layout at;
  int large = p->tot_len > LWIPY_LEND_LEAST && own->takes_lent;
  enum may may;
  int fits = p->tot_len > SHORT && (own->takes_long || large) &&
             lwipy_layout_of(p->payload, p->len, p->tot_len, nic->layer, &at) && at.protocol == IP_PROTO_TCP;
  if (fits && bundling == nic && lwipy_bundle_add(&bundle, p, &at)) {
    return 1;
  }
  lwipy_wire_flush();
  if (fits && (may = may_bundle(nic, large)) != NOTHING && lwipy_bundle_add(&bundle, p, &at)) {
    bundling = nic;
    bundle.ended |= may == SINGLE;
    lwipy_lend_bundled();
    return 1;
  }
  return 0;
}

/* ---- Input ----------------------------------------------------------------------------------------------------------- */

/* Past Ethernet, for lwIP's lengths have 16 bits. */
void
lwipy_wire_take_long(struct lwipy_nic *nic, struct lwipy_block *block)
{
  size_t skip = nic->layer == LWIPY_L2 ? SIZEOF_ETH_HDR : 0;
  u32_t segments = block->segments;
  struct pbuf *p = block->lent ? lwipy_lent_pbuf(block, skip) : lwipy_block_pbuf(block, skip);
  nic->count.rx_frames += segments;
  nic->count.rx_bytes += block->total;
  if (p == NULL) {
    nic->count.rx_nomem += segments;
    return;
  }
  if (block->each - skip > nic->netif.mtu) {
    nic->count.rx_malformed += segments;
    pbuf_free(p);
    return;
  }
  if (lwipy_nic_admit(nic, block->bytes, p->tot_len + skip, LWIPY_LONG_FRAME) == 0) {
    pbuf_free(p);
    return;
  }
  lwipy_long_segment = segments > 1 ? LWIPY_LONG_BY_STACK : 0;
  lwipy_frames_in_segment = segments;
  lwipy_nic_feed_packet(nic, p);
  lwipy_frames_in_segment = 1;
  lwipy_long_segment = 0;
}
