/*
 * The virtio-net header: what a device leaves to us and we to it.
 *
 * Theory of operation. Before each frame stands a header (VIRTIO 1.2, 5.1.6). Of a frame that comes it says that a
 * checksum is right, or that only the sum of the pseudo header was written where it belongs (the frame has never been
 * on a wire), or that the frame is a TCP segment which would be cut there. Of a frame that goes it asks the device to
 * sum up, or to cut. The header is the other side's word, and a guest's is hostile: each field is compared with what
 * the frame itself shows, and a header that does not fit costs the frame.
 *
 * Invariants:
 * 1. Nothing is read or written outside of the frame, whatever header and frame say.
 * 2. Only what was agreed on is believed: the two flags below, TCP over IPv4 and IPv6, no ECN, no UDP.
 * 3. A long frame is one whole TCP segment with all its headers, without SYN, RST or urgent data, never a fragment.
 */
#include "offload.h"
#include "core.h"

#include <string.h>

#include "lwip/prot/ethernet.h"
#include "lwip/prot/tcp.h"

#define IP4_HEADER 20
#define IP6_HEADER 40
#define UDP_HEADER 8
#define TCP_HEADER 20

enum { TCP = 6, UDP = 17 };

static unsigned
be16(const u8_t *p)
{
  return (unsigned)p[0] << 8 | p[1];
}

static void
put_be16(u8_t *p, size_t value)
{
  p[0] = (u8_t)(value >> 8);
  p[1] = (u8_t)value;
}

/* ---- Frames --------------------------------------------------------------------------------------------------------- */

static int
layout_of_ip4(const u8_t *ip, size_t room, struct lwipy_layout *out)
{
  size_t header;
  if (room < IP4_HEADER || (header = (size_t)(ip[0] & 15) * 4) < IP4_HEADER || (be16(ip + 6) & 0x3fff) != 0) {
    return 0;
  }
  out->protocol = ip[9];
  out->transport = (u16_t)(out->network + header);
  out->end = (u32_t)(out->network + be16(ip + 2));
  return 1;
}

static int
layout_of_ip6(const u8_t *ip, size_t room, struct lwipy_layout *out)
{
  if (room < IP6_HEADER) {
    return 0;
  }
  out->protocol = ip[6];
  out->transport = (u16_t)(out->network + IP6_HEADER);
  out->end = (u32_t)(out->network + IP6_HEADER + be16(ip + 4));
  return 1;
}

int
lwipy_layout_of(const u8_t *frame, size_t room, size_t length, int layer, struct lwipy_layout *out)
{
  const u8_t *ip = frame + (layer == LWIPY_L2 ? SIZEOF_ETH_HDR : 0);
  size_t header;
  out->network = (u16_t)(ip - frame);
  if (room <= out->network) {
    return 0;
  }
  out->version = ip[0] >> 4;
  if (layer == LWIPY_L2 && be16(frame + 12) != (out->version == 4 ? ETHTYPE_IP : ETHTYPE_IPV6)) {
    return 0;
  }
  if (out->version == 4 ? !layout_of_ip4(ip, room - out->network, out)
                        : out->version != 6 || !layout_of_ip6(ip, room - out->network, out)) {
    return 0;
  }
  if (out->protocol == UDP) {
    header = UDP_HEADER;
  } else if (out->protocol == TCP && room >= (size_t)out->transport + TCP_HEADER) {
    header = (size_t)(frame[out->transport + 12] >> 4) * 4;
    if (header < TCP_HEADER) {
      return 0;
    }
  } else {
    return 0;
  }
  out->payload = (u16_t)(out->transport + header);
  return out->payload <= room && out->payload <= out->end && out->end <= length;
}

static unsigned
sum_offset(const struct lwipy_layout *at)
{
  return at->protocol == TCP ? 16 : 6;
}

/* ---- Frames that come ------------------------------------------------------------------------------------------------ */

static int
judge_long(const struct lwipy_vnet_header *header, const u8_t *frame, const struct lwipy_layout *at)
{
  u8_t version = header->gso_type == LWIPY_VNET_GSO_TCPV4 ? 4 : header->gso_type == LWIPY_VNET_GSO_TCPV6 ? 6 : 0;
  if (at->version != version || at->protocol != TCP || !(header->flags & LWIPY_VNET_NEEDS_CSUM) ||
      header->gso_size == 0 || at->end - at->network > UINT16_MAX || at->end == at->payload ||
      (frame[at->transport + 13] & (TCP_SYN | TCP_RST | TCP_URG)) != 0) {
    return LWIPY_FRAME_LIES;
  }
  return LWIPY_FRAME_CHECKED | LWIPY_FRAME_LONG;
}

