/*
 * The frames that cross an interface: from the wire to lwIP, and from lwIP to the wire.
 *
 * Theory of operation. A frame from the wire is checked by the guard, copied into one pbuf of the arena (unless it
 * lies in one that merge.c keeps) and given to lwIP at once. A frame for the wire is copied out of lwIP's pbufs into the interface's queue, into the link
 * that has a descriptor, or into the wire that joins it to another interface; lwIP keeps its pbufs, which it needs for
 * retransmission.
 *
 * Invariants:
 * 1. Every frame that does not get through is counted in exactly one counter. The counters stand at the wire: what a
 *    stage (stage.h) drops or repeats on the way in was received once, and on the way out is sent as often as it goes.
 * 2. LWIPY_HAS_FRAMES is set as long as an interface whose taker waits has frames for the wire.
 */
#include "merge.h"
#include "copy.h"
#include "netif.h"
#include "link.h"
#include "sending.h"
#include "stage.h"
#include "steer.h"

#include <string.h>

#include "lwip/ethip6.h"
#include "lwip/etharp.h"
#include "lwip/ip.h"

/* ---- To the wire ----------------------------------------------------------------------------------------------- */

/* The last stage: into the link, the wire, or the queue that Python empties. 0, or -1 when there is no room. */
static int
deliver(struct lwipy_nic *nic, const struct pbuf *p)
{
  if (nic->link != NULL) {
    return lwipy_link_transmit(nic->link, p);
  }
  if (nic->wire != NULL) {
    return lwipy_wire_transmit(nic, p);
  }
  if (lwipy_fifo_put(&nic->out, p) != 0) {
    return -1;
  }
  if (nic->deliver) {
    lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_FRAMES);
  }
  return 0;
}

void
lwipy_nic_output(struct lwipy_nic *nic, const struct pbuf *p)
{
  if (!netif_is_link_up(&nic->netif)) {
    nic->count.tx_down++;
    return;
  }
  switch (deliver(nic, p)) {
    case 0:
      nic->count.tx_frames++;
      nic->count.tx_bytes += p->tot_len;
      break;
    case LWIPY_LINK_ERROR:
      nic->count.tx_error++;
      break;
    default:
      nic->count.tx_full++;
  }
}

void
lwipy_nic_transmit(struct lwipy_nic *nic, const struct pbuf *p)
{
  if (nic->stages[LWIPY_OUT] != NULL) {
    lwipy_stages_enter(nic, LWIPY_OUT, p);
  } else {
    lwipy_nic_output(nic, p);
  }
}

/* Every frame of lwIP's for the wire comes through here. Losing one is the network's right, so lwIP hears ERR_OK. */
static err_t
transmit(struct lwipy_nic *nic, struct pbuf *p)
{
  if (nic->steer == NULL || lwipy_steer_lets_out(nic, p)) {
    lwipy_nic_transmit(nic, p);
  }
  return ERR_OK;
}

static err_t
transmit_frame(struct netif *netif, struct pbuf *p)
{
  return transmit(netif->state, p);
}

static err_t
transmit_ip4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
  LWIP_UNUSED_ARG(to);
  return transmit(netif->state, p);
}

static err_t
transmit_ip6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to)
{
  LWIP_UNUSED_ARG(to);
  return transmit(netif->state, p);
}

void
lwipy_nic_connect(struct lwipy_nic *nic)
{
  struct netif *netif = &nic->netif;
  if (nic->layer == LWIPY_L2) {
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = transmit_frame;
  } else {
    netif->output = transmit_ip4;
    netif->output_ip6 = transmit_ip6;
  }
}

/* ---- From the wire --------------------------------------------------------------------------------------------- */

/* lwIP's lengths have 16 bits, and count the Ethernet header too. */
#define LONGEST_FRAME 0xffff
/* lwIP reads the ports of any UDP packet, though it may be a fragment's last byte. */
#define LEAST_ROOM    96

size_t
lwipy_nic_admit(struct lwipy_nic *nic, const u8_t *frame, size_t length, size_t longest)
{
  struct netif *netif = &nic->netif;
  size_t keep = 0;
  if (!netif_is_up(netif) || !netif_is_link_up(netif)) {
    nic->count.rx_down++;
    return 0;
  }
  if (nic->layer == LWIPY_L3) {
    keep = length <= longest ? lwipy_guard_ip(netif, frame, length) : 0;
  } else if (length > SIZEOF_ETH_HDR && length <= longest) {
    if (!(frame[0] & 1) && !lwipy_is_to(frame, netif)) {
      nic->count.rx_other++;
      return 0;
    }
    keep = lwipy_guard_frame(netif, frame, length);
  }
  nic->count.rx_malformed += keep == 0;
  return keep;
}

static void
feed(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)LWIP_MAX(length, LEAST_ROOM), PBUF_RAM);
  if (p == NULL) {
    nic->count.rx_nomem++;
    return;
  }
  lwipy_copy(p->payload, frame, length);
  if (length < LEAST_ROOM) {
    memset((u8_t *)p->payload + length, 0, LEAST_ROOM - length);
    pbuf_realloc(p, (u16_t)length);
  }
  if (nic->netif.input(p, &nic->netif) != ERR_OK) {
    pbuf_free(p);
  }
  lwipy_sending_through();
}

void
lwipy_nic_feed_packet(struct lwipy_nic *nic, struct pbuf *p)
{
  lwipy_merge_flush();             /* what is held came before */
  p->if_idx = netif_get_index(&nic->netif);
  if (ip_input(p, &nic->netif) != ERR_OK) {
    pbuf_free(p);
  }
  lwipy_sending_through();
}

