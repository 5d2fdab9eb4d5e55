/*
 * Where there are no such links (Windows): every attempt is refused.
 */
#ifdef _WIN32
#include "link.h"

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
