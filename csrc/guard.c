/*
 * Refuses what lwIP 2.2.1 must not see: packets that would make it read or write outside of them.
 *
 * Each check answers one known weakness: frames shorter than the ARP, IPv4 or IPv6 header that lwIP reads without
 * looking at the length; Neighbor Discovery options that reach beyond their packet or have length zero; Neighbor
 * Discovery in fragments, where options cannot be checked (RFC 6980 forbids it). TCP options are checked where lwIP
 * has already found the connection, in tcp_hooks.c. All else is lwIP's own to refuse and count.
 *
 * The guard keeps no state but its counters and never changes a packet.
 */
#include "core.h"

#include "lwip/prot/ethernet.h"

struct lwipy_guard_counters lwipy_guard_counters;

#define IP6_HEADER 40
#define ARP_LENGTH 28

static unsigned
be16(const u8_t *p)
{
  return (unsigned)p[0] << 8 | p[1];
}

/* Bytes before the first option of a Neighbor Discovery message (RFC 4861 section 4), or 0 for other types. */
static size_t
nd_fixed_length(u8_t type)
{
  switch (type) {
    case 133: return 8;   /* router solicitation */
    case 134: return 16;  /* router advertisement */
    case 135: return 24;  /* neighbor solicitation */
    case 136: return 24;  /* neighbor advertisement */
    case 137: return 40;  /* redirect */
    default:  return 0;
  }
}

static int
nd_is_sound(const u8_t *message, size_t length)
{
  size_t fixed, at;
  if (length < 1 || (fixed = nd_fixed_length(message[0])) == 0) {
    return 1;
  }
  if (length < fixed) {
    return 0;
  }
  for (at = fixed; at < length;) {
    size_t option = length - at >= 2 ? (size_t)message[at + 1] * 8 : 0;
    if (option == 0 || option > length - at) {
      return 0;
    }
    /* lwIP reads prefix information and MTU options as whole structures, whatever their length says. */
    if ((message[at] == 3 && option != 32) || (message[at] == 5 && option != 8) ||
        ((message[at] == 1 || message[at] == 2) && option < 8)) {
      return 0;
    }
    at += option;
  }
  return 1;
}

static int
ip6_is_sound(const u8_t *packet, size_t length)
{
  size_t at = IP6_HEADER, end;
  u8_t next;
  if (length < IP6_HEADER) {
    lwipy_guard_counters.ip_header++;
    return 0;
  }
  end = IP6_HEADER + be16(packet + 4);
  if (end > length) {
    lwipy_guard_counters.ip_header++;
    return 0;
  }
  for (next = packet[6];;) {
    if (next == 58) {
      if (nd_is_sound(packet + at, end - at)) {
        return 1;
      }
      lwipy_guard_counters.nd_options++;
      return 0;
    }
    if (next == 44) {
      u8_t inner;
      if (end - at < 8) {
        lwipy_guard_counters.ip_header++;
        return 0;
      }
      inner = packet[at];
      /* The first fragment tells what the whole will be: Neighbor Discovery may not come so, nor be hidden
         behind further extension headers (RFC 6980, RFC 7112). */
      if ((be16(packet + at + 2) & 0xfff8) == 0 &&
          ((inner == 58 && (end - at < 9 || nd_fixed_length(packet[at + 8]) != 0)) ||
           inner == 0 || inner == 43 || inner == 44 || inner == 60)) {
        lwipy_guard_counters.nd_fragment++;
        return 0;
      }
      return 1;
    }
    if (next != 0 && next != 43 && next != 60) {
      return 1;
    }
    if (end - at < 8 || ((size_t)packet[at + 1] + 1) * 8 > end - at) {
      lwipy_guard_counters.ip_header++;
      return 0;
    }
    next = packet[at];
    at += ((size_t)packet[at + 1] + 1) * 8;
  }
}

int
lwipy_guard_ip(const u8_t *packet, size_t length)
{
  if (length >= 1 && packet[0] >> 4 == 6) {
    return ip6_is_sound(packet, length);
  }
  if (length < 20 || packet[0] >> 4 != 4 || (size_t)(packet[0] & 15) * 4 > length) {
    lwipy_guard_counters.ip_header++;
    return 0;
  }
  return 1;
}

int
lwipy_guard_frame(const u8_t *frame, size_t length)
{
  size_t at = SIZEOF_ETH_HDR;
  unsigned type = be16(frame + 12);
  if (type == ETHTYPE_VLAN) {
    if (length < at + SIZEOF_VLAN_HDR) {
      return 0;
    }
    type = be16(frame + at + 2);
    at += SIZEOF_VLAN_HDR;
  }
  switch (type) {
    case ETHTYPE_ARP:
      return length - at >= ARP_LENGTH;
    case ETHTYPE_IP:
    case ETHTYPE_IPV6:
      return lwipy_guard_ip(frame + at, length - at) && (frame[at] >> 4 == (type == ETHTYPE_IP ? 4 : 6));
    default:
      return 1;
  }
}
