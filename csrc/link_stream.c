/*
 * Frames on a stream socket, each behind its length (32 bits, big-endian): QEMU's `-netdev stream` and `socket`.
 *
 * Theory of operation. The queue holds the very bytes of the stream, so that it goes out as it lies, and a write that
 * stops in the middle of a frame goes on there. Input is read into one buffer; frames are taken where they lie, and
 * the beginning of one that is not complete moves to the buffer's start.
 *
 * Invariants:
 * 1. `in_used` < the length of the frame that it begins, so there is always room to read more.
 * 2. A length that cannot be one ends the link: behind it nothing can be trusted, and the stream has no marks by which
 *    it could be found again.
 */
#include "link.h"

#ifndef _WIN32
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#define LONGEST (65535 + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR)

static uint32_t
stream_prefix(uint32_t length)
{
  return lwip_htonl(length);
}

static int
stream_send(struct lwipy_link *link)
{
  struct lwipy_fifo *out = &link->out;
  while (out->used > 0) {
    struct iovec pieces[2];
    struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 1 };
    uint8_t *start;
    ssize_t sent;
    pieces[0].iov_len = lwipy_fifo_piece(out, 0, out->used, &start);
    pieces[0].iov_base = start;
    if (pieces[0].iov_len < out->used) {
      pieces[1].iov_len = lwipy_fifo_piece(out, pieces[0].iov_len, out->used - pieces[0].iov_len, &start);
      pieces[1].iov_base = start;
      message.msg_iovlen = 2;
    }
    sent = sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      lwipy_fifo_skip(out, (size_t)sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
      link->blocked = 1;
      return 0;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

static int
stream_receive(struct lwipy_link *link)
{
  size_t least = link->nic->layer == LWIPY_L2 ? SIZEOF_ETH_HDR : 1;
  const u8_t *at = link->in, *limit;
  ssize_t got = recv(link->fd, link->in + link->in_used, LWIPY_LINK_BATCH - link->in_used, MSG_DONTWAIT);
  if (got < 0) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : errno;
  }
  if (got == 0) {
    return LWIPY_LINK_END;
  }
  limit = link->in + link->in_used + got;
  while (limit - at >= (ptrdiff_t)sizeof(u32_t)) {
    u32_t length;
    memcpy(&length, at, sizeof(length));
    length = lwip_ntohl(length);
    if (length < least || length > LONGEST) {
      link->nic->count.rx_malformed++;
      link->announced = length;
      return EPROTO;
    }
    if ((size_t)(limit - at) < sizeof(length) + length) {
      break;
    }
    lwipy_nic_input(link->nic, at + sizeof(length), length);
    at += sizeof(length) + length;
  }
  link->in_used = (size_t)(limit - at);
  memmove(link->in, at, link->in_used);
  return 0;
}

const struct lwipy_link_kind lwipy_link_stream = {
  .receive = stream_receive, .send = stream_send, .prefix = stream_prefix
};
#endif
