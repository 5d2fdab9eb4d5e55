/*
 * TCP endpoints, as the hooks see them.
 */
#ifndef LWIPY_TCP_H
#define LWIPY_TCP_H

#include "core.h"

struct tcp_pcb;

/* ports.c */
u16_t lwipy_port_towards(const ip_addr_t *local, const ip_addr_t *remote, u16_t remote_port);   /* 0: none is left */
err_t lwipy_port_bind(struct tcp_pcb *pcb, const ip_addr_t *ip, u16_t port);

u32_t lwipy_tcp_window(const struct tcp_pcb *pcb);   /* the receive buffer of the pcb's socket */
int lwipy_tcp_backlog_full(const void *listener);    /* `listener` is a listening pcb's callback argument */
int lwipy_tcp_backlog_over(const void *listener);    /* by more than a handshake or two */

/* What is fed now would be many segments on a wire, and who left it whole. */
enum { LWIPY_LONG_BY_STACK = 1, LWIPY_LONG_BY_DEVICE = 2 };
extern int lwipy_long_segment;

/* A SYN of ours was answered with ICMP; `seqno` is what the message quotes. */
void lwipy_tcp_unreachable(const ip_addr_t *local, u16_t port, const ip_addr_t *remote, u16_t remote_port, u32_t seqno,
                           int error);

/* What socket.c asks of a TCP endpoint. */
struct ip_pcb;
void *lwipy_tcp_new(int family);
void lwipy_tcp_release(struct lwipy_end *end, int abort);
int lwipy_tcp_bind(struct lwipy_end *end, const ip_addr_t *ip, u16_t port);
int lwipy_tcp_connect(struct lwipy_end *end, const ip_addr_t *ip, u16_t port);
int lwipy_tcp_error(struct lwipy_end *end);
void lwipy_tcp_touch(struct lwipy_end *end);         /* it may want its timers at another time now */
int lwipy_tcp_ready(struct lwipy_end *end);
void lwipy_tcp_addresses(struct lwipy_end *end, lwipy_address *local, lwipy_address *remote);
int lwipy_tcp_set_option(struct lwipy_end *end, int option, int value);
int lwipy_tcp_get_option(struct lwipy_end *end, int option);
struct ip_pcb *lwipy_tcp_ip_pcb(struct lwipy_end *end);

/* rxqueue.c: a queue of received bytes, in pbufs that the queue owns */
struct lwipy_rxqueue {
  struct pbuf *head, *tail;
  u32_t offset;          /* already read of the head */
  u32_t bytes;
  u32_t tail_room;       /* free bytes behind the tail's payload, when it is a pbuf of our own */
};

void lwipy_rxqueue_put(struct lwipy_rxqueue *queue, struct pbuf *p);   /* takes over p */
u32_t lwipy_rxqueue_get(struct lwipy_rxqueue *queue, void *buffer, u32_t room, int peek);
void lwipy_rxqueue_clear(struct lwipy_rxqueue *queue);

#endif /* LWIPY_TCP_H */
