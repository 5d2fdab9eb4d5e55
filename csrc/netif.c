/*
 * Interfaces: lwIP's netifs, Ethernet (L2) or IP (L3, point to point), and the frames that cross them.
 *
 * Theory of operation. A frame from the wire is checked by the guard, copied into one pbuf of the arena and given to
 * lwIP at once. A frame for the wire is copied out of lwIP's pbufs into the interface's queue, into the link
 * that has a descriptor, or into the wire that joins it to another interface; lwIP keeps its pbufs, which it needs for
 * retransmission.
 *
 * Invariants:
 * 1. An interface is known by lwIP's index (1..255; 1 is the loopback), which is not reused while it lives.
 * 2. `netif.state` points to the lwipy_nic; the netif is its first member. lwIP's loopback has no lwipy_nic.
 * 3. Whoever removes a nic ends its link and stages, cuts its wire and frees its queue first; lwIP closes the pcbs bound
 *    to its addresses.
 * 4. Every frame that does not get through is counted in exactly one counter. The counters stand at the wire: what a
 *    stage (stage.h) drops or repeats on the way in was received once, and on the way out is sent as often as it goes.
 */
#include "merge.h"
#include "netif.h"
#include "link.h"
#include "sending.h"
#include "stage.h"
#include "steer.h"
#include "tcp.h"

#include <string.h>

#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/igmp.h"
#include "lwip/ip.h"
#include "lwip/mem.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"

#define MOST_NETIFS 255   /* lwIP looks for a free number until it finds one */

static struct lwipy_nic *nics[256];

struct lwipy_nic *
lwipy_nic(int number)
{
  return number > 0 && number < 256 ? nics[number] : NULL;
}

/* Where packets go that name no interface and need none: groups, the limited broadcast, link-local addresses. */
struct netif *
lwipy_netif_first(void)
{
  int i;
  if (netif_default != NULL) {
    return netif_default;
  }
  for (i = 1; i < 256; i++) {
    if (nics[i] != NULL && netif_is_up(&nics[i]->netif) && netif_is_link_up(&nics[i]->netif)) {
      return &nics[i]->netif;
    }
  }
  return NULL;
}

struct lwipy_nic *
lwipy_nic_of(const struct netif *netif)
{
  struct lwipy_nic *nic = lwipy_nic(netif_get_index(netif));
  return nic != NULL && &nic->netif == netif ? nic : NULL;
}

struct netif *
lwipy_netif_by_index(int number)
{
  return number > 0 && number < 256 ? netif_get_by_index((u8_t)number) : NULL;
}

