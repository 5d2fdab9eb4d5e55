/*
 * TAP and TUN devices with virtio-net headers: big frames in, big segments out, checksums left to the kernel.
 *
 * Theory of operation. Every read and write has one frame behind its header (offload.h). In: a batch is read frame by
 * frame, until the device has no more or the batch is full. A long frame (up to 64 KB, what the kernel would have cut)
 * stays in the block it was read into and goes to lwIP as one segment; short ones are copied as on any link, so that
 * no block of 64 KB is held for some bytes. Out: lwIP writes no sums for TCP on this interface; segments are bundled
 * (bundle.c) until the call ends, and the device sums up and cuts. What the device agreed to (lwipy_link_set_offload)
 * holds only while the interface has no stages and is no group's front: a capture, a bad network, a burst limit and
 * other stacks are to see real frames. What comes long all the same is cut here, as is what a group's member reads for
 * another. The same of frames in a guest's rings, which link_vhost.c moves.
 *
 * Invariants:
 * 1. `active` is what lwIP relies on; it is a part of `agreed`, and changes in update() only.
 * 2. What is bundled leaves before any other frame, and before the call ends: the link is on settle()'s list meanwhile.
 * 3. A frame's header is checked (lwipy_offload_judge) before anything of it is used.
 * 4. A block that lwIP holds carries at least a third of what it costs.
 */
#include "link.h"

#ifndef _WIN32
#include "offload.h"
#include "copy.h"
#include "steer.h"
#include "tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/ioctl.h>
#include <linux/if_tun.h>
#endif

#include "lwip/ip.h"
#include "lwip/mem.h"

#define WORTH_KEEPING 24576            /* bytes of a frame that is not copied */
#define BATCH_FRAMES  64
#define BATCH_BYTES   ((size_t)1 << 20)

struct block {
  struct pbuf_custom pbuf;             /* first, so that it is the block */
  u8_t bytes[LWIPY_VNET_LONGEST + 1];       /* and one, so that a longer frame shows */
};

struct lwipy_vnet {
  int agreed, active;                  /* LWIPY_OFFLOAD_... */
  struct block *spare;                 /* to be read into */
  struct lwipy_bundle bundle;
};

/* ---- What the device does for us ------------------------------------------------------------------------------------- */

static void
tell_device(const struct lwipy_link *link, int features)
{
#ifdef TUNSETOFFLOAD
  unsigned long flags = (features & LWIPY_OFFLOAD_CSUM ? TUN_F_CSUM : 0) |
                        (features & LWIPY_OFFLOAD_TSO4 ? TUN_F_TSO4 : 0) |
                        (features & LWIPY_OFFLOAD_TSO6 ? TUN_F_TSO6 : 0);
  if (link->vhost == NULL) {
    ioctl(link->fd, TUNSETOFFLOAD, flags);
  }
#else
  (void)link;
  (void)features;
#endif
}

static int
wants_real_frames(const struct lwipy_nic *nic)
{
  return nic->stages[LWIPY_IN] != NULL || nic->stages[LWIPY_OUT] != NULL ||
         (nic->steer != NULL && !lwipy_steer_takes_part(nic));
}

/* Of a frame that is another stack's, in part or whole. */
static int
others_want(const struct lwipy_nic *nic, const u8_t *frame, size_t length, int verdict)
{
  return nic->steer != NULL && !lwipy_steer_keeps(nic, frame, length, (verdict & LWIPY_FRAME_LONG) != 0);
}

static void
update(struct lwipy_link *link)
{
  struct lwipy_nic *nic = link->nic;
  int active = wants_real_frames(nic) ? 0 : link->vnet->agreed;
  if (active != link->vnet->active) {
    link->vnet->active = active;
    tell_device(link, active);
  }
  nic->sums_by_device = (active & LWIPY_OFFLOAD_CSUM) != 0;
  nic->long_frames = (active & LWIPY_OFFLOAD_LONG) && !(lwipy_without & LWIPY_WITHOUT_LONG_FRAMES);
  link->vnet->bundle.is_long = nic->long_frames;
  lwipy_nic_set_sums(nic);
}

