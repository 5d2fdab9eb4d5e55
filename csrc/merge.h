/*
 * What is done once for all frames that came together: merge.c, ack.c.
 */
#ifndef LWIPY_MERGE_H
#define LWIPY_MERGE_H

#include "core.h"

struct lwipy_nic;
struct tcp_pcb;

/* Around the frames of one read, of one receive_many(), or of whatever else comes at once. Batches do not nest. */
void lwipy_batch_begin(void);
void lwipy_batch_end(void);

/* ---- merge.c ------------------------------------------------------------------------------------------------ */

/* A frame that the guard has passed. 1: it is kept, and so is `own`, the pbuf that it lies in, unless that is NULL and a
   copy was made; 0: the caller feeds it to lwIP. */
int lwipy_merge(struct lwipy_nic *nic, const u8_t *frame, size_t length, struct pbuf *own);
void lwipy_merge_learn(const struct tcp_pcb *pcb);   /* in the hook: whose the frame is that was not kept */
void lwipy_merge_flush(void);

/* netif.c: `p` is in one piece of what lwIP is to see, with every checksum already verified. */
void lwipy_nic_feed_verified(struct lwipy_nic *nic, struct pbuf *p);

/* ---- ack.c -------------------------------------------------------------------------------------------------- */
extern u32_t lwipy_frames_in_segment;                /* how many frames the segment was that lwIP is given now */
void lwipy_ack_batch_begin(void);
void lwipy_ack_batch_end(void);
void lwipy_ack_segment(struct tcp_pcb *pcb, u32_t seqno);   /* in the hook, for a segment with data */
void lwipy_ack_goes_out(const struct tcp_pcb *pcb);         /* in the hook, for any segment */

#endif /* LWIPY_MERGE_H */
