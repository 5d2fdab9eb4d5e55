/*
 * Refuses what lwIP 2.2.1 must not see: packets that would make it read or write outside of them, fail an assertion,
 * loop for ever, or undo what the user has set.
 *
 * Each check answers one weakness, and has a test that fails without it (tests/test_guard_*.py):
 * - frames shorter than the ARP, IPv4 or IPv6 header that lwIP reads without looking at the length;
 * - IPv4 fragments that together are longer than 65535 bytes: lwIP's 16-bit sum wraps;
 * - the same for IPv6, and extension headers before the fragment header, which lwIP adds to that sum;
 * - fragments of Neighbor Discovery (RFC 6980), of anything that could become Neighbor Discovery by the next header of
 *   another fragment, which lwIP may believe, and of anything with further headers behind (RFC 7112): their options
 *   cannot be checked here;
 * - DHCP answers in fragments: lwIP's parser assumes that an option spans no more than two;
 * - options of Neighbor Discovery and of extension headers that reach beyond them or have length zero;
 * - a path MTU below 1280 (RFC 8201): lwIP would cut packets into pieces of no bytes, for ever;
 * - router advertisements and redirects, unless autoconfiguration was asked for, and neighbor advertisements that call
 *   an address of ours a duplicate after it has been taken (RFC 4862 5.4);
 * - our own addresses and the loopback's as a source from outside (RFC 1122 3.2.1.3).
 * TCP is checked where lwIP has already found the connection, in tcp_hooks.c. All else is lwIP's own to refuse and count.
 *
 * The guard keeps no state but its counters and never changes a packet. ICMP's destination unreachable is shown to
 * unreachable.c on the way.
 */
#include "core.h"

#include <string.h>

#include "lwip/ip6.h"
#include "lwip/prot/ethernet.h"

struct lwipy_guard_counters lwipy_guard_counters;

#define IP4_HEADER 20
#define IP6_HEADER 40
#define ARP_LENGTH 28
#define LONGEST    65535

enum { HOP_BY_HOP = 0, UDP = 17, ROUTING = 43, FRAGMENT = 44, ICMP6 = 58, DESTINATION = 60 };
enum { ICMP = 1, UNREACHABLE4 = 3, UNREACHABLE6 = 1 };
enum { PACKET_TOO_BIG = 2, ROUTER_ADVERTISEMENT = 134, NEIGHBOR_ADVERTISEMENT = 136, REDIRECT = 137 };

static unsigned
be16(const u8_t *p)
{
  return (unsigned)p[0] << 8 | p[1];
}

static u32_t
be32(const u8_t *p)
{
  return (u32_t)be16(p) << 16 | be16(p + 2);
}

static int
refuse(u64_t *counter)
{
  ++*counter;
  return 0;
}

/* ---- ICMPv6 ------------------------------------------------------------------------------------------------------- */

/* Bytes before the first option of a Neighbor Discovery message (RFC 4861 section 4), or 0 for other types. */
static size_t
nd_fixed_length(u8_t type)
{
  switch (type) {
    case 133:                    return 8;   /* router solicitation */
    case ROUTER_ADVERTISEMENT:   return 16;
    case 135:                    return 24;  /* neighbor solicitation */
    case NEIGHBOR_ADVERTISEMENT: return 24;
    case REDIRECT:               return 40;
    default:                     return 0;
  }
}

static int
nd_is_sound(const u8_t *message, size_t length)
{
  size_t at = nd_fixed_length(message[0]);
  if (length < at) {
    return 0;
  }
  while (at < length) {
    size_t option = length - at >= 2 ? (size_t)message[at + 1] * 8 : 0;
    if (option == 0 || option > length - at) {
      return 0;
    }
    /* lwIP reads prefix information and MTU options as whole structures, whatever their length says. */
    if ((message[at] == 3 && option != 32) || (message[at] == 5 && option != 8)) {
      return 0;
    }
    at += option;
  }
  return 1;
}

