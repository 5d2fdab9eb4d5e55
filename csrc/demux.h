/*
 * Which list lwIP looks for a connection in: see demux.c.
 */
#ifndef LWIPY_DEMUX_H
#define LWIPY_DEMUX_H

#include "core.h"

struct tcp_pcb;

int lwipy_demux_open(int on);      /* off: one bucket, and lwIP works as it came; -1: no memory */

void lwipy_demux_watch_addresses(void);   /* connections end with their local address */

/* Every pcb that is allocated is born once, and dies once. */
void lwipy_demux_born(void);
void lwipy_demux_died(void);

/* Point lwIP's lists at a bucket. When it is left, its connections are asked when they want the timers. */
void lwipy_demux_draw_factors(void);
u32_t lwipy_demux_hash(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);
void lwipy_demux_select(u32_t hash);
void lwipy_demux_select_pcb(const struct tcp_pcb *pcb);    /* of a pcb that is active or in TIME_WAIT */
void lwipy_demux_nowhere(void);    /* empty lists, for what looks through all of them */

/* The connection with this 4-tuple, active or in TIME_WAIT, or NULL; its bucket is selected. */
struct tcp_pcb *lwipy_demux_find(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);

/* Calls `visit` with every bucket that is not empty; the bucket at hand is the same again afterwards. */
void lwipy_demux_each(void (*visit)(void *argument), void *argument);

/* TIME_WAIT: how many connections may be in it, and who is not any more. */
void lwipy_demux_left_time_wait(unsigned count);
unsigned lwipy_demux_shed(unsigned count);   /* ends so many of them, for their memory; how many there were */

/* With tcp_timers.c. A bucket is due at a tick: `run` answers with the next one that it wants. */
extern int64_t lwipy_tick;         /* fast ticks that have passed */
int64_t lwipy_demux_due(void);     /* the first one, or LWIPY_NEVER */
void lwipy_demux_run(int64_t (*run)(void));
int64_t lwipy_tcp_timers_wanted(void);   /* by the connections of the bucket at hand; or LWIPY_NEVER */

#endif /* LWIPY_DEMUX_H */