void
lwipy_link_restage(struct lwipy_nic *nic)
{
  if (nic->link != NULL && nic->link->vnet != NULL) {
    update(nic->link);
  }
}

void
lwipy_vnet_agree(struct lwipy_link *link, int features)
{
  link->vnet->agreed = link->vnet->active = features;
  update(link);
}

int
core_link_set_offload(int number, int features)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (nic->link == NULL || nic->link->vnet == NULL) {
    return LWIPY_ENOTSUP;
  }
  lwipy_vnet_agree(nic->link, features);
  return 0;
}

/* ---- Output ---------------------------------------------------------------------------------------------------------- */

/* To the device, or behind what waits for it. 0, LWIPY_LINK_FULL or LWIPY_LINK_ERROR. */
static int
emit(struct lwipy_link *link, const struct iovec *pieces, int count)
{
  size_t length = 0;
  int i, result = link->out.used == 0 ? link->kind->pieces(link, pieces, count) : 0;
  if (result != 0) {
    return result > 0 ? 0 : result;
  }
  for (i = 0; i < count; i++) {
    length += pieces[i].iov_len;
  }
  if (lwipy_fifo_begin(&link->out, (u32_t)length) != 0) {
    return LWIPY_LINK_FULL;
  }
  for (i = 0; i < count; i++) {
    lwipy_fifo_add(&link->out, pieces[i].iov_base, pieces[i].iov_len);
  }
  return 0;
}

/* What was bundled is counted as sent already. */
static void
flush(struct lwipy_link *link)
{
  struct lwipy_bundle *bundle = &link->vnet->bundle;
  struct iovec pieces[LWIPY_BUNDLE_PIECES + 1];
  u8_t head[LWIPY_VNET_HEADER + LWIPY_LONGEST_HEADERS];
  struct lwipy_vnet_header header = {0};
  u32_t i;
  int result, count = 1;
  if (bundle->count == 0) {
    return;
  }
  pieces[0].iov_base = head;
  pieces[0].iov_len = LWIPY_VNET_HEADER + lwipy_bundle_headers(bundle, &header, head + LWIPY_VNET_HEADER);
  memcpy(head, &header, LWIPY_VNET_HEADER);
  for (i = 0; i < bundle->count; i++) {
    count = lwipy_tun_pieces(bundle->segments[i], lwipy_bundle_skip(bundle, i), pieces, count, LWIPY_BUNDLE_PIECES + 1);
  }
  link->nic->count.tx_frames += bundle->followed;
  link->nic->count.tx_bytes += (u64_t)bundle->followed * (bundle->at.payload + bundle->size);
  result = emit(link, pieces, count);
  link->nic->count.tx_full += result == LWIPY_LINK_FULL ? bundle->count : 0;
  link->nic->count.tx_error += result == LWIPY_LINK_ERROR ? bundle->count : 0;
  if (result == LWIPY_LINK_ERROR && bundle->bytes > UINT16_MAX && errno != EIO) {
    lwipy_vnet_agree(link, link->vnet->agreed & ~LWIPY_OFFLOAD_LONG);   /* it does not take them after all */
  }
  lwipy_bundle_clear(bundle);
}

/* A frame as it is, or with the sum of TCP left to the device. */
static int
send_single(struct lwipy_link *link, const struct pbuf *p, const struct lwipy_layout *at)
{
  struct iovec pieces[LWIPY_BUNDLE_PIECES + 1];
  u8_t head[LWIPY_VNET_HEADER + LWIPY_LONGEST_HEADERS];
  struct lwipy_vnet_header header = {0};
  size_t headers = 0;
  int count;
  if (at != NULL) {
    headers = at->payload;
    memcpy(head + LWIPY_VNET_HEADER, p->payload, headers);
    lwipy_offload_leave_sum(&header, head + LWIPY_VNET_HEADER, at, at->end - at->payload);
  }
  memcpy(head, &header, LWIPY_VNET_HEADER);
  pieces[0].iov_base = head;
  pieces[0].iov_len = LWIPY_VNET_HEADER + headers;
  count = lwipy_tun_pieces(p, headers, pieces, 1, LWIPY_BUNDLE_PIECES + 1);
  return count < 0 ? LWIPY_LINK_ERROR : emit(link, pieces, count);
}