/* An address in use: one that is still being tested may be called a duplicate, or be another's source. */
static int
is_ours(const struct netif *netif, const u8_t *address)
{
  int i;
  for (i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
    if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) && memcmp(netif_ip6_addr(netif, i)->addr, address, 16) == 0) {
      return 1;
    }
  }
  return 0;
}

static int
pmtu_is_absurd(const u8_t *message, size_t length)
{
  return length >= 8 && message[0] == PACKET_TOO_BIG && be32(message + 4) < IP6_MIN_MTU_LENGTH;
}

static int
icmp6_is_sound(const struct netif *netif, const u8_t *packet, const u8_t *message, size_t length)
{
  if (length == 0) {
    return 1;
  }
  if (message[0] == UNREACHABLE6) {
    lwipy_unreachable6(netif, packet, message, length);
    return 1;
  }
  if (pmtu_is_absurd(message, length)) {
    return refuse(&lwipy_guard_counters.icmp);
  }
  if (nd_fixed_length(message[0]) == 0) {
    return 1;
  }
  if (!nd_is_sound(message, length)) {
    return refuse(&lwipy_guard_counters.nd_options);
  }
  if ((message[0] == ROUTER_ADVERTISEMENT || message[0] == REDIRECT) && !netif->ip6_autoconfig_enabled) {
    return refuse(&lwipy_guard_counters.nd_unasked);
  }
  if (message[0] == NEIGHBOR_ADVERTISEMENT && is_ours(netif, message + 8)) {
    return refuse(&lwipy_guard_counters.nd_unasked);
  }
  return 1;
}

/* ---- IPv6 --------------------------------------------------------------------------------------------------------- */

/* The options of a hop-by-hop or destination header fill it exactly; lwIP reads each length without looking. */
static int
options_fit(const u8_t *header, size_t length)
{
  size_t at = 2;
  while (at < length) {
    if (header[at] == 0) {
      at++;
    } else if (length - at < 2) {
      return 0;
    } else {
      at += 2 + (size_t)header[at + 1];
    }
  }
  return at == length;
}

/* The packet's fragment header is at IP6_HEADER; `end` is the packet's. */
static int
fragment_is_sound(const u8_t *packet, size_t end)
{
  const u8_t *header = packet + IP6_HEADER, *data = header + 8;
  size_t length = end - IP6_HEADER - 8;
  u8_t next = header[0];
  size_t start = be16(header + 2) & 0xfff8;
  int more = header[3] & 1;
  if (next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == DESTINATION ||
      IP6_HEADER + start + length > LONGEST) {
    return refuse(&lwipy_guard_counters.fragment);
  }
  if (start > 0) {
    return 1;
  }
  if (length < 8 && (more || next == ICMP6)) {
    return refuse(&lwipy_guard_counters.fragment);
  }
  if (next == ICMP6 && (nd_fixed_length(data[0]) != 0 || pmtu_is_absurd(data, length))) {
    return refuse(&lwipy_guard_counters.nd_fragment);
  }
  /* Another fragment's header may say ICMPv6; what lwIP would then believe is known by its first bytes. */
  if (more && ((nd_fixed_length(data[0]) != 0 && data[1] == 0 && packet[7] == 255) || pmtu_is_absurd(data, length))) {
    return refuse(&lwipy_guard_counters.nd_fragment);
  }
  return 1;
}

static int
headers_are_sound(const struct netif *netif, const u8_t *packet, size_t end)
{
  size_t at = IP6_HEADER, length;
  u8_t next = packet[6];
  for (;;) {
    if (next == ICMP6) {
      return icmp6_is_sound(netif, packet, packet + at, end - at);
    }
    if (next == FRAGMENT && at == IP6_HEADER && end - at >= 8) {
      return fragment_is_sound(packet, end);
    }
    if (next == FRAGMENT) {
      return refuse(&lwipy_guard_counters.fragment);
    }
    if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION) {
      return 1;
    }
    length = end - at >= 8 ? ((size_t)packet[at + 1] + 1) * 8 : 0;
    if (length == 0 || length > end - at || (next != ROUTING && !options_fit(packet + at, length))) {
      return refuse(&lwipy_guard_counters.ip_header);
    }
    next = packet[at];
    at += length;
  }
}

