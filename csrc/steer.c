/*
 * One interface for several stacks: each frame goes to the stack that has its flow.
 *
 * Theory of operation. A group of stacks (lwipy/group.py) has a core of its own at the wire, the front. Its interface
 * has the link; behind that stand inner interfaces, one for each member, each wired to the member's own interface. All
 * members have the same MAC and IP addresses. A frame from the wire is read as far as its ports (steer_flow.c), and goes
 * to the member that a hash of its two ends names; what a member sends goes to the wire. The hash is keyed, so that
 * nobody outside can aim at one member, and symmetric: both directions of a flow, and the packet inside an ICMP error,
 * have the same.
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
#include "steer_flow.h"

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

int
lwipy_steer_pick(uint64_t key, int count, const lwipy_address *a, const lwipy_address *b, int fragmented)
{
  struct lwipy_flow flow = { .source = a->bytes, .destination = b->bytes, .width = a->family == 6 ? 16 : 4 };
  flow.ports[0] = a->port;
  flow.ports[1] = b->port;
  return lwipy_flow_member(lwipy_flow_hash(key, &flow, !fragmented), count);
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
hand_by_flow(struct lwipy_steer *steer, const struct lwipy_flow *flow, const u8_t *frame, size_t length)
{
  u64_t hash = lwipy_flow_hash(steer->key, flow, 1);
  const struct pin *pin = flow->protocol == IP_PROTO_UDP ? pinned(steer, hash) : NULL;
  steer->counters.flows++;
  hand(steer, pin != NULL ? pin->member : lwipy_flow_member(hash, steer->count), frame, length);
}

void
lwipy_steer_in(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  struct lwipy_steer *steer = nic->steer;
  struct lwipy_flow flow;
  int i;
  if (length == 0 || length > UINT16_MAX) {
    nic->count.rx_malformed++;
    return;
  }
  if (nic->layer == LWIPY_L2 && length > 6 && !(frame[0] & 1) && !lwipy_is_to(frame, &nic->netif)) {
    nic->count.rx_other++;
    return;
  }
  memset(&flow, 0, sizeof(flow));
  switch (lwipy_flow_read(nic->layer, &flow, frame, length)) {
    case BY_FLOW:
      hand_by_flow(steer, &flow, frame, length);
      break;
    case BY_ADDRESSES:
      steer->counters.fragments++;
      hand(steer, lwipy_flow_member(lwipy_flow_hash(steer->key, &flow, 0), steer->count), frame, length);
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
is_said_by_all(const struct lwipy_nic *nic, const struct lwipy_flow *flow, const u8_t *frame, size_t length)
{
  size_t header = 0;
  u16_t type;
  if (nic->layer == LWIPY_L2 && (header = lwipy_flow_ethernet(frame, length, &type)) == 0) {
    /* ARP: replies, and announcements, which ask for the asker's own address. */
    return type == ETHTYPE_ARP && length >= 42 &&
           (lwipy_flow_word(frame + 20) != 1 || memcmp(frame + 28, frame + 38, 4) == 0);
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
pin_flow(struct lwipy_steer *steer, const struct lwipy_flow *flow, int number)
{
  u64_t hash = lwipy_flow_hash(steer->key, flow, 1);
  struct pin *pin = &steer->pins[hash & (PINS - 1)];
  if (lwipy_flow_member(hash, steer->count) != number) {
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
  struct lwipy_flow flow;
  struct pbuf p;
  enum lwipy_verdict verdict;
  memset(&flow, 0, sizeof(flow));
  verdict = lwipy_flow_read(nic->layer, &flow, frame, length);
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
  lwipy_wire_restage(nic);
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
