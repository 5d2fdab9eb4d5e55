/*
 * Consecutive segments of one connection, put together into one frame that the device cuts.
 *
 * Theory of operation. lwIP sends segments of the connection's own MSS, and nothing of it knows of larger ones: its
 * congestion window, its retransmissions and the scoreboard (recovery.c) count as they would on a wire. On their way
 * out, the segments of one tcp_output() follow each other; those that only continue the one before are kept back until
 * something else is to be sent or the call ends, and leave as one frame: the first one's headers, and the payload of
 * all where it lies. The device makes the same segments of it again. Headers that only repeat the first one's need not
 * be made: where the owner says so (`bare`), output.c adds segments that lwIP has not been through.
 *
 * What a frame costs the kernel, and the acknowledgement that each calls for, is hardly more for a long one. So where it
 * is known to take them (`is_long`), IPv4's packets are longer than their header can say: it says 0, and the kernel goes
 * by the frame (BIG TCP, Linux 6.3; by way of a TAP 6.6). IPv6 would want a header of RFC 2675 for it.
 *
 * Invariants:
 * 1. A bundle's segments differ in sequence number, length, IPv4's identification and checksum, PSH, and sums alone;
 *    each but the last has the first one's length, and a FIN is in the last only. So what the device makes of the frame
 *    is what lwIP made, but for PSH, which only the last one keeps.
 * 2. A bundle never outlives the call that filled it: what it refers to, lwIP does not free and cannot send again
 *    meanwhile (tcp_output_segment_busy), and frames keep their order.
 * 3. The frame's IP packet has at most 65535 bytes, or LWIPY_BUNDLE_LONGEST where the owner says so.
 * 4. The first segment has all its headers, and is longer than its payload by as much as `at` says; one that followed
 *    has TCP's alone, not filled in, of the same length.
 */
#include "offload.h"
#include "core.h"

#include <string.h>

#include "lwip/pbuf.h"
#include "lwip/prot/tcp.h"

/* Who receives the frame may keep `hdr_len` bytes of it apart, and begin a page with the next one. Were that the payload's
   first, it would meet what copy.h is about: a program's large buffer begins 16 bytes behind a page, so that reading 64 KB
   took three times as long. */
#define OFF_THE_PAGE 128

static struct lwipy_bundle *latest;    /* the one that was added to last, if segments may follow */

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

static u32_t
longest(const struct lwipy_bundle *bundle)
{
  return bundle->is_long && bundle->at.version == 4 ? LWIPY_BUNDLE_LONGEST : UINT16_MAX;
}

static int
has_room(const struct lwipy_bundle *bundle, u32_t seqno, u32_t payload, u32_t pieces)
{
  return !bundle->ended && bundle->count < LWIPY_BUNDLE_SEGMENTS && bundle->pieces + pieces <= LWIPY_BUNDLE_PIECES &&
         bundle->bytes + payload + bundle->at.payload - bundle->at.network <= longest(bundle) && seqno == bundle->next;
}

static int
continues(const struct lwipy_bundle *bundle, const u8_t *frame, const struct lwipy_layout *at, u32_t pieces)
{
  u32_t payload = payload_of(at);
  return at->version == bundle->at.version && at->transport == bundle->at.transport && at->payload == bundle->at.payload &&
         payload <= bundle->size && has_room(bundle, be32(frame + at->transport + 4), payload, pieces) &&
         is_alike(bundle->segments[0]->payload, frame, at);
}

static void
append(struct lwipy_bundle *bundle, struct pbuf *p, u32_t payload, u32_t pieces, u8_t flags)
{
  bundle->segments[bundle->count++] = p;
  pbuf_ref(p);
  bundle->pieces += pieces;
  bundle->bytes += payload;
  bundle->next += payload;
  bundle->flags |= flags & (TCP_PSH | TCP_FIN);
  bundle->ended = payload < bundle->size || (flags & TCP_FIN) != 0;
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
    bundle->pieces = bundle->bytes = bundle->followed = 0;
    bundle->flags = 0;
    bundle->next = be32(frame + at->transport + 4);
  } else if (!continues(bundle, frame, at, pieces)) {
    return 0;
  }
  append(bundle, (struct pbuf *)(uintptr_t)p, payload, pieces, flags);
  latest = bundle->bare ? bundle : NULL;
  return 1;
}

int
lwipy_bundle_follow(const struct pbuf *sent, struct pbuf *p)
{
  struct lwipy_bundle *bundle = latest;
  const u8_t *tcp = p->payload;
  u32_t pieces = pbuf_clen(p), headers;
  if (bundle == NULL || bundle->segments[bundle->count - 1] != sent || (tcp[13] & ~TCP_PSH) != TCP_ACK) {
    return 0;
  }
  headers = bundle->at.payload - bundle->at.transport;
  if (p->len < headers || (u32_t)(tcp[12] >> 4) * 4 != headers || p->tot_len != headers + bundle->size ||
      !has_room(bundle, be32(tcp + 4), bundle->size, pieces)) {
    return 0;
  }
  append(bundle, p, bundle->size, pieces, tcp[13]);
  bundle->followed++;
  return 1;
}

size_t
lwipy_bundle_skip(const struct lwipy_bundle *bundle, u32_t index)
{
  u32_t before = (bundle->count - 1) * bundle->size;
  return bundle->segments[index]->tot_len - (index + 1 < bundle->count ? bundle->size : bundle->bytes - before);
}

size_t
lwipy_bundle_headers(struct lwipy_bundle *bundle, struct lwipy_vnet_header *header, u8_t *headers)
{
  const struct lwipy_layout *at = &bundle->at;
  memcpy(headers, bundle->segments[0]->payload, at->payload);
  headers[at->transport + 13] |= bundle->flags;
  if (at->version == 4 && bundle->bare) {
    headers[at->network + 4] = (u8_t)(bundle->id >> 8);
    headers[at->network + 5] = (u8_t)bundle->id;
    bundle->id = (u16_t)(bundle->id + bundle->count);
  }
  lwipy_offload_leave_sum(header, headers, at, bundle->bytes);
  if (bundle->count > 1) {
    header->gso_type = at->version == 4 ? LWIPY_VNET_GSO_TCPV4 : LWIPY_VNET_GSO_TCPV6;
    header->gso_size = (u16_t)bundle->size;
    header->hdr_len = (u16_t)(at->payload + LWIP_MIN(bundle->bytes, OFF_THE_PAGE));
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
  latest = latest == bundle ? NULL : latest;
}
