/*
 * Connections that a peer has asked for and not confirmed yet: see half_open.c.
 */
#ifndef LWIPY_HALF_OPEN_H
#define LWIPY_HALF_OPEN_H

#include "core.h"

struct tcp_ext_arg_callbacks;
struct tcp_hdr;
struct tcp_pcb;
struct tcp_pcb_listen;

err_t lwipy_half_open_begin(u8_t id, struct tcp_pcb_listen *listener, struct tcp_pcb *pcb);   /* lwIP calls it */
void lwipy_half_open_end(struct tcp_pcb *pcb);            /* it is accepted */
void lwipy_half_open_abort(const void *listener);         /* all of this listener's, its callback argument */
int lwipy_half_open_is_full(void);

/* cookies.c: answers a SYN without remembering it, and knows the answer's echo. The listening pcb's segment is at hand. */
void lwipy_cookie_answer(const struct tcp_pcb *listener, const struct tcp_hdr *syn, u16_t opt_length);
int lwipy_cookie_take(struct tcp_pcb *listener, const struct tcp_hdr *ack);   /* 1: the connection is half open now */

#endif /* LWIPY_HALF_OPEN_H */