static size_t
check_ip6(const struct netif *netif, const u8_t *packet, size_t length)
{
  static const u8_t loopback[16] = {[15] = 1};
  size_t end;
  if (length < IP6_HEADER || (end = IP6_HEADER + be16(packet + 4)) > length || end > LONGEST) {
    return (size_t)refuse(&lwipy_guard_counters.ip_header);
  }
  if (memcmp(packet + 8, loopback, 16) == 0 || is_ours(netif, packet + 8)) {
    return (size_t)refuse(&lwipy_guard_counters.source);
  }
  return headers_are_sound(netif, packet, end) ? end : 0;
}

/* ---- IPv4 --------------------------------------------------------------------------------------------------------- */

static int
fragment4_is_sound(const u8_t *packet, size_t header, size_t end)
{
  size_t start = (size_t)(be16(packet + 6) & 0x1fff) * 8;
  if (IP4_HEADER + start + (end - header) > LONGEST) {
    return refuse(&lwipy_guard_counters.fragment);
  }
  if (start == 0 && packet[9] == UDP && end - header >= 4 && be16(packet + header + 2) == 68) {
    return refuse(&lwipy_guard_counters.fragment);
  }
  return 1;
}

static size_t
check_ip4(const struct netif *netif, const u8_t *packet, size_t length)
{
  size_t header, end;
  u32_t own = ip4_addr_get_u32(netif_ip4_addr(netif));
  if (length < IP4_HEADER || packet[0] >> 4 != 4 || (header = (size_t)(packet[0] & 15) * 4) < IP4_HEADER ||
      (end = be16(packet + 2)) < header || end > length) {
    return (size_t)refuse(&lwipy_guard_counters.ip_header);
  }
  if (packet[12] == 127 || (own != 0 && memcmp(packet + 12, &own, 4) == 0)) {
    return (size_t)refuse(&lwipy_guard_counters.source);
  }
  if ((be16(packet + 6) & 0x3fff) != 0 && !fragment4_is_sound(packet, header, end)) {
    return 0;
  }
  if (packet[9] == ICMP && (be16(packet + 6) & 0x3fff) == 0 && end > header && packet[header] == UNREACHABLE4) {
    lwipy_unreachable4(packet + header, end - header);
  }
  return end;
}

/* ---- For netif.c: how much of it to keep, without what pads it; 0 to drop it ---------------------------------------- */

size_t
lwipy_guard_ip(const struct netif *netif, const u8_t *packet, size_t length)
{
  return length > 0 && packet[0] >> 4 == 6 ? check_ip6(netif, packet, length) : check_ip4(netif, packet, length);
}

size_t
lwipy_guard_frame(const struct netif *netif, const u8_t *frame, size_t length)
{
  size_t at = SIZEOF_ETH_HDR, end;
  unsigned type = be16(frame + 12);
  if (type == ETHTYPE_VLAN) {
    at += SIZEOF_VLAN_HDR;
    if (length < at) {
      return 0;
    }
    type = be16(frame + at - 2);
  }
  switch (type) {
    case ETHTYPE_ARP:
      return length - at >= ARP_LENGTH ? at + ARP_LENGTH : 0;
    case ETHTYPE_IP:
      end = check_ip4(netif, frame + at, length - at);
      break;
    case ETHTYPE_IPV6:
      end = length > at && frame[at] >> 4 == 6 ? check_ip6(netif, frame + at, length - at) : 0;
      break;
    default:
      return length;
  }
  return end == 0 ? 0 : at + end;
}
