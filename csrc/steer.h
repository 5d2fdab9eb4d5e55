/*
 * One interface for several stacks: see steer.c.
 */
#ifndef LWIPY_STEER_H
#define LWIPY_STEER_H

#include "netif.h"

/* A frame from the wire, behind the stages. 1: it is this core's; 0: it was handed over, or dropped and counted. */
int lwipy_steer_in(struct lwipy_nic *nic, const u8_t *frame, size_t length);
int lwipy_steer_takes_part(const struct lwipy_nic *nic);       /* this core is a member, not the front */
/* Whether lwipy_steer_in() would answer 1 by the frame's flow; with `counts` it will not be asked. */
int lwipy_steer_keeps(const struct lwipy_nic *nic, const u8_t *frame, size_t length, int counts);
int lwipy_steer_lets_out(struct lwipy_nic *nic, const struct pbuf *p);   /* whether what lwIP sends goes to the wire */
void lwipy_steer_through(struct lwipy_nic *inner, const u8_t *frame, size_t length);   /* out of an inner one's wire */
void lwipy_steer_forget(struct lwipy_nic *nic);                /* it is being removed */

#endif /* LWIPY_STEER_H */
