/*
 * One interface for several stacks: each frame goes to the stack that has its flow.
 *
 * Theory of operation. A group of stacks (lwipy/group.py) has a core of its own at the wire, the front. Its interface
 * has the link; behind that stand inner interfaces, one for each member, each wired to the member's own interface. All
 * members have the same MAC and IP addresses. A frame from the wire is read as far as its ports, and goes to the member
 * that a hash of its two ends names; what a member sends goes to the wire. The hash is keyed, so that nobody outside can
 * aim at one member, and symmetric: both directions of a flow, and the packet inside an ICMP error, have the same.
 * Who connects outwards chooses a local port by the same hash (lwipy_steer_pick).
 *
 * What has no ports: ARP and Neighbor Discovery go to all, so that each member knows the neighbours; ICMP errors to
 * the flow they speak of; all other ICMP, groups' management and other protocols to the first member. Fragments go by their
 * addresses alone, for only the first has ports: UDP's sockets exist in every member. A fragment of TCP is dropped and
 * counted: its connection may be another member's, and the wrong one would reset it.
 *
 * Invariants:
 * 1. Of what all members would say alike, the wire hears the first one only: ARP replies and announcements, neighbour
 *    and router messages for our own addresses, reports of groups.
 * 2. A frame is never read beyond its length; what cannot be read as a flow goes to the first member, whose guard
 *    judges it.
 * 3. The front's lwIP takes no part: its interface and the inner ones are down for it, and never in its timers.
 * 4. A member's UDP flow that the hash gives to another (its resolver's, which chooses ports by itself) is pinned: the
 *    answers go where it came from. The table has a fixed size; a newer flow may take an older one's place.
 * 5. `steer` is set at the interface with the link, `front` at the inner ones; either is NULL in all other interfaces.
 */
#include "steer.h"
#include "link.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip.h"
#include "lwip/prot/ip6.h"

#define PINS 1024              /* a power of two */

struct pin {
  u64_t hash;
  u8_t member;
  u8_t used;
};

struct lwipy_steer {
  u64_t key;
  int count;
  struct lwipy_nic *member[LWIPY_STEER_MOST];
  lwipy_steer_counters counters;
  struct pin pins[PINS];
};

enum verdict { TO_FIRST, TO_ALL, BY_FLOW, BY_ADDRESSES, DROP };

struct flow {
  const u8_t *source, *destination;      /* `width` bytes each */
  size_t width;
  u16_t ports[2];
  u8_t protocol;
};

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

static u64_t
hash_flow(u64_t key, const struct flow *flow, int with_ports)
{
  u64_t a = hash_end(key, flow->source, flow->width, with_ports ? flow->ports[0] : 0);
  u64_t b = hash_end(key, flow->destination, flow->width, with_ports ? flow->ports[1] : 0);
  return mix(a + b);
}

static int
member_of(u64_t hash, int count)
{
  return (int)(((hash >> 32) * (u64_t)count) >> 32);
}

int
lwipy_steer_pick(uint64_t key, int count, const lwipy_address *a, const lwipy_address *b, int fragmented)
{
  struct flow flow = { .source = a->bytes, .destination = b->bytes, .width = a->family == 6 ? 16 : 4 };
  flow.ports[0] = a->port;
  flow.ports[1] = b->port;
  return member_of(hash_flow(key, &flow, !fragmented), count);
}

/* ---- Reading a packet -------------------------------------------------------------------------------------------- */

#define IS_PORTED(protocol) ((protocol) == IP_PROTO_TCP || (protocol) == IP_PROTO_UDP)

static u16_t
word(const u8_t *p)
{
  return (u16_t)(p[0] << 8 | p[1]);
}

static enum verdict
read_ports(struct flow *flow, const u8_t *p, size_t length)
{
  if (!IS_PORTED(flow->protocol) || length < 4) {
    return TO_FIRST;
  }
  flow->ports[0] = word(p);
  flow->ports[1] = word(p + 2);
  return BY_FLOW;
}

static enum verdict
read_fragment(const struct flow *flow)
{
  return flow->protocol == IP_PROTO_UDP ? BY_ADDRESSES : flow->protocol == IP_PROTO_TCP ? DROP : TO_FIRST;
}

static enum verdict read_ip(struct flow *flow, const u8_t *p, size_t length, int inside);

/* An error speaks of a packet of ours, which it has behind its own eight bytes. */
static enum verdict
read_error(struct flow *flow, const u8_t *p, size_t length)
{
  enum verdict verdict = length > 8 ? read_ip(flow, p + 8, length - 8, 1) : TO_FIRST;
  return verdict == BY_FLOW ? BY_FLOW : TO_FIRST;
}

