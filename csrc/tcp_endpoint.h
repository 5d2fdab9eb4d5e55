/*
 * What the files of a TCP endpoint share: tcp.c (life), tcp_listen.c, tcp_bytes.c, tcp_options.c, ack.c, autotune.c.
 */
#ifndef LWIPY_TCP_ENDPOINT_H
#define LWIPY_TCP_ENDPOINT_H

#include "demux.h"
#include "sending.h"
#include "tcp.h"

#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

#define LEAST_MSS      64          /* a peer that asks for less only wants to make work */

/* There may be tens of thousands: with its header it fits a block of 224 bytes (arena.c). */
struct lwipy_tcp {
  struct lwipy_end end;
  struct tcp_pcb *pcb;
  u32_t rcvbuf, sndbuf;
  u32_t most_rate;                 /* SO_MAX_PACING_RATE: bytes a second, 0 for any */
  u8_t connecting : 1, connected : 1, got_fin : 1, read_shut : 1, write_shut : 1, lingering : 1;
  u8_t nodelay : 1, started : 1, quickack : 1;
  u8_t rcvbuf_fixed : 1, sndbuf_fixed : 1;   /* by the application; else they grow (autotune.c) */
  u8_t has_more : 1;               /* the application: the last send did not take all */
  u8_t congestion;
  u16_t quick;                     /* segments to come that are acknowledged without delay (ack.c) */
  u32_t keep_idle, keep_intvl, keep_cnt;   /* milliseconds, milliseconds, probes */
  s16_t error;                     /* not yet told */
  struct ip_pcb shadow;            /* its addresses and options, for when the pcb is gone */
  u16_t local_port, remote_port;   /* as well; the remote one from the handshake on */
  ip_addr_t bound;                 /* what a pcb starts with: the family, and where bind() put it */
  u16_t bound_port;
  struct lwipy_rxqueue queue;
  union {
    struct {                       /* a listener's: connections not yet accepted */
      u32_t backlog, waiting;
      struct lwipy_tcp **last;
    };
    struct {                       /* a connection's, from connect() on */
      u32_t hash;                  /* of the 4-tuple; see demux.c */
      u32_t way, read, read_since; /* autotune.c: a round trip, and what was read since when */
    };
  };
  union {
    struct lwipy_tcp *first;       /* of a listener's */
    struct lwipy_tcp *next;        /* a waiting connection's */
  };
};

struct tcp_pcb *lwipy_tcp_detach(struct lwipy_tcp *tcp);   /* from here on lwIP goes on alone with the pcb */
void lwipy_tcp_attach(struct lwipy_tcp *tcp, struct tcp_pcb *pcb);
int lwipy_tcp_need_pcb(struct lwipy_tcp *tcp);
void lwipy_tcp_remember(struct lwipy_tcp *tcp);            /* its ports, for when the pcb is gone */
void lwipy_tcp_start(struct lwipy_tcp *tcp);               /* before the first byte */
void lwipy_tcp_apply_options(const struct lwipy_tcp *tcp, struct tcp_pcb *pcb);
void lwipy_tcp_end_listener(struct lwipy_tcp *tcp, struct tcp_pcb *pcb);
int lwipy_tcp_has_room(const struct lwipy_tcp *tcp);

/* autotune.c */
void lwipy_autotune_shaken(struct lwipy_tcp *tcp, u32_t rtt);
void lwipy_autotune_received(struct lwipy_tcp *tcp, u32_t length);

/* Before each call of lwIP for an endpoint's pcb: its window is TCP_WND, its bucket at hand and due for the timers. */
static inline void
lwipy_tcp_use_window(const struct lwipy_tcp *tcp)
{
  lwipy_rcvbuf = tcp->rcvbuf;
  if (tcp->pcb != NULL && tcp->pcb->state > LISTEN) {
    lwipy_demux_select(tcp->hash);
  }
}

/* The error that is to be raised now, taken from the endpoint; 0 for none. */
static inline int
lwipy_tcp_take_error(struct lwipy_tcp *tcp)
{
  int error = tcp->error;
  tcp->error = 0;
  return error;
}

#endif /* LWIPY_TCP_ENDPOINT_H */
