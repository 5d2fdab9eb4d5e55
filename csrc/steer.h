/*
 * One interface for several stacks: see steer.c.
 */
#ifndef LWIPY_STEER_H
#define LWIPY_STEER_H

#include "netif.h"

void lwipy_steer_in(struct lwipy_nic *nic, const u8_t *frame, size_t length);      /* from the wire, behind the stages */
void lwipy_steer_out(struct lwipy_nic *inner, const u8_t *frame, size_t length);   /* from a member's wire */
void lwipy_steer_forget(struct lwipy_nic *nic);                                    /* it is being removed */

#endif /* LWIPY_STEER_H */