int
lwipy_offload_judge(const struct lwipy_vnet_header *header, u8_t *frame, size_t length, int layer)
{
  struct lwipy_layout at;
  int known = lwipy_layout_of(frame, length, length, layer, &at), lacks = header->flags & LWIPY_VNET_NEEDS_CSUM;
  int fits = known && header->csum_start == at.transport && header->csum_offset == sum_offset(&at);
  if ((header->flags & ~(LWIPY_VNET_NEEDS_CSUM | LWIPY_VNET_DATA_VALID)) != 0 ||
      (lacks && (size_t)header->csum_start + header->csum_offset + 2 > length)) {
    return LWIPY_FRAME_LIES;
  }
  if (header->gso_type != LWIPY_VNET_GSO_NONE) {
    return fits ? judge_long(header, frame, &at) : LWIPY_FRAME_LIES;
  }
  if (lacks && !fits) {
    lwipy_offload_complete(header, frame, length);
    return 0;
  }
  return lacks || (header->flags & LWIPY_VNET_DATA_VALID) ? LWIPY_FRAME_CHECKED : 0;
}

/* RFC 1071; the sum of the pseudo header is there already. A UDP sum of zero would mean that there is none. */
void
lwipy_offload_complete(const struct lwipy_vnet_header *header, u8_t *frame, size_t length)
{
  u8_t *field = frame + header->csum_start + header->csum_offset;
  u16_t sum = (u16_t)~lwipy_checksum(frame + header->csum_start, (int)(length - header->csum_start));
  sum = sum != 0 ? sum : 0xffff;
  memcpy(field, &sum, sizeof(sum));
}

/* ---- Frames that go -------------------------------------------------------------------------------------------------- */

static u16_t
pseudo_sum(const u8_t *ip, const struct lwipy_layout *at, size_t segment)
{
  size_t addresses = at->version == 4 ? 8 : 32;
  u8_t rest[6] = {0, at->protocol};
  u32_t sum = lwipy_checksum(ip + (at->version == 4 ? 12 : 8), (int)addresses);
  put_be16(rest + 2, segment >> 16);
  put_be16(rest + 4, segment);
  sum += lwipy_checksum(rest, sizeof(rest));
  return (u16_t)((sum & 0xffff) + (sum >> 16));
}

void
lwipy_offload_leave_sum(struct lwipy_vnet_header *header, u8_t *headers, const struct lwipy_layout *at, size_t payload)
{
  u8_t *ip = headers + at->network;
  size_t segment = at->payload - at->transport + payload;
  u16_t sum;
  if (at->version == 4) {
    size_t packet = at->transport - at->network + segment;
    put_be16(ip + 2, packet <= UINT16_MAX ? packet : 0);
    memset(ip + 10, 0, 2);
    sum = (u16_t)~lwipy_checksum(ip, at->transport - at->network);
    memcpy(ip + 10, &sum, sizeof(sum));
  } else {
    put_be16(ip + 4, segment);
  }
  sum = pseudo_sum(ip, at, segment);
  header->flags = LWIPY_VNET_NEEDS_CSUM;
  header->csum_start = at->transport;
  header->csum_offset = (u16_t)sum_offset(at);
  memcpy(headers + header->csum_start + header->csum_offset, &sum, sizeof(sum));
}

/* ---- Long frames for those who want real ones -------------------------------------------------------------------------- */

#define LEAST_SEGMENT 536                /* bytes; who asks for less could have thousands made of one frame */

/* Each piece is made where it lies: its headers overwrite the end of the one before, which is gone by then. */
void
lwipy_offload_cut(const struct lwipy_vnet_header *header, u8_t *frame, size_t length, int layer, size_t mtu,
                  void (*give)(void *to, const u8_t *frame, size_t length), void *to)
{
  struct lwipy_vnet_header sum;
  struct lwipy_layout at;
  u8_t headers[LWIPY_LONGEST_HEADERS], *tcp;
  size_t done, size, room, bytes;
  u32_t sequence;
  unsigned id;
  if (!lwipy_layout_of(frame, length, length, layer, &at) || at.payload > sizeof(headers)) {
    return;
  }
  room = LWIP_MAX(mtu, (size_t)(at.payload - at.network) + 1) - (at.payload - at.network);
  size = LWIP_MIN(LWIP_MAX(header->gso_size, LEAST_SEGMENT), room);
  bytes = at.end - at.payload;
  memcpy(headers, frame, at.payload);
  tcp = headers + at.transport;
  sequence = (u32_t)be16(tcp + 4) << 16 | be16(tcp + 6);
  id = be16(headers + at.network + 4);
  for (done = 0; done < bytes; done += size) {
    size_t payload = LWIP_MIN(size, bytes - done);
    u8_t *piece = frame + done, *piece_tcp = piece + at.transport;
    memcpy(piece, headers, at.payload);
    put_be16(piece_tcp + 4, (sequence + (u32_t)done) >> 16);
    put_be16(piece_tcp + 6, sequence + (u32_t)done);
    if (done + payload < bytes) {
      piece_tcp[13] &= (u8_t)~(TCP_FIN | TCP_PSH);
    }
    if (at.version == 4) {
      put_be16(piece + at.network + 4, id++);
    }
    lwipy_offload_leave_sum(&sum, piece, &at, payload);
    lwipy_offload_complete(&sum, piece, at.payload + payload);
    give(to, piece, at.payload + payload);
  }
}
