/*
 * What the two files of a datagram endpoint share: dgram.c (life and options) and udp.c (datagrams in and out).
 */
#ifndef LWIPY_DGRAM_ENDPOINT_H
#define LWIPY_DGRAM_ENDPOINT_H

#include "dgram.h"

#include "lwip/raw.h"
#include "lwip/udp.h"

struct datagram {
  struct datagram *next;
  struct pbuf *p;
  u32_t cost;
  ip_addr_t from, to;
  u16_t from_port, to_port;
  u8_t nic, ttl, tos;
};

struct lwipy_dgram {
  struct lwipy_end end;
  union {
    struct udp_pcb *udp;
    struct raw_pcb *raw;
    struct ip_pcb *ip;
  } pcb;
  u8_t connected;
  s16_t error;                 /* not yet told */
  u32_t rcvbuf, held;
  struct datagram *first, **last;
};

void lwipy_on_udp(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port);
u8_t lwipy_on_raw(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from);

#endif /* LWIPY_DGRAM_ENDPOINT_H */