static int
lacks_sum(const u8_t *frame, const struct lwipy_layout *at)
{
  return frame[at->transport + 16] == 0 && frame[at->transport + 17] == 0;
}

int
lwipy_vnet_transmit(struct lwipy_link *link, const struct pbuf *p)
{
  struct lwipy_vnet *vnet = link->vnet;
  const u8_t *frame = p->payload;
  struct lwipy_layout at;
  int tso;
  if (!(vnet->active & LWIPY_OFFLOAD_CSUM) || !lwipy_layout_of(frame, p->len, p->tot_len, link->nic->layer, &at) ||
      at.protocol != IP_PROTO_TCP || at.payload > LWIPY_LONGEST_HEADERS || !lacks_sum(frame, &at)) {
    flush(link);
    return send_single(link, p, NULL);
  }
  tso = vnet->active & (at.version == 4 ? LWIPY_OFFLOAD_TSO4 : LWIPY_OFFLOAD_TSO6);
  if (tso && lwipy_bundle_add(&vnet->bundle, p, &at)) {
    return 0;
  }
  flush(link);
  return tso && lwipy_bundle_add(&vnet->bundle, p, &at) ? 0 : send_single(link, p, &at);
}

int
lwipy_vnet_send(struct lwipy_link *link)
{
  flush(link);
  return link->ended ? link->ended : lwipy_tun_drain(link);
}

/* ---- Input ----------------------------------------------------------------------------------------------------------- */

static void
block_free(struct pbuf *p)
{
  mem_free(p);
}

/* One whole TCP segment: past Ethernet, for lwIP's lengths have 16 bits. */
static void
take_long(struct lwipy_link *link, size_t length)
{
  struct lwipy_nic *nic = link->nic;
  struct block *block = link->vnet->spare;
  size_t skip = nic->layer == LWIPY_L2 ? SIZEOF_ETH_HDR : 0;
  struct pbuf *p;
  if ((length = lwipy_nic_admit(nic, block->bytes, length, LWIPY_VNET_LONGEST)) == 0) {
    return;
  }
  length -= skip;
  if (length < WORTH_KEEPING) {
    if ((p = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM)) == NULL) {
      nic->count.rx_nomem++;
      return;
    }
    lwipy_copy(p->payload, block->bytes + skip, length);
  } else {
    block->pbuf.custom_free_function = block_free;
    p = pbuf_alloced_custom(PBUF_RAW, (u16_t)length, PBUF_REF, &block->pbuf, block->bytes + skip, (u16_t)length);
    link->vnet->spare = NULL;
  }
  lwipy_long_segment = LWIPY_LONG_BY_DEVICE;
  lwipy_nic_feed_packet(nic, p);
  lwipy_long_segment = 0;
}

static void
take_piece(void *nic, const u8_t *frame, size_t length)
{
  lwipy_nic_input(nic, frame, length);
}

