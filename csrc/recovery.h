/*
 * Loss recovery on the sending side: see recovery.c.
 */
#ifndef LWIPY_RECOVERY_H
#define LWIPY_RECOVERY_H

#include "core.h"

struct tcp_hdr;
struct tcp_pcb;

struct lwipy_recovery {
  u8_t active;
  u32_t point;           /* recovery ends when everything before it is acknowledged */
  u32_t mark;            /* snd_nxt when segments were last sent again */
};

/* In the hook, before lwIP sees the segment: notes what the peer says it has. 1: lwipy_recover() is worth a call. */
int lwipy_scoreboard(struct tcp_pcb *pcb, const struct tcp_hdr *header, u16_t opt_length);

/* After lwIP is through with the segment: sends again what is lost. */
void lwipy_recover(struct lwipy_recovery *recovery, struct tcp_pcb *pcb);

#endif /* LWIPY_RECOVERY_H */