void
lwipy_nic_feed_verified(struct lwipy_nic *nic, struct pbuf *p)
{
  struct netif *netif = &nic->netif;
  u16_t checked = netif->chksum_flags;
  NETIF_SET_CHECKSUM_CTRL(netif, checked & ~(NETIF_CHECKSUM_CHECK_IP | NETIF_CHECKSUM_CHECK_TCP));
  if (netif->input(p, netif) != ERR_OK) {
    pbuf_free(p);
  }
  NETIF_SET_CHECKSUM_CTRL(netif, checked);
  lwipy_sending_through();
}

/* `own`: the pbuf that the frame lies in, in case it can be kept, or NULL. 1: it was. */
static int
take_frame(struct lwipy_nic *nic, const u8_t *frame, size_t length, struct pbuf *own)
{
  size_t longest = nic->netif.mtu;
  if (nic->layer == LWIPY_L2) {
    longest = LWIP_MIN(longest + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR, LONGEST_FRAME);
  }
  if ((length = lwipy_nic_admit(nic, frame, length, longest)) == 0) {
    return 0;
  }
  if (lwipy_merge(nic, frame, length, own)) {
    return own != NULL;
  }
  lwipy_replay = 0;
  feed(nic, frame, length);
  if (lwipy_replay) {
    feed(nic, frame, length);
  }
  if (nic->netif.ip6_autoconfig_enabled) {
    lwipy_keep_addresses(nic);
  }
  return 0;
}

static int
accept_frame(struct lwipy_nic *nic, const u8_t *frame, size_t length, struct pbuf *own)
{
  return (nic->steer == NULL || lwipy_steer_in(nic, frame, length)) && take_frame(nic, frame, length, own);
}

void
lwipy_nic_accept(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  accept_frame(nic, frame, length, NULL);
}

void
lwipy_nic_take(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  take_frame(nic, frame, length, NULL);
}

void
lwipy_nic_input_pbuf(struct lwipy_nic *nic, struct pbuf *p)
{
  if (nic->front != NULL || nic->stages[LWIPY_IN] != NULL) {
    lwipy_nic_input(nic, p->payload, p->len);
  } else {
    nic->count.rx_frames++;
    nic->count.rx_bytes += p->len;
    if (accept_frame(nic, p->payload, p->len, p)) {
      return;
    }
  }
  pbuf_free(p);
}

void
lwipy_nic_input(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  nic->count.rx_frames++;
  nic->count.rx_bytes += length;
  if (nic->front != NULL) {
    lwipy_steer_through(nic, frame, length);
    return;
  }
  if (nic->stages[LWIPY_IN] == NULL) {
    lwipy_nic_accept(nic, frame, length);
  } else if (length == 0 || length > UINT16_MAX) {
    nic->count.rx_malformed++;
  } else {
    lwipy_stages_enter_bytes(nic, frame, (u16_t)length);
  }
}

int
core_netif_receive(int number, const void *frame, size_t length)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  lwipy_nic_input(nic, frame, length);
  return 0;
}

/* ---- For whoever takes frames ---------------------------------------------------------------------------------- */

int64_t
core_netif_pending(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  return nic == NULL ? LWIPY_ENODEV : (int64_t)nic->out.used;
}

void
lwipy_nics_show_frames(void)
{
  struct netif *netif;
  NETIF_FOREACH(netif) {
    struct lwipy_nic *nic = lwipy_nic_of(netif);
    if (nic != NULL && nic->deliver && nic->out.used > 0) {
      lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_FRAMES);
      return;
    }
  }
  lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_FRAMES);
}

int64_t
core_netif_take(int number, void *batch, size_t room)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  int64_t taken;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  taken = (int64_t)lwipy_fifo_take(&nic->out, batch, room);
  lwipy_nics_show_frames();
  return taken;
}

int
core_netif_deliver(int number, int on)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  nic->deliver = (u8_t)(on != 0);
  lwipy_nics_show_frames();
  return 0;
}

/* ---- Work of interfaces between calls: loopback queues and wires ------------------------------------------------ */

/* Packets to oneself: where the device sums up, they have no sums. */
static void
poll_loops(void)
{
  struct netif *netif;
  NETIF_FOREACH(netif) {
    struct lwipy_nic *nic = netif->loop_first != NULL ? lwipy_nic_of(netif) : NULL;
    int unsummed = nic != NULL && nic->sums_by_device;
    if (unsummed) {
      NETIF_SET_CHECKSUM_CTRL(netif, netif->chksum_flags & ~NETIF_CHECKSUM_CHECK_TCP);
    }
    netif_poll(netif);
    if (unsummed) {
      lwipy_nic_set_sums(nic);
    }
  }
}

void
lwipy_netif_poll(void)
{
  struct netif *netif;
  lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_INPUT);
  poll_loops();
  lwipy_sending_through();
  NETIF_FOREACH(netif) {
    struct lwipy_nic *nic = lwipy_nic_of(netif);
    if (nic != NULL && nic->wire != NULL) {
      lwipy_wire_receive(nic);
    }
  }
}

int
lwipy_netif_has_work(void)
{
  struct netif *netif;
  NETIF_FOREACH(netif) {
    if (netif->loop_first != NULL) {
      return 1;
    }
  }
  return (lwipy_atomic_get(&lwipy_self->attention) & LWIPY_HAS_INPUT) != 0;
}
