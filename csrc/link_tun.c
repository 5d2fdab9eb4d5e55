/*
 * TAP and TUN devices: the kernel's own interfaces, one frame (TAP) or IP packet (TUN) a read or write.
 *
 * Theory of operation. The device has no batches, so a frame goes straight from lwIP's pbufs into it; only what it
 * does not take is queued. The device is opened without packet information (IFF_NO_PI) by lwipy/links/tap.py.
 *
 * Invariant: a device that has vanished (EBADFD, by `ip link delete` or with its namespace) ends the link; a device
 * that is merely down (EIO) costs the frame.
 */
#include "link.h"
#include "offload.h"

#ifndef _WIN32
#include <errno.h>
#include <unistd.h>

#define PIECES 16

#ifndef EBADFD
#define EBADFD EBADF
#endif

static uint32_t
tun_prefix(uint32_t length)
{
  return length;
}

static int
has_vanished(int error)
{
  return error == EBADFD || error == EBADF || error == ENODEV || error == ENXIO;
}

/* A frame of more than 64 KB, for which the kernel may lack memory while it has some for shorter ones. */
static int
is_long(const struct iovec *pieces, int count)
{
  size_t length = 0;
  while (count-- > 0) {
    length += pieces[count].iov_len;
  }
  return length > LWIPY_VNET_LONGEST + LWIPY_VNET_HEADER;
}

int
lwipy_tun_write(struct lwipy_link *link, const struct iovec *pieces, int count)
{
  ssize_t written;
  do {
    written = writev(link->fd, pieces, count);
  } while (written < 0 && errno == EINTR);
  if (written >= 0) {
    return 1;
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || (errno == ENOBUFS && !is_long(pieces, count))) {
    return 0;
  }
  if (has_vanished(errno)) {
    link->ended = errno;
  }
  return LWIPY_LINK_ERROR;
}

int
lwipy_tun_pieces(const struct pbuf *p, size_t skip, struct iovec *pieces, int count, int room)
{
  for (; p != NULL; p = p->next, skip = 0) {
    u8_t *start = (u8_t *)p->payload + skip;
    if (count > 0 && start == (u8_t *)pieces[count - 1].iov_base + pieces[count - 1].iov_len) {
      pieces[count - 1].iov_len += p->len - skip;
    } else if (p->len > skip) {
      if (count == room) {
        return -1;
      }
      pieces[count].iov_base = start;
      pieces[count++].iov_len = p->len - skip;
    }
  }
  return count;
}

static int
tun_write(struct lwipy_link *link, const struct pbuf *p)
{
  struct iovec pieces[PIECES];
  int count = lwipy_tun_pieces(p, 0, pieces, 0, PIECES);
  return count < 0 ? 0 : lwipy_tun_write(link, pieces, count);
}

int
lwipy_tun_drain(struct lwipy_link *link)
{
  struct lwipy_fifo *out = &link->out;
  while (out->used > 0) {
    struct iovec pieces[2];
    uint8_t *start;
    size_t length = lwipy_fifo_length(out, 0);
    int result;
    pieces[0].iov_len = lwipy_fifo_piece(out, sizeof(u32_t), length, &start);
    pieces[0].iov_base = start;
    pieces[1].iov_len = lwipy_fifo_piece(out, sizeof(u32_t) + pieces[0].iov_len, length - pieces[0].iov_len, &start);
    pieces[1].iov_base = start;
    result = link->kind->pieces(link, pieces, pieces[1].iov_len > 0 ? 2 : 1);
    if (result == 0) {
      link->blocked = 1;
      return 0;
    }
    if (result < 0) {
      link->nic->count.tx_error++;
    }
    if (link->ended) {
      return link->ended;
    }
    lwipy_fifo_skip(out, sizeof(u32_t) + length);
  }
  return 0;
}

/*
 * That a batch is over is known by a read in vain. Where one short frame after the other came alone, as questions and
 * answers do, the next is taken to be alone, too; but every eighth time is looked. What is left is reported again.
 */
#define LONE 8
#define SHORT 256                  /* bytes */

int
lwipy_link_is_lone(struct lwipy_link *link, int frames, size_t bytes)
{
  if (frames != 1 || bytes > SHORT || link->lone < LONE || link->lone == 2 * LONE) {
    return 0;
  }
  link->lone++;
  return 1;
}

int
lwipy_link_had(struct lwipy_link *link, int frames)
{
  if (frames > 0) {
    link->lone = frames > 1 ? 0 : link->lone < LONE ? link->lone + 1 : LONE;
  }
  return 0;
}

static int
tun_receive(struct lwipy_link *link)
{
  size_t room = lwipy_link_frame_room(link), taken = 0;
  int i;
  for (i = 0; i < LWIPY_LINK_FRAMES && !link->ended && !lwipy_link_is_lone(link, i, taken); i++) {
    ssize_t got = read(link->fd, link->in, room);
    if (got > 0) {
      lwipy_nic_input(link->nic, link->in, (size_t)got);
      taken += (size_t)got;
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

const struct lwipy_link_kind lwipy_link_tun = {
  .receive = tun_receive, .send = lwipy_tun_drain, .prefix = tun_prefix, .write = tun_write,
  .pieces = lwipy_tun_write
};
#endif
