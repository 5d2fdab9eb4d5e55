/*
 * A guest's own virtio-net rings as a link: lwipy is the device behind QEMU's `-netdev vhost-user`.
 *
 * Theory of operation. lwipy/links/vhost.py speaks the control protocol and hands over, all at once, what the guest's
 * driver has set up: memory, two rings, an eventfd each way for both (VIRTIO 1.2, 5.1; vhost-user's specification in
 * QEMU's documentation). From then on frames take no system call: those of the guest are copied out of its memory into
 * a block, where nobody can change them any more, and are taken as those of a TAP with virtio-net headers (link_vnet.c);
 * those for it are written into the buffers that it has made available. A kick wakes us, a call the guest; while there
 * is work neither is needed.
 *
 * The eventfds of kicks are in the poller by edges and are never read. What a batch leaves in the ring is served in the
 * next turn, as is what was there before the first kick.
 *
 * Invariants:
 * 1. lwIP never has a pointer into the guest's memory; nothing of a frame is looked at before it is copied.
 * 2. A ring that lies (vhost_ring.h) ends the link, in settle(); a frame that lies costs the frame, and is counted.
 * 3. The guest's kick is asked for, and the ring looked at once more after that, before a ring is left alone.
 * 4. A frame for the guest is written whole or not at all; until there is room it waits in the link's queue.
 */
#ifdef __linux__
#include "link.h"
#include "offload.h"
#include "poller.h"
#include "vhost_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_FRAMES 64
#define BATCH_BYTES  ((size_t)1 << 20)
#define MOST_BUFFERS 256                /* of one frame */

enum { TO_GUEST = 0, FROM_GUEST = 1 };

struct lwipy_vhost {
  struct lwipy_guest guest;
  struct lwipy_vring rings[2];
  int kick;                             /* of the ring to the guest; the other one's is the link's descriptor */
  size_t header;                        /* bytes before each frame */
  u8_t mergeable;
  u8_t listens;                         /* the guest is to kick when it has room */
  u16_t seen;                           /* how many buffers were not enough */
};

/* What the ring has said cannot be: the link ends. */
static int
distrust(struct lwipy_link *link, int why)
{
  link->announced = (u32_t)-why;
  return EBADMSG;
}

/* ---- Frames of the guest ------------------------------------------------------------------------------------------------ */

static void
gather(u8_t *to, size_t length, struct iovec **piece)
{
  while (length > 0) {
    size_t part = LWIP_MIN(length, (*piece)->iov_len);
    memcpy(to, (*piece)->iov_base, part);
    (*piece)->iov_base = (u8_t *)(*piece)->iov_base + part;
    (*piece)->iov_len -= part;
    to += part;
    length -= part;
    *piece += (*piece)->iov_len == 0;
  }
}

/* The next buffer of the guest as a frame; its bytes, or a code. */
static int64_t
take_buffer(struct lwipy_link *link)
{
  struct lwipy_vhost *vhost = link->vhost;
  struct lwipy_vring *ring = &vhost->rings[FROM_GUEST];
  struct iovec pieces[LWIPY_VRING_PIECES], *piece = pieces;
  struct lwipy_buffer buffer;
  struct lwipy_vnet_header header;
  u8_t head[12], *room;
  u32_t count = 0;
  int result = lwipy_vring_look(ring, &vhost->guest, 0, 0, &buffer, pieces, &count);
  size_t length;
  if (result != 0) {
    return result;
  }
  if (buffer.bytes <= vhost->header || buffer.bytes > vhost->header + LWIPY_VNET_LONGEST) {
    link->nic->count.rx_frames++;
    link->nic->count.rx_offload++;
  } else if ((room = lwipy_vnet_room(link)) == NULL) {
    link->nic->count.rx_frames++;
    link->nic->count.rx_nomem++;
  } else {
    length = (size_t)buffer.bytes - vhost->header;
    gather(head, vhost->header, &piece);
    gather(room, length, &piece);
    memcpy(&header, head, LWIPY_VNET_HEADER);
    lwipy_vring_give(ring, buffer.head, 0);
    lwipy_vnet_take(link, &header, length);
    return (int64_t)length;
  }
  lwipy_vring_give(ring, buffer.head, 0);
  return 0;
}

/* 1: there is more, 0: nothing, or an errno. */
static int
take_batch(struct lwipy_link *link)
{
  struct lwipy_vring *ring = &link->vhost->rings[FROM_GUEST];
  size_t frames, bytes = 0;
  int waiting = lwipy_vring_waiting(ring);
  int64_t taken = 0;
  for (frames = 0; waiting > 0 && frames < BATCH_FRAMES && bytes < BATCH_BYTES && !link->ended; frames++) {
    if ((taken = take_buffer(link)) < 0) {
      return distrust(link, (int)taken);
    }
    bytes += (size_t)taken;
    if (--waiting == 0) {
      waiting = lwipy_vring_waiting(ring);
    }
  }
  return waiting < 0 ? distrust(link, waiting) : waiting > 0;
}

