/*
 * Long frames over a wire: segments of TCP that follow each other cross as one.
 *
 * Theory of operation. As the kernel's veth takes big segments uncut from an interface with an MTU of 1500, so does a
 * wire between two interfaces that both agree. lwIP sends what it always sends; segments of one call that only continue
 * each other are bundled (bundle.c), and leave together when the call ends or something else is to be sent: one header
 * and the payload of all, copied once into a long block of the receiver's. That one goes to lwIP as a single segment,
 * and counts as so many frames for counters and acknowledgements. Sums that an interface asks for are in it: lwIP has
 * summed up each segment, and the long one's sum follows from theirs; the receiver checks it like any.
 *
 * Invariants:
 * 1. Nobody sees a frame longer than the MTU: an interface that has stages, or is a group's, neither bundles nor takes
 *    long frames. One that was on its way when a stage came passes below that stage.
 * 2. What is bundled leaves before the core puts any other frame on a wire, and before the call ends or waits for work.
 * 3. A long frame is put only where a block for it is; else its segments go as they are.
 * 4. Each segment of a long frame fits into the receiver's MTU, or the frame is dropped and counted.
 */
#include "wire.h"
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
    lwipy_mutex_unlock(&wire->mutex);
  }
}

/* Whether the other side does. Asked once for each bundle. */
static int
may_bundle(const struct lwipy_nic *nic)
{
  struct lwipy_wire *wire = nic->wire;
  struct lwipy_wire_end *to = &wire->end[1 - nic->wire_side];
  int result = 0;
  lwipy_mutex_lock(&wire->mutex);
  if (to->core != NULL && to->takes_long) {
    result = to->segments.empty.first != NULL;
    to->wanted |= !result;
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

static void
fill(struct lwipy_block *block)
{
  struct lwipy_vnet_header unused = {0};
  u8_t *to = block->bytes + lwipy_bundle_headers(&bundle, &unused, block->bytes);
  u32_t i;
  if (bundling->netif.chksum_flags & NETIF_CHECKSUM_GEN_TCP) {
    write_sum(block->bytes);
  }
  for (i = 0; i < bundle.count; i++) {
    const struct pbuf *p = bundle.segments[i];
    to += pbuf_copy_partial(p, to, p->tot_len, bundle.at.payload);
  }
  block->length = (u32_t)(to - block->bytes);
  block->segments = bundle.count;
  block->each = bundle.at.payload + bundle.size;
  block->total = bundle.count * bundle.at.payload + bundle.bytes;
}

/* How many segments did not get through. */
static u32_t
put(struct lwipy_wire_end *to)
{
  struct lwipy_block *block = bundle.count >= LEAST && to->takes_long ? lwipy_wire_next_block(to, &to->segments) : NULL;
  u32_t i, lost = 0;
  if (block != NULL) {
    fill(block);
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
    nic->count.tx_full += put(to);
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
  struct lwipy_layout at;
  int fits = p->tot_len > SHORT && nic->wire->end[nic->wire_side].takes_long &&
             lwipy_layout_of(p->payload, p->len, p->tot_len, nic->layer, &at) && at.protocol == IP_PROTO_TCP;
  if (fits && bundling == nic && lwipy_bundle_add(&bundle, p, &at)) {
    return 1;
  }
  lwipy_wire_flush();
  if (fits && may_bundle(nic) && lwipy_bundle_add(&bundle, p, &at)) {
    bundling = nic;
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
  struct pbuf *p;
  nic->count.rx_frames += segments;
  nic->count.rx_bytes += block->total;
  if (block->each - skip > nic->netif.mtu) {
    nic->count.rx_malformed += segments;
    pbuf_free(lwipy_block_pbuf(block, skip));
    return;
  }
  p = lwipy_block_pbuf(block, skip);
  if (lwipy_nic_admit(nic, block->bytes, block->length, LWIPY_LONG_FRAME) == 0) {
    pbuf_free(p);
    return;
  }
  lwipy_long_segment = 1;
  lwipy_frames_in_segment = segments;
  lwipy_nic_feed_packet(nic, p);
  lwipy_frames_in_segment = 1;
  lwipy_long_segment = 0;
}
