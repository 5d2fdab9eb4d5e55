/*
 * Frames in datagrams, one each, over a unix or UDP socket: QEMU's `-netdev dgram` and `socket,udp=`.
 *
 * Theory of operation. There is no connection: datagrams go to a path, to what the socket is connected to, or to
 * whoever sent the last one. Nobody there is no error, it costs the frames: the link stays up, and Python is told when
 * a peer is first heard and when it no longer takes anything.
 *
 * A unix socket's datagrams wait in the receiver's queue, which is short (ten, usually). A socket that is not connected
 * is always said to be writable, even if that queue is full; and were it connected, it could not hear a peer that was
 * started again. So a second socket, the waiter, is connected to the peer for the sole purpose of being told when the
 * queue has room: it never sends. Where that cannot be had, the next call tries again.
 *
 * Invariants:
 * 1. The waiter is reported once a wait: a peer that is there and does not read costs nothing. A wait that ended for
 *    nothing means that the path leads to another socket by now, and the waiter is connected anew, or that it is our own
 *    buffer that is full.
 * 2. A datagram that the socket refuses is dropped and counted; it never keeps the next one waiting.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "link.h"

#ifndef _WIN32
#include "poller.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#ifndef __linux__
/* Some of the others have these calls, and all do without. */
#define mmsghdr  lwipy_mmsghdr
#define recvmmsg lwipy_recvmmsg
#define sendmmsg lwipy_sendmmsg
struct mmsghdr { struct msghdr msg_hdr; unsigned msg_len; };

static int
recvmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags, void *timeout)
{
  unsigned count = 0;
  (void)timeout;
  for (; count < room; count++) {
    ssize_t got = recvmsg(fd, &messages[count].msg_hdr, flags);
    if (got < 0) {
      return count > 0 ? (int)count : -1;
    }
    messages[count].msg_len = (unsigned)got;
  }
  return (int)count;
}

static int
sendmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags)
{
  unsigned count = 0;
  while (count < room && sendmsg(fd, &messages[count].msg_hdr, flags) >= 0) {
    count++;
  }
  return count > 0 || room == 0 ? (int)count : -1;
}
#endif

static uint32_t
dgram_prefix(uint32_t length)
{
  return length;
}

/* ---- The peer ------------------------------------------------------------------------------------------------ */

int
lwipy_dgram_open(struct lwipy_link *link, int fd, const char *peer, size_t peer_length)
{
  struct sockaddr_un *path = (struct sockaddr_un *)(void *)&link->peer;
  struct sockaddr_storage connected;
  socklen_t connected_length = sizeof(connected);
  memset(&link->peer, 0, sizeof(link->peer));
  link->peer_length = 0;
  link->learns = link->heard = 0;
  if (peer_length > 0) {
    if (peer_length >= sizeof(path->sun_path)) {
      return LWIPY_ESYSTEM - ENAMETOOLONG;
    }
    path->sun_family = AF_UNIX;
    memcpy(path->sun_path, peer, peer_length);
    link->peer_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + peer_length + (peer[0] != 0));
  } else {
    link->learns = getpeername(fd, (struct sockaddr *)&connected, &connected_length) != 0;
  }
  return 0;
}

void
lwipy_dgram_close(struct lwipy_link *link)
{
  if (link->waiter >= 0) {
    lwipy_poller_unset(lwipy_self, link->waiter);
    close(link->waiter);
    link->waiter = -1;
  }
}

/* A unix sender without an address of its own cannot be answered. */
static void
hear(struct lwipy_link *link, const struct msghdr *message)
{
  if (link->learns && message->msg_namelen > offsetof(struct sockaddr_un, sun_path) &&
      (message->msg_namelen != link->peer_length || memcmp(&link->peer, message->msg_name, link->peer_length) != 0)) {
    memcpy(&link->peer, message->msg_name, message->msg_namelen);
    link->peer_length = message->msg_namelen;
    link->heard = 0;
  }
  if (!link->heard) {
    link->heard = 1;
    lwipy_link_tell(link, LWIPY_LINK_HEARD, 0);
  }
}

void
lwipy_dgram_describe(const struct lwipy_link *link, char *out, size_t room)
{
  struct sockaddr_storage peer = link->peer;
  socklen_t length = link->peer_length;
  char host[INET6_ADDRSTRLEN] = "";
  if (length == 0) {
    length = sizeof(peer);
    if (getpeername(link->fd, (struct sockaddr *)&peer, &length) != 0) {
      return;
    }
  }
  if (peer.ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&peer;
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
    snprintf(out, room, "%s:%u", host, (unsigned)ntohs(in->sin_port));
  } else if (peer.ss_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)&peer;
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
    snprintf(out, room, "[%s]:%u", host, (unsigned)ntohs(in->sin6_port));
  } else if (peer.ss_family == AF_UNIX) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&peer;
    snprintf(out, room, "%.*s", (int)(length - offsetof(struct sockaddr_un, sun_path)), un->sun_path);
  }
}

/* ---- Waiting for room in the peer's queue ----------------------------------------------------------------------- */

static int
connect_waiter(struct lwipy_link *link)
{
  if (link->waiter < 0) {
    if ((link->waiter = socket(AF_UNIX, SOCK_DGRAM, 0)) < 0) {
      return -1;
    }
    fcntl(link->waiter, F_SETFD, FD_CLOEXEC);
    fcntl(link->waiter, F_SETFL, O_NONBLOCK);
  }
  return connect(link->waiter, (const struct sockaddr *)&link->peer, link->peer_length);
}