static enum verdict
read_ip4(struct flow *flow, const u8_t *p, size_t length, int inside)
{
  size_t header = (size_t)(p[0] & 0xf) * 4;
  if (length < 20 || header < 20 || header > length) {
    return TO_FIRST;
  }
  flow->source = p + 12;
  flow->destination = p + 16;
  flow->width = 4;
  flow->protocol = p[9];
  if (word(p + 6) & 0x3fff) {
    return inside ? TO_FIRST : read_fragment(flow);
  }
  if (flow->protocol == IP_PROTO_ICMP && !inside && length > header) {
    u8_t type = p[header];
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12 ? read_error(flow, p + header, length - header)
                                                                           : TO_FIRST;
  }
  return read_ports(flow, p + header, length - header);
}

static enum verdict
read_icmp6(struct flow *flow, const u8_t *p, size_t length)
{
  if (length == 0) {
    return TO_FIRST;
  }
  if (p[0] >= 133 && p[0] <= 137) {
    return TO_ALL;
  }
  return p[0] >= 1 && p[0] <= 4 ? read_error(flow, p, length) : TO_FIRST;
}

static enum verdict
read_ip6(struct flow *flow, const u8_t *p, size_t length, int inside)
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
      if (word(p + at + 2) & 0xfff9) {                     /* an offset, or more to come */
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

static enum verdict
read_ip(struct flow *flow, const u8_t *p, size_t length, int inside)
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

/* How many bytes the Ethernet header has, with a VLAN's tag if there is one; 0: no IP packet. */
static size_t
ethernet_header(const u8_t *frame, size_t length, u16_t *type)
{
  size_t header = SIZEOF_ETH_HDR;
  if (length < header) {
    *type = 0;
    return 0;
  }
  *type = word(frame + 12);
  if (*type == ETHTYPE_VLAN && length >= header + SIZEOF_VLAN_HDR) {
    *type = word(frame + 16);
    header += SIZEOF_VLAN_HDR;
  }
  return *type == ETHTYPE_IP || *type == ETHTYPE_IPV6 ? header : 0;
}

static enum verdict
read_frame(const struct lwipy_nic *nic, struct flow *flow, const u8_t *frame, size_t length)
{
  size_t header = 0;
  if (nic->layer == LWIPY_L2) {
    u16_t type;
    if ((header = ethernet_header(frame, length, &type)) == 0) {
      return type == ETHTYPE_ARP ? TO_ALL : TO_FIRST;
    }
  }
  return read_ip(flow, frame + header, length - header, 0);
}

/* ---- Inwards ------------------------------------------------------------------------------------------------------ */

static void
hand(struct lwipy_steer *steer, int number, const u8_t *frame, size_t length)
{
  struct lwipy_nic *inner = steer->member[number];
  struct pbuf p;
  memset(&p, 0, sizeof(p));
  p.payload = (void *)(uintptr_t)frame;
  p.len = p.tot_len = (u16_t)length;
  p.ref = 1;
  if (inner == NULL || inner->wire == NULL || lwipy_wire_transmit(inner, &p) != 0) {
    steer->counters.full++;
  }
}

static const struct pin *
pinned(const struct lwipy_steer *steer, u64_t hash)
{
  const struct pin *pin = &steer->pins[hash & (PINS - 1)];
  return pin->used && pin->hash == hash ? pin : NULL;
}

static void
hand_by_flow(struct lwipy_steer *steer, const struct flow *flow, const u8_t *frame, size_t length)
{
  u64_t hash = hash_flow(steer->key, flow, 1);
  const struct pin *pin = flow->protocol == IP_PROTO_UDP ? pinned(steer, hash) : NULL;
  steer->counters.flows++;
  hand(steer, pin != NULL ? pin->member : member_of(hash, steer->count), frame, length);
}

void
lwipy_steer_in(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  struct lwipy_steer *steer = nic->steer;
  struct flow flow;
  int i;
  if (length == 0 || length > UINT16_MAX) {
    nic->count.rx_malformed++;
    return;
  }
  if (nic->layer == LWIPY_L2 && length > 6 && !(frame[0] & 1) &&
      memcmp(frame, nic->netif.hwaddr, ETH_HWADDR_LEN) != 0) {
    nic->count.rx_other++;
    return;
  }
  memset(&flow, 0, sizeof(flow));
  switch (read_frame(nic, &flow, frame, length)) {
    case BY_FLOW:
      hand_by_flow(steer, &flow, frame, length);
      break;
    case BY_ADDRESSES:
      steer->counters.fragments++;
      hand(steer, member_of(hash_flow(steer->key, &flow, 0), steer->count), frame, length);
      break;
    case TO_ALL:
      steer->counters.to_all++;
      for (i = 0; i < steer->count; i++) {
        hand(steer, i, frame, length);
      }
      break;
    case DROP:
      steer->counters.tcp_fragments++;
      break;
    default:
      steer->counters.to_first++;
      hand(steer, 0, frame, length);
  }
}

/* ---- Outwards ----------------------------------------------------------------------------------------------------- */

static int
is_said_by_all(const struct lwipy_nic *nic, const struct flow *flow, const u8_t *frame, size_t length)
{
  size_t header = 0;
  u16_t type;
  if (nic->layer == LWIPY_L2 && (header = ethernet_header(frame, length, &type)) == 0) {
    /* ARP: replies, and announcements, which ask for the asker's own address. */
    return type == ETHTYPE_ARP && length >= 42 &&
           (word(frame + 20) != 1 || memcmp(frame + 28, frame + 38, 4) == 0);
  }
  if (flow->protocol == IP_PROTO_IGMP) {
    return 1;
  }
  if (flow->width == 16 && flow->protocol == IP6_NEXTH_ICMP6) {
    static const u8_t nobody[16];
    size_t at = header + 40 + (frame[header + 6] == 0 ? 8 : 0);       /* MLD has a router alert before it */
    u8_t message = at < length ? frame[at] : 0;
    return message == 131 || message == 132 || message == 133 || message == 136 ||
           (message == 135 && memcmp(flow->source, nobody, sizeof(nobody)) == 0);
  }
  return 0;
}

/* Answers to a UDP flow that the hash would not give to its member shall find it. */
static void
pin_flow(struct lwipy_steer *steer, const struct flow *flow, int number)
{
  u64_t hash = hash_flow(steer->key, flow, 1);
  struct pin *pin = &steer->pins[hash & (PINS - 1)];
  if (member_of(hash, steer->count) != number) {
    steer->counters.pinned += !(pin->used && pin->hash == hash);
    pin->hash = hash;
    pin->member = (u8_t)number;
    pin->used = 1;
  } else if (pin->used && pin->hash == hash) {
    pin->used = 0;
  }
}

void
lwipy_steer_out(struct lwipy_nic *inner, const u8_t *frame, size_t length)
{
  struct lwipy_nic *nic = inner->front;
  struct lwipy_steer *steer = nic->steer;
  struct flow flow;
  struct pbuf p;
  enum verdict verdict;
  memset(&flow, 0, sizeof(flow));
  verdict = read_frame(nic, &flow, frame, length);
  if (inner->steer_number != 0 && verdict != BY_FLOW && is_said_by_all(nic, &flow, frame, length)) {
    steer->counters.suppressed++;
    return;
  }
  if (verdict == BY_FLOW && flow.protocol == IP_PROTO_UDP) {
    pin_flow(steer, &flow, inner->steer_number);
  }
  memset(&p, 0, sizeof(p));
  p.payload = (void *)(uintptr_t)frame;
  p.len = p.tot_len = (u16_t)length;
  p.ref = 1;
  lwipy_nic_transmit(nic, &p);
}

int core_netif_add(int layer, const uint8_t *mac, int mtu);

/* ---- Life ---------------------------------------------------------------------------------------------------------- */

int
core_steer_open(int number, uint64_t key)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->steer != NULL) {
    return LWIPY_EVAL;
  }
  if ((nic->steer = mem_calloc(1, sizeof(*nic->steer))) == NULL) {
    return LWIPY_EMEM;
  }
  nic->steer->key = key;
  lwipy_link_restage(nic);
  netif_set_down(&nic->netif);
  lwipy_fifo_clear(&nic->out);       /* what lwIP said when the interface came up */
  return 0;
}

