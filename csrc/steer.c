/*
 * One interface for several stacks: each frame goes to the stack that has its flow.
 *
 * Theory of operation. All members of a group of stacks (lwipy/group.py) have the same MAC and IP addresses. A frame
 * from the wire is read as far as its ports (steer_flow.c), and goes to the member that a hash of its two ends names.
 * The hash is keyed, so that nobody outside can aim at one member, and symmetric: both directions of a flow, and the
 * packet inside an ICMP error, have the same. Who connects outwards chooses a local port by it (lwipy_steer_pick).
 *
 * Who reads the wire, steers. With one link that is a core of its own, the front: behind its interface stand inner
 * ones, one for each member, each wired to the member's own interface, and what a member sends goes to the wire. With
 * a link for each member (lwipy/_queues.py), the members read the wire themselves: a member keeps what is its own, and
 * behind its interface stand inner ones, one for each other member, each wired to that one's inner one for it. What
 * comes out of these was steered by who gave it; what a member sends goes to its own link.
 *
 * What has no ports: ARP and Neighbor Discovery go to all, so that each member knows the neighbours; ICMP errors to
 * the flow they speak of; all other ICMP, groups' management and other protocols to the first member. Fragments go by
 * their addresses alone, for only the first has ports: UDP's sockets exist in every member. A fragment of TCP is dropped
 * and counted: its connection may be another member's, and the wrong one would reset it. The first member is the one
 * with the lowest number whose link is up.
 *
 * Invariants:
 * 1. Of what all members would say alike, the wire hears the first one only: ARP replies and announcements, neighbour
 *    and router messages for our own addresses, reports of groups.
 * 2. A frame is never read beyond its length; what cannot be read as a flow goes to the first member, whose guard
 *    judges it.
 * 3. The front's lwIP takes no part: its interface is down for it, as the inner ones are everywhere, and never in its
 *    timers.
 * 4. A member's UDP flow that the hash gives to another (its resolver's, which chooses ports by itself) is pinned before
 *    it leaves: the answers go where it came from (steer_shared.c).
 * 5. `steer` is set at the interface with the link, `front` at the inner ones; either is NULL in all other interfaces.
 * 6. A frame is steered once, by the core that has read it; only the core's own lock is held meanwhile.
 */
#include "steer.h"
#include "link.h"
#include "steer_flow.h"
#include "steer_shared.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip.h"
#include "lwip/prot/ip6.h"

#define FRONT (-1)             /* in place of a member's number */