static int
dgram_wait(struct lwipy_link *link)
{
  struct pollfd own = { link->fd, POLLOUT, 0 };
  if (link->peer.ss_family != AF_UNIX || link->peer_length == 0) {
    return -1;
  }
  if (link->waiter < 0 || !link->moved) {
    if (poll(&own, 1, 0) == 0) {
      return -1;
    }
    if (connect_waiter(link) != 0) {
      return 1;
    }
  }
  link->moved = 0;
  return lwipy_poller_set(lwipy_self, link->waiter, LWIPY_TAG_LINK(link->number),
                          LWIPY_POLL_OUT | LWIPY_ONCE) != 0;
}

/* ---- Output -------------------------------------------------------------------------------------------------- */

struct batch {
  struct mmsghdr messages[LWIPY_LINK_FRAMES];
  struct iovec pieces[LWIPY_LINK_FRAMES][2];
};

static unsigned
gather(struct lwipy_link *link, struct batch *batch)
{
  const struct lwipy_fifo *out = &link->out;
  size_t at = 0;
  unsigned count;
  for (count = 0; count < LWIPY_LINK_FRAMES && at < out->used; count++) {
    struct msghdr *message = &batch->messages[count].msg_hdr;
    struct iovec *pieces = batch->pieces[count];
    size_t length = lwipy_fifo_length(out, at);
    uint8_t *start;
    memset(message, 0, sizeof(*message));
    at += sizeof(u32_t);
    pieces[0].iov_len = lwipy_fifo_piece(out, at, length, &start);
    pieces[0].iov_base = start;
    message->msg_iov = pieces;
    message->msg_iovlen = 1;
    if (pieces[0].iov_len < length) {
      pieces[1].iov_len = lwipy_fifo_piece(out, at + pieces[0].iov_len, length - pieces[0].iov_len, &start);
      pieces[1].iov_base = start;
      message->msg_iovlen = 2;
    }
    if (link->peer_length > 0) {
      message->msg_name = &link->peer;
      message->msg_namelen = link->peer_length;
    }
    at += length;
  }
  return count;
}

static void
drop_frames(struct lwipy_link *link, int count)
{
  for (; count > 0 && link->out.used > 0; count--) {
    lwipy_fifo_skip(&link->out, sizeof(u32_t) + lwipy_fifo_length(&link->out, 0));
  }
}

static void
refuse(struct lwipy_link *link, int reason)
{
  for (; link->out.used > 0; drop_frames(link, 1)) {
    link->nic->count.tx_error++;
  }
  if (link->heard) {
    link->heard = 0;
    lwipy_link_tell(link, LWIPY_LINK_REFUSED, reason);
  }
}

static int
dgram_send(struct lwipy_link *link)
{
  while (link->out.used > 0) {
    struct batch batch;
    int sent = link->learns && link->peer_length == 0 ? -1 : 0;
    if (sent < 0) {
      errno = ENOTCONN;
    } else {
      sent = sendmmsg(link->fd, batch.messages, gather(link, &batch), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (sent >= 0) {
      link->moved = 1;
      drop_frames(link, sent);
      continue;
    }
    switch (errno) {
      case EINTR:
        break;
      case EAGAIN:
#if EWOULDBLOCK != EAGAIN
      case EWOULDBLOCK:
#endif
      case ENOBUFS:
        link->blocked = 1;
        return 0;
      case ECONNREFUSED:
      case ECONNRESET:
      case ENOENT:
      case ENOTCONN:
      case EPERM:
        refuse(link, errno);
        break;
      default:
        link->nic->count.tx_error++;
        drop_frames(link, 1);
    }
  }
  return 0;
}

/* ---- Input --------------------------------------------------------------------------------------------------- */

static int
dgram_receive(struct lwipy_link *link)
{
  struct mmsghdr messages[LWIPY_LINK_FRAMES];
  struct iovec pieces[LWIPY_LINK_FRAMES];
  struct sockaddr_storage names[LWIPY_LINK_FRAMES];
  size_t room = lwipy_link_frame_room(link);
  unsigned i, count = (unsigned)LWIP_MIN((size_t)LWIPY_LINK_FRAMES, LWIPY_LINK_BATCH / room);
  int got;
  for (i = 0; i < count; i++) {
    struct msghdr *message = &messages[i].msg_hdr;
    memset(message, 0, sizeof(*message));
    pieces[i].iov_base = link->in + i * room;
    pieces[i].iov_len = room;
    message->msg_iov = &pieces[i];
    message->msg_iovlen = 1;
    message->msg_name = &names[i];
    message->msg_namelen = sizeof(names[i]);
  }
  /* An error here is the answer to something we sent: nobody is there, which sending finds out by itself. */
  got = recvmmsg(link->fd, messages, count, MSG_DONTWAIT, NULL);
  for (i = 0; got > 0 && i < (unsigned)got; i++) {
    hear(link, &messages[i].msg_hdr);
    lwipy_nic_input(link->nic, link->in + i * room, messages[i].msg_len);
  }
  return 0;
}

const struct lwipy_link_kind lwipy_link_dgram = {
  .receive = dgram_receive, .send = dgram_send, .prefix = dgram_prefix, .wait = dgram_wait
};
#endif