int
core_steer_add(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number), *inner;
  int added;
  if (nic == NULL || nic->steer == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->steer->count == LWIPY_STEER_MOST) {
    return LWIPY_EMEM;
  }
  if ((added = core_netif_add(nic->layer, nic->netif.hwaddr, nic->netif.mtu)) < 0) {
    return added;
  }
  inner = lwipy_nic(added);
  netif_set_down(&inner->netif);
  lwipy_fifo_clear(&inner->out);
  inner->front = nic;
  inner->steer_number = (u8_t)nic->steer->count;
  nic->steer->member[nic->steer->count++] = inner;
  return added;
}

int
core_steer_get_counters(int number, lwipy_steer_counters *out)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL || nic->steer == NULL) {
    return LWIPY_ENODEV;
  }
  *out = nic->steer->counters;
  return 0;
}

/* Called while the interface goes: inner ones leave the table, and the front's table goes after the inner ones. */
void
lwipy_steer_forget(struct lwipy_nic *nic)
{
  int i;
  if (nic->front != NULL) {
    nic->front->steer->member[nic->steer_number] = NULL;
    nic->front = NULL;
  }
  if (nic->steer != NULL) {
    for (i = 0; i < nic->steer->count; i++) {
      if (nic->steer->member[i] != NULL) {
        nic->steer->member[i]->front = NULL;
      }
    }
    mem_free(nic->steer);
    nic->steer = NULL;
  }
}
