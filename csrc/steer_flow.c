/*
 * What flow a frame is of, for a group of stacks (steer.c): its two ends, and the hash of them.
 *
 * A frame is never read beyond its length; of what cannot be read as a flow the first stack is to judge. The hash is
 * symmetric: both directions have the same. What has no ports goes where steer.c's text says.
 */
#include "steer_flow.h"

#include <string.h>

#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip.h"
#include "lwip/prot/ip6.h"

/* ---- The hash --------------------------------------------------------------------------------------------------- */

static u64_t
mix(u64_t x)
{
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

static u64_t
hash_end(u64_t key, const u8_t *address, size_t width, u16_t port)
{
  u64_t high = 0, low = 0;
  if (width == 16) {
    memcpy(&high, address, 8);
    memcpy(&low, address + 8, 8);
  } else {
    memcpy(&low, address, 4);
  }
  return mix(mix(mix(key ^ high) ^ low) + ((u64_t)port << 1 | 1));
}

u64_t
lwipy_flow_hash(u64_t key, const struct lwipy_flow *flow, int with_ports)
{
  u64_t a = hash_end(key, flow->source, flow->width, with_ports ? flow->ports[0] : 0);
  u64_t b = hash_end(key, flow->destination, flow->width, with_ports ? flow->ports[1] : 0);
  return mix(a + b);
}

int
lwipy_flow_member(u64_t hash, int count)
{
  return (int)(((hash >> 32) * (u64_t)count) >> 32);
}

/* ---- Reading a packet -------------------------------------------------------------------------------------------- */

#define IS_PORTED(protocol) ((protocol) == IP_PROTO_TCP || (protocol) == IP_PROTO_UDP)

static enum lwipy_verdict
read_ports(struct lwipy_flow *flow, const u8_t *p, size_t length)
{
  if (!IS_PORTED(flow->protocol) || length < 4) {
    return TO_FIRST;
  }
  flow->ports[0] = lwipy_flow_word(p);
  flow->ports[1] = lwipy_flow_word(p + 2);
  return BY_FLOW;
}

static enum lwipy_verdict
read_fragment(const struct lwipy_flow *flow)
{
  return flow->protocol == IP_PROTO_UDP ? BY_ADDRESSES : flow->protocol == IP_PROTO_TCP ? DROP : TO_FIRST;
}

static enum lwipy_verdict read_ip(struct lwipy_flow *flow, const u8_t *p, size_t length, int inside);

/* An error speaks of a packet of ours, which it has behind its own eight bytes. */
static enum lwipy_verdict
read_error(struct lwipy_flow *flow, const u8_t *p, size_t length)
{
  enum lwipy_verdict verdict = length > 8 ? read_ip(flow, p + 8, length - 8, 1) : TO_FIRST;
  return verdict == BY_FLOW ? BY_FLOW : TO_FIRST;
}

static enum lwipy_verdict
read_ip4(struct lwipy_flow *flow, const u8_t *p, size_t length, int inside)
{
  size_t header = (size_t)(p[0] & 0xf) * 4;
  if (length < 20 || header < 20 || header > length) {
    return TO_FIRST;
  }
  flow->source = p + 12;
  flow->destination = p + 16;
  flow->width = 4;
  flow->protocol = p[9];
  if (lwipy_flow_word(p + 6) & 0x3fff) {
    return inside ? TO_FIRST : read_fragment(flow);
  }
  if (flow->protocol == IP_PROTO_ICMP && !inside && length > header) {
    u8_t type = p[header];
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12 ? read_error(flow, p + header, length - header)
                                                                           : TO_FIRST;
  }
  return read_ports(flow, p + header, length - header);
}

static enum lwipy_verdict
read_icmp6(struct lwipy_flow *flow, const u8_t *p, size_t length)
{
  if (length == 0) {
    return TO_FIRST;
  }
  if (p[0] >= 133 && p[0] <= 137) {
    return TO_ALL;
  }
  return p[0] >= 1 && p[0] <= 4 ? read_error(flow, p, length) : TO_FIRST;
}

static enum lwipy_verdict
read_ip6(struct lwipy_flow *flow, const u8_t *p, size_t length, int inside)
{
  size_t at = 40;
  u8_t next;
  if (length < at) {
    return TO_FIRST;
  }
  flow->source = p + 8;
  flow->destination = p + 24;
  flow->width = 16;
  next = p[6];
  while (length - at >= 8) {
    if (next == 0 || next == 43 || next == 60) {           /* hop by hop, routing, destination options */
      size_t size = ((size_t)p[at + 1] + 1) * 8;
      next = p[at];
      if (size > length - at) {
        return TO_FIRST;
      }
      at += size;
    } else if (next == 44) {
      next = flow->protocol = p[at];
      if (lwipy_flow_word(p + at + 2) & 0xfff9) {                     /* an offset, or more to come */
        return inside ? TO_FIRST : read_fragment(flow);
      }
      at += 8;
    } else {
      break;
    }
  }
  flow->protocol = next;
  if (next == IP6_NEXTH_ICMP6 && !inside) {
    return read_icmp6(flow, p + at, length - at);
  }
  return read_ports(flow, p + at, length - at);
}

static enum lwipy_verdict
read_ip(struct lwipy_flow *flow, const u8_t *p, size_t length, int inside)
{
  if (length == 0) {
    return TO_FIRST;
  }
  switch (p[0] >> 4) {
    case 4:
      return read_ip4(flow, p, length, inside);
    case 6:
      return read_ip6(flow, p, length, inside);
    default:
      return TO_FIRST;
  }
}

size_t
lwipy_flow_ethernet(const u8_t *frame, size_t length, u16_t *type)
{
  size_t header = SIZEOF_ETH_HDR;
  if (length < header) {
    *type = 0;
    return 0;
  }
  *type = lwipy_flow_word(frame + 12);
  if (*type == ETHTYPE_VLAN && length >= header + SIZEOF_VLAN_HDR) {
    *type = lwipy_flow_word(frame + 16);
    header += SIZEOF_VLAN_HDR;
  }
  return *type == ETHTYPE_IP || *type == ETHTYPE_IPV6 ? header : 0;
}

enum lwipy_verdict
lwipy_flow_read(int layer, struct lwipy_flow *flow, const u8_t *frame, size_t length)
{
  size_t header = 0;
  if (layer == LWIPY_L2) {
    u16_t type;
    if ((header = lwipy_flow_ethernet(frame, length, &type)) == 0) {
      return type == ETHTYPE_ARP ? TO_ALL : TO_FIRST;
    }
  }
  return read_ip(flow, frame + header, length - header, 0);
}