void
lwipy_vnet_take(struct lwipy_link *link, const struct lwipy_vnet_header *header, size_t length)
{
  struct lwipy_nic *nic = link->nic;
  u8_t *frame = link->vnet->spare->bytes;
  int verdict = lwipy_offload_judge(header, frame, length, nic->layer);
  u16_t sums = nic->netif.chksum_flags;
  if (verdict == LWIPY_FRAME_LIES) {
    nic->count.rx_frames++;
    nic->count.rx_bytes += length;
    nic->count.rx_offload++;
    return;
  }
  if ((verdict & LWIPY_FRAME_CHECKED) && (wants_real_frames(nic) || others_want(nic, frame, length, verdict))) {
    if (verdict & LWIPY_FRAME_LONG) {
      lwipy_offload_cut(header, frame, length, nic->layer, nic->netif.mtu, take_piece, nic);
      return;
    }
    if (header->flags & LWIPY_VNET_NEEDS_CSUM) {
      lwipy_offload_complete(header, frame, length);
    }
    verdict = 0;
  }
  if (verdict & LWIPY_FRAME_CHECKED) {
    NETIF_SET_CHECKSUM_CTRL(&nic->netif, sums & ~(NETIF_CHECKSUM_CHECK_TCP | NETIF_CHECKSUM_CHECK_UDP));
  }
  if (verdict & LWIPY_FRAME_LONG) {
    nic->count.rx_frames++;
    nic->count.rx_bytes += length;
    take_long(link, length);
  } else {
    lwipy_nic_input(nic, frame, length);
  }
  NETIF_SET_CHECKSUM_CTRL(&nic->netif, sums);
}

u8_t *
lwipy_vnet_room(struct lwipy_link *link)
{
  struct lwipy_vnet *vnet = link->vnet;
  if (vnet->spare == NULL) {
    vnet->spare = mem_malloc(sizeof(*vnet->spare));
  }
  return vnet->spare != NULL ? vnet->spare->bytes : NULL;
}

/* The length of the next frame with its header; 0: the end, or -1 and errno. */
static ssize_t
read_frame(struct lwipy_link *link, struct lwipy_vnet_header *header)
{
  struct iovec pieces[2] = { { header, LWIPY_VNET_HEADER }, { lwipy_vnet_room(link), LWIPY_VNET_LONGEST + 1 } };
  ssize_t got;
  if (pieces[1].iov_base == NULL) {
    /* The frame is lost, but the device must not stay readable. */
    pieces[1].iov_base = link->in;
    if ((got = readv(link->fd, pieces, 2)) > 0) {
      link->nic->count.rx_frames++;
      link->nic->count.rx_nomem++;
    }
    return got;
  }
  return readv(link->fd, pieces, 2);
}

static int
vnet_receive(struct lwipy_link *link)
{
  struct lwipy_vnet_header header;
  size_t taken = 0;
  int i;
  for (i = 0; i < BATCH_FRAMES && taken < BATCH_BYTES && !link->ended && !lwipy_link_is_lone(link, i, taken); i++) {
    ssize_t got = read_frame(link, &header);
    if (got > LWIPY_VNET_HEADER && link->vnet->spare != NULL) {
      taken += (size_t)got;
      lwipy_vnet_take(link, &header, (size_t)got - LWIPY_VNET_HEADER);
    } else if (got > 0) {
      link->nic->count.rx_offload += link->vnet->spare != NULL;
    } else if (got == 0) {
      return LWIPY_LINK_END;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return lwipy_link_had(link, i);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

/* ---- Life ------------------------------------------------------------------------------------------------------------ */

int
lwipy_vnet_open(struct lwipy_link *link)
{
  link->vnet = calloc(1, sizeof(*link->vnet));
  if (link->vnet != NULL) {
    link->vnet->bundle.bare = !(lwipy_without & LWIPY_WITHOUT_FOLLOWING);
  }
  return link->vnet != NULL ? 0 : LWIPY_EMEM;
}

void
lwipy_vnet_close(struct lwipy_link *link)
{
  if (link->vnet != NULL) {
    lwipy_bundle_clear(&link->vnet->bundle);
    if (link->vnet->spare != NULL) {
      mem_free(link->vnet->spare);
    }
    free(link->vnet);
    link->vnet = NULL;
    link->nic->sums_by_device = link->nic->long_frames = 0;
    lwipy_nic_set_sums(link->nic);
  }
}

const struct lwipy_link_kind lwipy_link_vnet = {
  .receive = vnet_receive, .send = lwipy_vnet_send, .transmit = lwipy_vnet_transmit, .pieces = lwipy_tun_write
};
#endif
