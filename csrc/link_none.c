/*
 * Where there are no such links (Windows), and a guest's rings are none (not Linux): every attempt is refused.
 */
#include "link.h"

#ifdef _WIN32

int
lwipy_link_transmit(struct lwipy_link *link, const struct pbuf *p)
{
  (void)link;
  (void)p;
  return LWIPY_LINK_ERROR;
}

void
lwipy_link_free(struct lwipy_nic *nic)
{
  (void)nic;
}

void
lwipy_links_service(const lwipy_readiness *ready, int count)
{
  (void)ready;
  (void)count;
}

int
lwipy_links_have_more(void)
{
  return 0;
}

void
lwipy_links_settle(void)
{
}

int
core_link_open(int number, int kind, int fd, const char *peer, size_t peer_length)
{
  (void)number;
  (void)kind;
  (void)fd;
  (void)peer;
  (void)peer_length;
  return LWIPY_ENOTSUP;
}

void
lwipy_link_restage(struct lwipy_nic *nic)
{
  (void)nic;
}

int
core_link_set_offload(int number, int features)
{
  (void)number;
  (void)features;
  return LWIPY_ENOTSUP;
}

int
core_link_close(int number)
{
  (void)number;
  return LWIPY_ENOTSUP;
}

int
core_link_get_status(int number, lwipy_link_status *out)
{
  (void)number;
  (void)out;
  return LWIPY_ENOTSUP;
}

int
core_link_news(lwipy_link_event *out, int room)
{
  (void)out;
  (void)room;
  return 0;
}
#endif

#ifndef __linux__
#ifndef _WIN32
int
lwipy_vhost_begin(struct lwipy_link *link, const lwipy_vhost_device *device)
{
  (void)link;
  (void)device;
  return LWIPY_ENOTSUP;
}

void
lwipy_vhost_end(struct lwipy_link *link)
{
  (void)link;
}
#endif

int
core_vhost_open(int number, const lwipy_vhost_device *device)
{
  (void)number;
  (void)device;
  return LWIPY_ENOTSUP;
}

int
core_vhost_bases(int number, uint32_t *out)
{
  (void)number;
  (void)out;
  return LWIPY_ENOTCONN;
}

int
core_vhost_set_call(int number, int ring, int fd)
{
  (void)number;
  (void)ring;
  (void)fd;
  return LWIPY_ENOTCONN;
}
#endif
