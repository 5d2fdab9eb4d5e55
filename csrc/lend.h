/*
 * Frames that cross a wire by reference: see lend.c. Blocks are those of an end's supply `lent`.
 */
#ifndef LWIPY_LEND_H
#define LWIPY_LEND_H

#include "held.h"
#include "wire.h"

struct lwipy_bundle;

#define LWIPY_LEND_LEAST 16000     /* bytes of payload; less is copied as fast */

extern const size_t lwipy_lent_room;                  /* of a block, in bytes */

/* Whose the segment is that goes out next, NULL for whose bytes are copies; that the bundle begins with it; its end. */
void lwipy_lend_from(struct lwipy_sending *sending);
void lwipy_lend_bundled(void);
void lwipy_lend_forget(const struct lwipy_sending *sending);
/* Under the wire's mutex: a block that takes the next place, for whose first bytes the headers are left; NULL: none, or
   the payload is not held. */
struct lwipy_block *lwipy_lend(struct lwipy_wire_end *to, const struct lwipy_bundle *bundle);

/* The frame of such a block as pbufs, as lwipy_block_pbuf() has it; NULL: no memory. */
struct pbuf *lwipy_lent_pbuf(struct lwipy_block *block, size_t skip);
void lwipy_lent_drop(struct lwipy_block *block);      /* nobody takes it */
void lwipy_lent_end(void);                            /* the core is closed */

#endif /* LWIPY_LEND_H */