static int
vhost_receive(struct lwipy_link *link)
{
  struct lwipy_vring *ring = &link->vhost->rings[FROM_GUEST];
  int result;
  lwipy_vring_ignore(ring);
  result = take_batch(link);
  lwipy_vring_publish(ring);
  lwipy_vring_tell(ring);
  if (result == 0) {
    lwipy_vring_listen(ring, 0);
    result = lwipy_vring_waiting(ring) != 0;
  }
  if (result == 1) {
    lwipy_link_again(link);
    result = 0;
  }
  return result;
}

/* ---- Frames for the guest ------------------------------------------------------------------------------------------------ */

struct room {
  struct iovec pieces[LWIPY_VRING_PIECES];
  struct lwipy_buffer buffers[MOST_BUFFERS];
  u32_t pieces_count;
  u16_t buffers_count;
};

/* As many buffers as a frame needs: 1; 0: they are not there yet; LWIPY_LINK_ERROR: they cannot be had. */
static int
find_room(struct lwipy_link *link, size_t length, struct room *room)
{
  struct lwipy_vhost *vhost = link->vhost;
  struct lwipy_vring *ring = &vhost->rings[TO_GUEST];
  int result = 0, waiting = lwipy_vring_waiting(ring), most = vhost->mergeable ? MOST_BUFFERS : 1;
  u64_t found = 0;
  room->pieces_count = 0;
  room->buffers_count = 0;
  while (found < length && room->buffers_count < LWIP_MIN(waiting, most)) {
    struct lwipy_buffer *buffer = &room->buffers[room->buffers_count++];
    result = lwipy_vring_look(ring, &vhost->guest, (u16_t)(buffer - room->buffers), 1, buffer, room->pieces,
                              &room->pieces_count);
    if (result != 0) {
      break;
    }
    found += buffer->bytes;
  }
  if (waiting < 0 || result < 0) {
    link->ended = distrust(link, waiting < 0 ? waiting : result);
    return LWIPY_LINK_ERROR;
  }
  vhost->seen = (u16_t)waiting;
  return found >= length ? 1 : room->buffers_count == most ? LWIPY_LINK_ERROR : 0;
}

static struct iovec *
scatter(struct iovec *to, const u8_t *bytes, size_t length)
{
  while (length > 0) {
    size_t part = LWIP_MIN(length, to->iov_len);
    memcpy(to->iov_base, bytes, part);
    to->iov_base = (u8_t *)to->iov_base + part;
    to->iov_len -= part;
    bytes += part;
    length -= part;
    to += to->iov_len == 0;
  }
  return to;
}

/* Header and frame; where the guest's header is longer, the number of buffers is behind ours. */
static void
fill(const struct lwipy_vhost *vhost, struct room *room, const struct iovec *pieces, int count)
{
  struct iovec *to = room->pieces;
  size_t header = LWIPY_VNET_HEADER;
  int i;
  for (i = 0; i < count; i++) {
    const u8_t *bytes = pieces[i].iov_base;
    size_t part = LWIP_MIN(header, pieces[i].iov_len);
    to = scatter(to, bytes, part);
    header -= part;
    if (part > 0 && header == 0) {
      to = scatter(to, (const u8_t *)&room->buffers_count, vhost->header - LWIPY_VNET_HEADER);
    }
    to = scatter(to, bytes + part, pieces[i].iov_len - part);
  }
}

static int
vhost_pieces(struct lwipy_link *link, const struct iovec *pieces, int count)
{
  struct lwipy_vhost *vhost = link->vhost;
  struct lwipy_vring *ring = &vhost->rings[TO_GUEST];
  struct room room;
  size_t length = vhost->header - LWIPY_VNET_HEADER;
  int i, result;
  for (i = 0; i < count; i++) {
    length += pieces[i].iov_len;
  }
  if ((result = find_room(link, length, &room)) != 1) {
    return result;
  }
  fill(vhost, &room, pieces, count);
  for (i = 0; i < room.buffers_count; i++) {
    u32_t part = (u32_t)LWIP_MIN(room.buffers[i].bytes, length);
    lwipy_vring_give(ring, room.buffers[i].head, part);
    length -= part;
  }
  lwipy_vring_publish(ring);
  return 1;
}

static int
vhost_send(struct lwipy_link *link)
{
  struct lwipy_vhost *vhost = link->vhost;
  int result = lwipy_vnet_send(link);
  lwipy_vring_tell(&vhost->rings[TO_GUEST]);
  if (vhost->listens && !link->blocked) {
    vhost->listens = 0;
    lwipy_vring_ignore(&vhost->rings[TO_GUEST]);
  }
  return result;
}

