/*
 * Names through lwIP's resolver.
 *
 * Theory of operation. A query is an endpoint of its own. lwIP's callback cannot be cancelled, so its argument is not
 * a pointer but the index of a slot here, which holds the handle: an answer that comes after the query was released
 * finds no endpoint, and is dropped.
 *
 * Invariant: a slot is taken from dns_gethostbyname_addrtype() until its callback has run, which lwIP does exactly
 * once for each query it accepted.
 */
#include "core.h"

#include <string.h>

#include "lwip/dns.h"

struct query {
  struct lwipy_end end;
  s8_t result;                /* 1: found, 0: waits, -1: no such name */
  ip_addr_t address;
};

static lwipy_handle waiting[DNS_TABLE_SIZE];

static void
answer(struct query *query, const ip_addr_t *address)
{
  query->result = address != NULL ? 1 : -1;
  if (address != NULL) {
    ip_addr_copy(query->address, *address);
  }
  lwipy_signal(&query->end, LWIPY_RESOLVED);
}

static void
on_answer(const char *name, const ip_addr_t *address, void *arg)
{
  lwipy_handle *slot = arg;
  struct query *query = lwipy_end_find(*slot, LWIPY_KIND_QUERY);
  LWIP_UNUSED_ARG(name);
  *slot = 0;
  if (query != NULL) {
    answer(query, address);
  }
}

int
core_dns_query(const char *name, int family, lwipy_handle *out)
{
  struct query *query;
  lwipy_handle *slot = waiting;
  ip_addr_t address;
  err_t err;
  while (*slot != 0) {
    if (++slot == waiting + DNS_TABLE_SIZE) {
      return LWIPY_EWOULDBLOCK;
    }
  }
  if ((query = lwipy_end_new(LWIPY_KIND_QUERY, sizeof(*query))) == NULL) {
    return LWIPY_EMEM;
  }
  lwipy_timers_stir();
  *slot = *out = query->end.handle;
  err = dns_gethostbyname_addrtype(name, &address, on_answer, slot,
                                   (u8_t)(family == 4 ? LWIP_DNS_ADDRTYPE_IPV4 : LWIP_DNS_ADDRTYPE_IPV6));
  if (err == ERR_INPROGRESS) {
    return 0;
  }
  *slot = 0;
  if (err != ERR_OK) {
    lwipy_end_free(&query->end);
    return err == ERR_VAL ? LWIPY_ENONAME : err;     /* ERR_VAL: no server is set */
  }
  answer(query, &address);
  return 0;
}

/* 1 and the address, 0 while it waits, LWIPY_ENONAME. */
int
core_dns_answer(lwipy_handle handle, lwipy_address *out)
{
  struct query *query = lwipy_end_find(handle, LWIPY_KIND_QUERY);
  if (query == NULL) {
    return LWIPY_EHANDLE;
  }
  if (query->result > 0) {
    lwipy_address_from_ip(out, &query->address, 0);
  }
  return query->result < 0 ? LWIPY_ENONAME : query->result;
}

int
core_dns_set_server(int index, const lwipy_address *address)
{
  ip_addr_t ip;
  if (index < 0 || index >= DNS_MAX_SERVERS) {
    return LWIPY_EARG;
  }
  if (address->family == 0) {
    dns_setserver((u8_t)index, NULL);
    return 0;
  }
  if (lwipy_address_to_ip(address, &ip) != 0) {
    return LWIPY_EARG;
  }
  dns_setserver((u8_t)index, &ip);
  return 0;
}

int
core_dns_get_server(int index, lwipy_address *out)
{
  const ip_addr_t *ip;
  if (index < 0 || index >= DNS_MAX_SERVERS) {
    return LWIPY_EARG;
  }
  ip = dns_getserver((u8_t)index);
  lwipy_address_from_ip(out, ip, 0);
  if (ip_addr_isany(ip)) {
    out->family = 0;
  }
  return 0;
}
