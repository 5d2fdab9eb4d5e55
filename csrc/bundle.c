/*
 * Consecutive segments of one connection, put together into one frame that the device cuts.
 *
 * Theory of operation. lwIP sends segments of the connection's own MSS, and nothing of it knows of larger ones: its
 * congestion window, its retransmissions and the scoreboard (recovery.c) count as they would on a wire. On their way
 * out, the segments of one tcp_output() follow each other; those that only continue the one before are kept back until
 * something else is to be sent or the call ends, and leave as one frame: the first one's headers, and the payload of
 * all where it lies. The device makes the same segments of it again.
 *
 * Invariants:
 * 1. A bundle's segments differ in sequence number, length, IPv4's identification and checksum, PSH, and sums alone;
 *    each but the last has the first one's length, and a FIN is in the last only. So what the device makes of the frame
 *    is what lwIP made, but for PSH, which only the last one keeps.
 * 2. A bundle never outlives the call that filled it: what it refers to, lwIP does not free and cannot send again
 *    meanwhile (tcp_output_segment_busy), and frames keep their order.
 * 3. The frame's IP packet has at most 65535 bytes.
 */
#include "offload.h"
#include "core.h"

#include <string.h>

#include "lwip/pbuf.h"
#include "lwip/prot/tcp.h"

static u32_t
be32(const u8_t *p)
{
  return (u32_t)p[0] << 24 | (u32_t)p[1] << 16 | (u32_t)p[2] << 8 | p[3];
}

static u32_t
payload_of(const struct lwipy_layout *at)
{
  return at->end - at->payload;
}

static int
is_same(const u8_t *a, const u8_t *b, size_t from, size_t to)
{
  return memcmp(a + from, b + from, to - from) == 0;
}

/* All that the device repeats in each segment. */
static int
is_alike(const u8_t *a, const u8_t *b, const struct lwipy_layout *at)
{
  const u8_t *ip_a = a + at->network, *ip_b = b + at->network, *tcp_a = a + at->transport, *tcp_b = b + at->transport;
  size_t ip_length = at->transport - at->network, tcp_length = at->payload - at->transport;
  int ip = at->version == 4 ? is_same(ip_a, ip_b, 0, 2) && is_same(ip_a, ip_b, 6, 10) && is_same(ip_a, ip_b, 12, ip_length)
                            : is_same(ip_a, ip_b, 0, 4) && is_same(ip_a, ip_b, 6, ip_length);
  return ip && is_same(a, b, 0, at->network) && is_same(tcp_a, tcp_b, 0, 4) && is_same(tcp_a, tcp_b, 8, 13) &&
         is_same(tcp_a, tcp_b, 14, 16) && is_same(tcp_a, tcp_b, 18, tcp_length);
}

static int
continues(const struct lwipy_bundle *bundle, const u8_t *frame, const struct lwipy_layout *at, u32_t pieces)
{
  u32_t payload = payload_of(at);
  return !bundle->ended && bundle->count < LWIPY_BUNDLE_SEGMENTS && bundle->pieces + pieces <= LWIPY_BUNDLE_PIECES &&
         at->version == bundle->at.version && at->transport == bundle->at.transport && at->payload == bundle->at.payload &&
         payload <= bundle->size && bundle->bytes + payload + at->payload - at->network <= UINT16_MAX &&
         be32(frame + at->transport + 4) == bundle->next && is_alike(bundle->segments[0]->payload, frame, at);
}

int
lwipy_bundle_add(struct lwipy_bundle *bundle, const struct pbuf *p, const struct lwipy_layout *at)
{
  const u8_t *frame = p->payload;
  u8_t flags = frame[at->transport + 13];
  u32_t payload = payload_of(at), pieces = pbuf_clen(p);
  if (payload == 0 || at->end != p->tot_len || p->len < at->payload || at->payload > LWIPY_LONGEST_HEADERS ||
      pieces > LWIPY_BUNDLE_PIECES || (flags & ~(TCP_PSH | TCP_FIN)) != TCP_ACK) {
    return 0;
  }
  if (bundle->count == 0) {
    bundle->at = *at;
    bundle->size = payload;
    bundle->pieces = bundle->bytes = 0;
  } else if (!continues(bundle, frame, at, pieces)) {
    return 0;
  }
  bundle->segments[bundle->count] = (struct pbuf *)(uintptr_t)p;
  pbuf_ref(bundle->segments[bundle->count++]);
  bundle->pieces += pieces;
  bundle->bytes += payload;
  bundle->next = be32(frame + at->transport + 4) + payload;
  bundle->ended = payload < bundle->size || (flags & TCP_FIN) != 0;
  return 1;
}

size_t
lwipy_bundle_headers(const struct lwipy_bundle *bundle, struct lwipy_vnet_header *header, u8_t *headers)
{
  const struct lwipy_layout *at = &bundle->at;
  const u8_t *last = bundle->segments[bundle->count - 1]->payload;
  memcpy(headers, bundle->segments[0]->payload, at->payload);
  headers[at->transport + 13] |= last[at->transport + 13] & (TCP_PSH | TCP_FIN);
  lwipy_offload_leave_sum(header, headers, at, bundle->bytes);
  if (bundle->count > 1) {
    header->gso_type = at->version == 4 ? LWIPY_VNET_GSO_TCPV4 : LWIPY_VNET_GSO_TCPV6;
    header->gso_size = (u16_t)bundle->size;
    header->hdr_len = at->payload;
  }
  return at->payload;
}

void
lwipy_bundle_clear(struct lwipy_bundle *bundle)
{
  u32_t i;
  for (i = 0; i < bundle->count; i++) {
    pbuf_free(bundle->segments[i]);
  }
  bundle->count = 0;
}
