/*
 * Links that have a descriptor: what they have in common.
 *
 * Theory of operation. The interface owns the descriptor. When the poller finds it ready, a turn reads one batch
 * (at most LWIPY_LINK_BATCH bytes) and gives frame by frame to lwIP. What lwIP sends meanwhile, in this call or any
 * other, collects in the link's queue and goes out when the call ends, in few system calls. If the descriptor does
 * not take all of it, the rest waits until the poller says that it is writable; if the queue is full, frames are
 * dropped and counted. Nothing here ever blocks. The kinds (link_stream.c, link_dgram.c, link_tun.c, link_vnet.c,
 * link_vhost.c) know how frames lie on their descriptor.
 *
 * Invariants:
 * 1. `fd` is in the poller's set while it is open, waiting for writability only while something waits to be written.
 * 2. A link ends in settle() only, never in the middle of lwIP's work: then its descriptor is closed, its queue is
 *    emptied, the interface's link goes down, and Python is told once.
 * 3. A link is on settle()'s list whenever it has output that nobody else will send, or has ended.
 */
#include "merge.h"
#include "link.h"

#ifndef _WIN32
#include "poller.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

#define FLUSH_AT ((size_t)128 << 10)    /* output does not collect beyond this, it would leave the cache */

static const struct lwipy_link_kind *const kinds[] = {
  NULL, &lwipy_link_stream, &lwipy_link_dgram, &lwipy_link_tun, &lwipy_link_vnet,
#ifdef __linux__
  &lwipy_link_vhost
#else
  NULL
#endif
};
static struct lwipy_link *dirty;
static int eager;                       /* how many links have more to do than the poller knows */

static void
touch(struct lwipy_link *link)
{
  if (!link->dirty) {
    link->dirty = 1;
    link->next_dirty = dirty;
    dirty = link;
  }
}

void
lwipy_link_again(struct lwipy_link *link)
{
  eager += !link->more;
  link->more = 1;
}

static void
calm(struct lwipy_link *link)
{
  eager -= link->more;
  link->more = 0;
}

int
lwipy_links_have_more(void)
{
  return eager > 0;
}

void
lwipy_link_tell(struct lwipy_link *link, u32_t news, int reason)
{
  link->news |= news;
  if (reason != 0) {
    link->reason = reason;
  }
  lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_LINKS);
}

size_t
lwipy_link_frame_room(const struct lwipy_link *link)
{
  return (size_t)link->nic->netif.mtu + (link->nic->layer == LWIPY_L2 ? SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR : 0) + 1;
}

/* ---- Life ---------------------------------------------------------------------------------------------------- */

static void
close_descriptor(struct lwipy_link *link)
{
  lwipy_vnet_close(link);
  lwipy_vhost_end(link);
  calm(link);
  if (link->fd >= 0) {
    lwipy_dgram_close(link);
    lwipy_poller_unset(lwipy_self, link->fd);
    close(link->fd);
    link->fd = -1;
  }
  lwipy_fifo_clear(&link->out);
  link->in_used = 0;
  link->ended = 0;
  link->blocked = link->armed = link->waits_out = 0;
  link->news = 0;
  link->reason = 0;
}

static struct lwipy_link *
link_of(struct lwipy_nic *nic, int number)
{
  struct lwipy_link *link = nic->link;
  if (link == NULL && (link = calloc(1, sizeof(*link))) != NULL) {
    if ((link->in = malloc(LWIPY_LINK_BATCH)) == NULL) {
      free(link);
      return NULL;
    }
    link->nic = nic;
    link->number = number;
    link->fd = link->waiter = -1;
    lwipy_wire_cut(nic);
    lwipy_fifo_clear(&nic->out);
    nic->link = link;
  }
  return link;
}

int
core_link_open(int number, int kind, int fd, const char *peer, size_t peer_length)
{
  if (kind < LWIPY_LINK_STREAM || kind > LWIPY_LINK_VNET) {
    return LWIPY_EARG;
  }
  return lwipy_link_start(number, kind, fd, peer, peer_length);
}

int
lwipy_link_start(int number, int kind, int fd, const void *about, size_t length)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct lwipy_link *link;
  int result;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if ((link = link_of(nic, number)) == NULL) {
    return LWIPY_EMEM;
  }
  close_descriptor(link);
  link->kind = kinds[kind];
  if (kind == LWIPY_LINK_DGRAM && (result = lwipy_dgram_open(link, fd, about, length)) != 0) {
    return result;
  }
  if (kind == LWIPY_LINK_VNET && (result = lwipy_vnet_open(link)) != 0) {
    return result;
  }
  if (kind == LWIPY_LINK_VHOST && (result = lwipy_vhost_begin(link, about)) != 0) {
    return result;
  }
  if ((result = lwipy_poller_set(lwipy_self, fd, LWIPY_TAG_LINK(number),
                                 LWIPY_POLL_IN | (link->kind->by_edge ? LWIPY_EDGE : 0))) != 0) {
    return result;
  }
  link->fd = fd;
  lwipy_timers_stir();
  netif_set_link_up(&nic->netif);
  return 0;
}

int
core_link_close(int number)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct lwipy_link *link;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if ((link = link_of(nic, number)) == NULL) {
    return LWIPY_EMEM;
  }
  netif_set_link_down(&nic->netif);
  close_descriptor(link);
  return 0;
}

void
lwipy_link_free(struct lwipy_nic *nic)
{
  struct lwipy_link *link = nic->link, **at;
  if (link == NULL) {
    return;
  }
  for (at = &dirty; *at != NULL; at = &(*at)->next_dirty) {
    if (*at == link) {
      *at = link->next_dirty;
      break;
    }
  }
  close_descriptor(link);
  nic->link = NULL;
  free(link->in);
  free(link);
}

