/*
 * What a thread waits to have done for it: see errand.c.
 */
#ifndef LWIPY_ERRAND_H
#define LWIPY_ERRAND_H

#include "lwipy.h"

struct lwipy_errand {
  int wanted;                      /* what it may have to wait for: LWIPY_READABLE for receiving, or LWIPY_WRITABLE */
  uint8_t *bytes;                  /* the caller's; sending only reads them */
  size_t length, done;
  int flags;                       /* lwipy_tcp_recv()'s */
  lwipy_hold *hold;                /* of bytes that are sent without a copy, or NULL */
  int untried;                     /* nobody has begun it */
};

#endif /* LWIPY_ERRAND_H */
