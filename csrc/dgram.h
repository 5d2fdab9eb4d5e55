/*
 * UDP and raw endpoints, as socket.c sees them.
 */
#ifndef LWIPY_DGRAM_H
#define LWIPY_DGRAM_H

#include "core.h"

#include "lwip/ip.h"

#define LWIPY_DATAGRAM_MAX  65507    /* 65535 less the headers of IPv4 and UDP */
#define LWIPY_DATAGRAM6_MAX 65487    /* lwIP counts IPv6's header in its 16-bit pbuf length too */

void *lwipy_dgram_find(lwipy_handle handle);
void *lwipy_dgram_new(int kind, int family, int protocol);
void lwipy_dgram_release(struct lwipy_end *end);
int lwipy_dgram_bind(struct lwipy_end *end, const ip_addr_t *ip, u16_t port);
int lwipy_dgram_connect(struct lwipy_end *end, const ip_addr_t *ip, u16_t port);
int lwipy_dgram_ready(struct lwipy_end *end);
void lwipy_dgram_addresses(struct lwipy_end *end, lwipy_address *local, lwipy_address *remote);
int lwipy_dgram_set_option(struct lwipy_end *end, int option, int value);
int lwipy_dgram_get_option(struct lwipy_end *end, int option);
int lwipy_dgram_error(struct lwipy_end *end);
void lwipy_udp_unreachable(const ip_addr_t *local, u16_t port, const ip_addr_t *remote, u16_t remote_port, int error);
struct ip_pcb *lwipy_dgram_ip_pcb(struct lwipy_end *end);

#endif /* LWIPY_DGRAM_H */