struct lwipy_steer {
  u64_t key;
  int count;
  int own;                     /* this core's number, or FRONT */
  struct lwipy_nic *member[LWIPY_STEER_MOST];   /* the way to it; NULL: none, or it is this core */
  struct lwipy_shared *shared;
  lwipy_steer_counters counters;
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

/* 1: the frame is this core's; 0: it was handed over, or there was no room. */
static int
give(struct lwipy_steer *steer, int number, const u8_t *frame, size_t length)
{
  struct lwipy_nic *inner = steer->member[number];
  struct pbuf p;
  if (number == steer->own) {
    return 1;
  }
  memset(&p, 0, sizeof(p));
  p.payload = (void *)(uintptr_t)frame;
  p.len = p.tot_len = (u16_t)length;
  p.ref = 1;
  if (inner == NULL || inner->wire == NULL || lwipy_wire_transmit(inner, &p) != 0) {
    steer->counters.full++;
  }
  return 0;
}

static int
member_of(const struct lwipy_steer *steer, const struct lwipy_flow *flow)
{
  u64_t hash = lwipy_flow_hash(steer->key, flow, 1);
  int pinned = flow->protocol == IP_PROTO_UDP ? lwipy_shared_pinned(steer->shared, hash) : -1;
  return pinned >= 0 ? pinned : lwipy_flow_member(hash, steer->count);
}

static int
give_to_all(struct lwipy_steer *steer, const u8_t *frame, size_t length)
{
  int i, own = 0;
  for (i = 0; i < steer->count; i++) {
    own |= give(steer, i, frame, length);
  }
  return own;
}

int
lwipy_steer_in(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  struct lwipy_steer *steer = nic->steer;
  struct lwipy_flow flow;
  if (length == 0 || length > UINT16_MAX) {
    nic->count.rx_malformed++;
    return 0;
  }
  if (steer->own != FRONT && !netif_is_link_up(&nic->netif)) {
    nic->count.rx_down++;
    return 0;
  }
  if (nic->layer == LWIPY_L2 && length > 6 && !(frame[0] & 1) && !lwipy_is_to(frame, &nic->netif)) {
    nic->count.rx_other++;
    return 0;
  }
  memset(&flow, 0, sizeof(flow));
  switch (lwipy_flow_read(nic->layer, &flow, frame, length)) {
    case BY_FLOW:
      steer->counters.flows++;
      return give(steer, member_of(steer, &flow), frame, length);
    case BY_ADDRESSES:
      steer->counters.fragments++;
      return give(steer, lwipy_flow_member(lwipy_flow_hash(steer->key, &flow, 0), steer->count), frame, length);
    case TO_ALL:
      steer->counters.to_all++;
      return give_to_all(steer, frame, length);
    case DROP:
      steer->counters.tcp_fragments++;
      return 0;
    default:
      steer->counters.to_first++;
      return give(steer, lwipy_shared_first(steer->shared), frame, length);
  }
}

int
lwipy_steer_takes_part(const struct lwipy_nic *nic)
{
  return nic->steer->own != FRONT;
}

int
lwipy_steer_keeps(const struct lwipy_nic *nic, const u8_t *frame, size_t length, int counts)
{
  struct lwipy_flow flow;
  struct lwipy_steer *steer = nic->steer;
  int keeps;
  memset(&flow, 0, sizeof(flow));
  keeps = lwipy_flow_read(nic->layer, &flow, frame, length) == BY_FLOW && member_of(steer, &flow) == steer->own;
  steer->counters.flows += keeps && counts;
  return keeps;
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
  if (lwipy_flow_member(hash, steer->count) != number) {
    steer->counters.pinned += (u64_t)lwipy_shared_pin(steer->shared, hash, number);
  } else {
    lwipy_shared_unpin(steer->shared, hash);
  }
}

/* Whether a frame of member `number` goes to the wire. */
static int
lets_out(struct lwipy_nic *nic, int number, const u8_t *frame, size_t length)
{
  struct lwipy_steer *steer = nic->steer;
  struct lwipy_flow flow;
  enum lwipy_verdict verdict;
  memset(&flow, 0, sizeof(flow));
  verdict = lwipy_flow_read(nic->layer, &flow, frame, length);
  if (verdict != BY_FLOW && number > lwipy_shared_first(steer->shared) && is_said_by_all(nic, &flow, frame, length)) {
    steer->counters.suppressed++;
    return 0;
  }
  if (verdict == BY_FLOW && flow.protocol == IP_PROTO_UDP) {
    pin_flow(steer, &flow, number);
  }
  return 1;
}

int
lwipy_steer_lets_out(struct lwipy_nic *nic, const struct pbuf *p)
{
  return nic->steer->own == FRONT || lets_out(nic, nic->steer->own, p->payload, p->len);
}

void
lwipy_steer_through(struct lwipy_nic *inner, const u8_t *frame, size_t length)
{
  struct lwipy_nic *nic = inner->front;
  struct pbuf p;
  if (nic->steer->own != FRONT) {
    lwipy_nic_take(nic, frame, length);
  } else if (lets_out(nic, inner->steer_number, frame, length)) {
    memset(&p, 0, sizeof(p));
    p.payload = (void *)(uintptr_t)frame;
    p.len = p.tot_len = (u16_t)length;
    p.ref = 1;
    lwipy_nic_transmit(nic, &p);
  }
}

int core_netif_add(int layer, const uint8_t *mac, int mtu);

/* ---- Life ---------------------------------------------------------------------------------------------------------- */

static void
wire_changes(struct netif *netif, netif_nsc_reason_t reason, const netif_ext_callback_args_t *args)
{
  struct lwipy_nic *nic = lwipy_nic_of(netif);
  LWIP_UNUSED_ARG(args);
  if ((reason & LWIP_NSC_LINK_CHANGED) && nic != NULL && nic->steer != NULL && nic->steer->own != FRONT) {
    lwipy_shared_wire(nic->steer->shared, nic->steer->own, netif_is_link_up(netif));
  }
}

static void
listen_to_wires(void)
{
  static netif_ext_callback_t listener;
  if (listener.callback_fn == NULL) {
    netif_add_ext_callback(&listener, wire_changes);
  }
}

int
core_steer_open(int number, uint64_t key, int count, int own, struct lwipy_shared *shared)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->steer != NULL || count < 1 || count > LWIPY_STEER_MOST || own < FRONT || own >= count) {
    return LWIPY_EARG;
  }
  if ((nic->steer = mem_calloc(1, sizeof(*nic->steer))) == NULL) {
    return LWIPY_EMEM;
  }
  nic->steer->key = key;
  nic->steer->count = count;
  nic->steer->own = own;
  nic->steer->shared = shared;
  lwipy_shared_hold(shared);
  lwipy_shared_wire(shared, LWIP_MAX(own, 0), own == FRONT || netif_is_link_up(&nic->netif));
  listen_to_wires();
  lwipy_link_restage(nic);
  lwipy_wire_restage(nic);
  if (own == FRONT) {
    netif_set_down(&nic->netif);
    lwipy_fifo_clear(&nic->out);       /* what lwIP said when the interface came up */
  }
  return 0;
}

int
core_steer_add(int number, int member)
{
  struct lwipy_nic *nic = lwipy_nic(number), *inner;
  int added;
  if (nic == NULL || nic->steer == NULL) {
    return LWIPY_ENODEV;
  }
  if (member < 0 || member >= nic->steer->count || member == nic->steer->own || nic->steer->member[member] != NULL) {
    return LWIPY_EARG;
  }
  if ((added = core_netif_add(nic->layer, nic->netif.hwaddr, nic->netif.mtu)) < 0) {
    return added;
  }
  inner = lwipy_nic(added);
  netif_set_down(&inner->netif);
  lwipy_fifo_clear(&inner->out);
  inner->front = nic;
  inner->steer_number = (u8_t)member;
  nic->steer->member[member] = inner;
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

/* Called while the interface goes: inner ones leave the table, and the table goes after the inner ones. */
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
    if (nic->steer->own != FRONT) {
      lwipy_shared_wire(nic->steer->shared, nic->steer->own, 0);
    }
    lwipy_shared_drop(nic->steer->shared);
    mem_free(nic->steer);
    nic->steer = NULL;
  }
}