/* The guest will kick when it has made buffers available. */
static int
vhost_wait(struct lwipy_link *link)
{
  struct lwipy_vhost *vhost = link->vhost;
  vhost->listens = 1;
  lwipy_vring_listen(&vhost->rings[TO_GUEST], vhost->seen);
  if (lwipy_vring_waiting(&vhost->rings[TO_GUEST]) != vhost->seen) {
    lwipy_link_again(link);
  }
  return 0;
}

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

/* The descriptors stay the caller's. */
static void
disown(struct lwipy_vhost *vhost)
{
  if (vhost->kick >= 0) {
    lwipy_poller_unset(lwipy_self, vhost->kick);
  }
  vhost->kick = vhost->rings[0].call = vhost->rings[1].call = -1;
}

int
lwipy_vhost_begin(struct lwipy_link *link, const lwipy_vhost_device *device)
{
  struct lwipy_vhost *vhost = calloc(1, sizeof(*vhost));
  int i, result;
  if (vhost == NULL || lwipy_vnet_open(link) != 0) {
    free(vhost);
    return LWIPY_EMEM;
  }
  vhost->kick = vhost->rings[0].call = vhost->rings[1].call = -1;
  vhost->header = (size_t)device->header;
  vhost->mergeable = device->mergeable != 0;
  link->vhost = vhost;
  result = lwipy_guest_map(&vhost->guest, device->regions, device->count);
  for (i = 0; i < 2 && result == 0; i++) {
    result = lwipy_vring_open(&vhost->rings[i], &vhost->guest, &device->rings[i], device->event_index);
  }
  if (result == 0) {
    result = lwipy_poller_set(lwipy_self, device->rings[TO_GUEST].kick, LWIPY_TAG_LINK(link->number), LWIPY_POLL_IN | LWIPY_EDGE);
  }
  if (result != 0) {
    disown(vhost);
    return result;
  }
  vhost->kick = device->rings[TO_GUEST].kick;
  lwipy_vring_ignore(&vhost->rings[TO_GUEST]);
  return 0;
}

void
lwipy_vhost_end(struct lwipy_link *link)
{
  struct lwipy_vhost *vhost = link->vhost;
  int i;
  link->vhost = NULL;
  if (vhost == NULL) {
    return;
  }
  if (vhost->kick >= 0) {
    lwipy_poller_unset(lwipy_self, vhost->kick);
    close(vhost->kick);
  }
  for (i = 0; i < 2; i++) {
    if (vhost->rings[i].call >= 0) {
      close(vhost->rings[i].call);
    }
  }
  lwipy_guest_unmap(&vhost->guest);
  free(vhost);
}

/* ---- The border --------------------------------------------------------------------------------------------------------- */

static struct lwipy_vhost *
vhost_of(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  return nic != NULL && nic->link != NULL && nic->link->fd >= 0 ? nic->link->vhost : NULL;
}

int
core_vhost_open(int number, const lwipy_vhost_device *device)
{
  int result = lwipy_link_start(number, LWIPY_LINK_VHOST, device->rings[FROM_GUEST].kick, device,
                                sizeof(*device));
  struct lwipy_nic *nic = lwipy_nic(number);
  if (result == 0) {
    lwipy_vnet_agree(nic->link, device->offload);
    lwipy_link_again(nic->link);
  } else if (nic != NULL && nic->link != NULL && nic->link->vhost != NULL) {
    disown(nic->link->vhost);
  }
  return result;
}

int
core_vhost_bases(int number, uint32_t *out)
{
  struct lwipy_vhost *vhost = vhost_of(number);
  if (vhost == NULL) {
    return LWIPY_ENOTCONN;
  }
  out[TO_GUEST] = vhost->rings[TO_GUEST].taken;
  out[FROM_GUEST] = vhost->rings[FROM_GUEST].taken;
  return 0;
}

int
core_vhost_set_call(int number, int ring, int fd)
{
  struct lwipy_vhost *vhost = vhost_of(number);
  if (vhost == NULL) {
    return LWIPY_ENOTCONN;
  }
  if (ring != TO_GUEST && ring != FROM_GUEST) {
    return LWIPY_EARG;
  }
  if (vhost->rings[ring].call >= 0) {
    close(vhost->rings[ring].call);
  }
  vhost->rings[ring].call = fd;
  return 0;
}

const struct lwipy_link_kind lwipy_link_vhost = {
  .receive = vhost_receive, .send = vhost_send, .transmit = lwipy_vnet_transmit, .pieces = vhost_pieces,
  .wait = vhost_wait, .by_edge = 1
};
#endif