/* ---- Frames -------------------------------------------------------------------------------------------------- */

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
  lwipy_nic_transmit(nic, p);
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
    if (!(frame[0] & 1) && memcmp(frame, netif->hwaddr, ETH_HWADDR_LEN) != 0) {
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
  memcpy(p->payload, frame, length);
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

void
lwipy_nic_accept(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  size_t longest = nic->netif.mtu;
  if (nic->steer != NULL) {
    lwipy_steer_in(nic, frame, length);
    return;
  }
  if (nic->layer == LWIPY_L2) {
    longest = LWIP_MIN(longest + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR, LONGEST_FRAME);
  }
  if ((length = lwipy_nic_admit(nic, frame, length, longest)) == 0) {
    return;
  }
  if (lwipy_merge(nic, frame, length)) {
    return;
  }
  lwipy_replay = 0;
  feed(nic, frame, length);
  if (lwipy_replay) {
    feed(nic, frame, length);
  }
  if (nic->netif.ip6_autoconfig_enabled) {
    lwipy_keep_addresses(nic);
  }
}

void
lwipy_nic_input(struct lwipy_nic *nic, const u8_t *frame, size_t length)
{
  nic->count.rx_frames++;
  nic->count.rx_bytes += length;
  if (nic->front != NULL) {
    lwipy_steer_out(nic, frame, length);
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

int64_t
core_netif_receive_packed(int number, const void *batch, size_t length)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  const u8_t *p = batch;
  int64_t count = 0;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  lwipy_batch_begin();
  while (length >= sizeof(u32_t)) {
    u32_t size;
    memcpy(&size, p, sizeof(size));
    p += sizeof(size);
    length -= sizeof(size);
    if (size > length) {
      length = SIZE_MAX;
      break;
    }
    lwipy_nic_input(nic, p, size);
    p += size;
    length -= size;
    count++;
  }
  lwipy_batch_end();
  return length == 0 ? count : LWIPY_EARG;
}

int64_t
core_netif_pending(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  return nic == NULL ? LWIPY_ENODEV : (int64_t)nic->out.used;
}

void
lwipy_nics_show_frames(void)
{
  int i;
  for (i = 1; i < 256; i++) {
    if (nics[i] != NULL && nics[i]->deliver && nics[i]->out.used > 0) {
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
  int i;
  lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_INPUT);
  poll_loops();
  lwipy_sending_through();
  for (i = 1; i < 256; i++) {
    if (nics[i] != NULL && nics[i]->wire != NULL) {
      lwipy_wire_receive(nics[i]);
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

/* ---- Life ------------------------------------------------------------------------------------------------------ */

static err_t
nic_init(struct netif *netif)
{
  struct lwipy_nic *nic = netif->state;
  netif->name[0] = 'n';
  netif->name[1] = 'c';
  if (nic->layer == LWIPY_L2) {
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = transmit_frame;
  } else {
    netif->output = transmit_ip4;
    netif->output_ip6 = transmit_ip6;
  }
  netif->flags |= NETIF_FLAG_LINK_UP;
  return ERR_OK;
}

int
core_netif_add(int layer, const uint8_t *mac, int mtu)
{
  struct lwipy_nic *nic;
  struct netif *netif;
  int count = 0;
  NETIF_FOREACH(netif) {
    count++;
  }
  if (count >= MOST_NETIFS || (nic = mem_calloc(1, sizeof(*nic))) == NULL) {
    return LWIPY_EMEM;
  }
  nic->layer = (u8_t)layer;
  mtu = lwipy_mtu_for(layer, mtu);
  nic->netif.mtu = (u16_t)mtu;
  nic->netif.hwaddr_len = layer == LWIPY_L2 ? ETH_HWADDR_LEN : 0;
  if (layer == LWIPY_L2) {
    memcpy(nic->netif.hwaddr, mac, ETH_HWADDR_LEN);
  }
  if (netif_add_noaddr(&nic->netif, nic, nic_init, layer == LWIPY_L2 ? netif_input : ip_input) == NULL) {
    mem_free(nic);
    return LWIPY_EMEM;
  }
  /* netif_add() cleared these; IPv6's MTU stays 0 unless the MTU is there before the interface goes up. */
  nic->netif.mtu = nic->netif.mtu6 = (u16_t)mtu;
  netif_set_ip6_autoconfig_enabled(&nic->netif, 0);     /* until it is asked for */
  nics[netif_get_index(&nic->netif)] = nic;
  if (netif_default == NULL && layer == LWIPY_L3) {
    netif_set_default(&nic->netif);     /* Ethernet leads beyond its own network by a gateway only */
  }
  lwipy_timers_stir();
  netif_set_up(&nic->netif);
  if (layer == LWIPY_L2) {
    netif_create_ip6_linklocal_address(&nic->netif, 1);
    netif_ip6_addr_set_state(&nic->netif, 0, IP6_ADDR_PREFERRED);
    nic->prefix6[0] = 64;
  }
  return netif_get_index(&nic->netif);
}

void
lwipy_nic_forget_hostname(struct lwipy_nic *nic)
{
  const char *name = netif_get_hostname(&nic->netif);
  netif_set_hostname(&nic->netif, NULL);
  if (name != NULL) {
    mem_free((void *)(uintptr_t)name);
  }
}

int
core_netif_remove(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  int i;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  dhcp_stop(&nic->netif);
  dhcp_cleanup(&nic->netif);
  netif_remove(&nic->netif);
  lwipy_link_free(nic);
  lwipy_stages_end(nic);
  lwipy_groups_forget(number);
  lwipy_steer_forget(nic);
  lwipy_wire_cut(nic);
  lwipy_fifo_clear(&nic->out);
  lwipy_nic_forget_hostname(nic);
  nics[number] = NULL;
  mem_free(nic);
  lwipy_nics_show_frames();
  for (i = 1; netif_default == NULL && i < 256; i++) {
    if (nics[i] != NULL && (nics[i]->layer == LWIPY_L3 || !ip4_addr_isany(netif_ip4_gw(&nics[i]->netif)))) {
      netif_set_default(&nics[i]->netif);
    }
  }
  return 0;
}

int
core_netif_set_state(int number, int flags)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  if (flags & LWIPY_NETIF_LINK) {
    netif_set_link_up(&nic->netif);
  } else {
    netif_set_link_down(&nic->netif);
  }
  if (flags & LWIPY_NETIF_UP) {
    netif_set_up(&nic->netif);
  } else {
    netif_set_down(&nic->netif);
  }
  return 0;
}

int
core_netif_flags(int number)
{
  struct netif *netif = lwipy_netif_by_index(number);
  if (netif == NULL) {
    return LWIPY_ENODEV;
  }
  return (netif_is_up(netif) ? LWIPY_NETIF_UP : 0) | (netif_is_link_up(netif) ? LWIPY_NETIF_LINK : 0);
}

int
core_netif_get_counters(int number, lwipy_netif_counters *out)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  *out = nic->count;
  return 0;
}

void
lwipy_nic_set_sums(struct lwipy_nic *nic)
{
  u16_t sums = nic->unchecked ? NETIF_CHECKSUM_DISABLE_ALL : NETIF_CHECKSUM_ENABLE_ALL;
  NETIF_SET_CHECKSUM_CTRL(&nic->netif, nic->sums_by_device ? sums & ~NETIF_CHECKSUM_GEN_TCP : sums);
}

int
core_netif_set_checksums(int number, int on)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  nic->unchecked = !on;
  lwipy_nic_set_sums(nic);
  return 0;
}

void
lwipy_netif_close_all(void)
{
  int i;
  for (i = 1; i < 256; i++) {
    if (nics[i] != NULL) {
      lwipy_link_free(nics[i]);
      lwipy_stages_end(nics[i]);
      lwipy_wire_cut(nics[i]);
      lwipy_fifo_clear(&nics[i]->out);
    }
  }
}