/* The orderly or disorderly end that `ended` asks for. */
static void
end(struct lwipy_link *link)
{
  int reason = link->ended;
  u32_t news = link->news;
  netif_set_link_down(&link->nic->netif);
  close_descriptor(link);
  lwipy_link_tell(link, news | LWIPY_LINK_LOST, reason == LWIPY_LINK_END ? 0 : reason);
}

/* ---- Output -------------------------------------------------------------------------------------------------- */

int
lwipy_link_transmit(struct lwipy_link *link, const struct pbuf *p)
{
  if (link->fd < 0 || link->ended) {
    return LWIPY_LINK_ERROR;
  }
  if (link->kind->transmit != NULL) {
    touch(link);
    return link->kind->transmit(link, p);
  }
  if (link->kind->write != NULL && link->out.used == 0) {
    int result = link->kind->write(link, p);
    if (link->ended) {
      touch(link);
    }
    if (result != 0) {
      return result > 0 ? 0 : result;
    }
  }
  if (lwipy_fifo_put_behind(&link->out, link->kind->prefix(p->tot_len), p) != 0) {
    return LWIPY_LINK_FULL;
  }
  if (!link->armed) {
    if (link->out.used >= FLUSH_AT && !link->blocked) {
      link->ended = link->kind->send(link);
    }
    touch(link);
  }
  return 0;
}

/* Asks the poller to tell when the descriptor takes more, or no longer. */
static void
arm(struct lwipy_link *link)
{
  int how = link->blocked && link->kind->wait != NULL ? link->kind->wait(link) : -1;
  int wants_out = link->blocked && how < 0;
  if (wants_out != link->waits_out) {
    lwipy_poller_set(lwipy_self, link->fd, LWIPY_TAG_LINK(link->number), LWIPY_POLL_IN | (wants_out ? LWIPY_POLL_OUT : 0));
    link->waits_out = (u8_t)wants_out;
  }
  link->armed = link->blocked && how <= 0;
}

void
lwipy_links_settle(void)
{
  while (dirty != NULL) {
    struct lwipy_link *link = dirty;
    dirty = link->next_dirty;
    link->dirty = 0;
    if (link->fd < 0) {
      continue;
    }
    if (!link->ended && (link->out.used > 0 || link->kind->transmit != NULL)) {
      link->blocked = 0;
      link->ended = link->kind->send(link);
    }
    if (link->ended) {
      end(link);
    } else {
      arm(link);
    }
  }
}

/* ---- Input --------------------------------------------------------------------------------------------------- */

static void
service(struct lwipy_link *link, u32_t events)
{
  int result;
  if (link->fd < 0) {
    return;
  }
  calm(link);
  if (events & LWIPY_POLL_IN) {
    lwipy_timers_stir();
    lwipy_batch_begin();
    result = link->kind->receive(link);
    lwipy_batch_end();
    link->ended = link->ended ? link->ended : result;
  }
  if ((events & LWIPY_POLL_OUT) || link->ended || link->out.used > 0) {
    touch(link);
  }
}

void
lwipy_links_service(const lwipy_readiness *ready, int count)
{
  int i;
  for (i = 1; eager > 0 && i < 256; i++) {
    struct lwipy_nic *nic = lwipy_nic(i);
    if (nic != NULL && nic->link != NULL && nic->link->more) {
      service(nic->link, LWIPY_POLL_IN);
    }
  }
  for (i = 0; i < count; i++) {
    int number = (int)LWIPY_TAG_NUMBER(ready[i].tag);
    if (LWIPY_TAG_KIND(ready[i].tag) == LWIPY_TAG_KIND(LWIPY_TAG_WATCH(0))) {
      lwipy_watch_is_ready(number);
    } else if (LWIPY_TAG_KIND(ready[i].tag) == LWIPY_TAG_KIND(LWIPY_TAG_LINK(0))) {
      struct lwipy_nic *nic = lwipy_nic(number);
      if (nic != NULL && nic->link != NULL) {
        service(nic->link, ready[i].events);
      }
    }
  }
}

/* ---- What Python is told --------------------------------------------------------------------------------------- */

int
core_link_news(lwipy_link_event *out, int room)
{
  int number, count = 0;
  for (number = 1; number < 256; number++) {
    struct lwipy_nic *nic = lwipy_nic(number);
    struct lwipy_link *link = nic != NULL ? nic->link : NULL;
    if (link == NULL || link->news == 0) {
      continue;
    }
    if (count == room) {
      return count;
    }
    out[count].nic = number;
    out[count].news = link->news;
    out[count].reason = link->reason;
    out[count].announced = link->announced;
    link->news = 0;
    link->reason = 0;
    count++;
  }
  lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_LINKS);
  return count;
}

int
core_link_get_status(int number, lwipy_link_status *out)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct lwipy_link *link = nic != NULL ? nic->link : NULL;
  memset(out, 0, sizeof(*out));
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  if (link == NULL || link->fd < 0) {
    return 0;
  }
  out->open = 1;
  out->queued = link->out.used;
  if (link->kind == &lwipy_link_stream) {
    struct pollfd fds = { link->fd, POLLIN | POLLRDHUP, 0 };
    out->hung_up = poll(&fds, 1, 0) > 0 && (fds.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  } else if (link->kind == &lwipy_link_dgram) {
    lwipy_dgram_describe(link, out->peer, sizeof(out->peer));
  }
  return 0;
}
#endif
