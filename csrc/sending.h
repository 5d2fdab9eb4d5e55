/*
 * The sending side of a connection, as the port keeps it beside lwIP's pcb: see sending.c.
 */
#ifndef LWIPY_SENDING_H
#define LWIPY_SENDING_H

#include "congestion.h"
#include "deadlines.h"
#include "flight.h"

struct tcp_hdr;
struct tcp_pcb;
struct tcp_seg;

/* Where loss recovery stands. */
enum lwipy_phase { LWIPY_OPEN, LWIPY_RECOVERING /* by PRR */, LWIPY_TIMED_OUT /* from one segment on */ };

/* What the deadline of a connection is for. */
enum lwipy_alarm { LWIPY_NO_ALARM, LWIPY_REORDERING /* late or lost? */, LWIPY_PROBE /* of the tail */, LWIPY_RTO };

struct lwipy_sending {
  struct tcp_pcb *pcb;
  struct lwipy_flight flight;
  u32_t una;                       /* everything before it has been counted as delivered */

  /* The window, in bytes; the controller moves it (congestion.h). */
  const struct lwipy_controller *controller;
  union lwipy_control control;     /* the controller's own */
  u32_t cwnd, ssthresh;
  u32_t peak, last_peak, peak_end; /* the most in flight, in this round and the one before; where this one ends */
  u64_t pacing_rate;               /* bytes a second; 0: no pacing */
  u32_t most_rate;                 /* SO_MAX_PACING_RATE; 0: no limit */
  int64_t pace_due;                /* nothing is sent before */

  /* Round trips, microseconds (rtt.c). */
  u32_t srtt8, rttvar4, prompt8, rto, min_rtt, next_min_rtt, min_since;
  u32_t ack_delay;                 /* how long the peer may keep an acknowledgement back, as far as is known */
  u8_t backoff;                    /* how often the timeout has been doubled */
  u8_t nic;                        /* that the peer was last heard over */

  /* RACK (rack.c): the latest segment sent of those that have arrived. */
  u32_t rack_at, rack_end, rack_rtt;
  u32_t highest;                   /* the end of the highest segment that has arrived */
  u32_t dsack_round;
  u8_t reordering, reo_steps, reo_persist, dsack_noted;

  /* Tail loss probe. */
  u8_t probing, probe_again;       /* a probe is out; what it carries was sent before */
  u8_t needless_row;
  u32_t probe_end;

  /* Recovery (recovery.c). */
  u8_t phase, suspect;             /* suspect: the timeout may have been for nothing (F-RTO) */
  u16_t dupacks;                   /* of a peer without SACK: each says that something has arrived */
  u32_t point;                     /* the phase ends when everything before it is acknowledged */
  u32_t prr_delivered, prr_out, prr_start;
  u32_t undo_cwnd, undo_ssthresh, undo_again;   /* undo_again: what was sent again, and not yet found needless */

  struct tcp_seg *tail;            /* the last of those in flight, as far as is known (output.c) */
  u32_t tail_seq;                  /* where it begins */

  struct lwipy_held *held, *last_held;   /* what is sent without a copy (held.c) */
  struct lwipy_held *found_held;   /* the last that was looked for, or NULL */

  u8_t alarm;
  int64_t alarm_at, rto_from, sent_at;
  struct lwipy_deadline deadline;

  /* For rate samples, and for people. */
  u32_t delivered, delivered_at, first_at, starved_until;
  u32_t resent_segments, lost_segments, timeouts, probes, needless, undone;
};

/* ---- sending.c -------------------------------------------------------------------------------------------------- */
struct lwipy_sending *lwipy_sending_of(const struct tcp_pcb *pcb);     /* NULL: none, lwIP is alone */
struct lwipy_sending *lwipy_sending_start(struct tcp_pcb *pcb, int controller);

void lwipy_sending_in(struct tcp_pcb *pcb, const struct tcp_hdr *header, u16_t options, u32_t length);
void lwipy_sending_through(void);                     /* behind each segment: lwIP is through with it */
void lwipy_sending_out(struct tcp_pcb *pcb, const struct tcp_hdr *header, u32_t length);
void lwipy_sending_output(struct tcp_pcb *pcb);       /* in the place of tcp_output() */

void lwipy_sending_syn(struct tcp_pcb *pcb);          /* a SYN goes out */
u32_t lwipy_sending_shaken(struct tcp_pcb *pcb);      /* the handshake is over: the round trip it took, or 0 */
void lwipy_sending_hunger(struct lwipy_sending *sending);   /* before the application's bytes: had it nothing? */
u32_t lwipy_sending_pipe(const struct lwipy_sending *sending);

/* ---- tempo.c ---------------------------------------------------------------------------------------------------- */
void lwipy_tempo_limit(struct lwipy_sending *sending, u32_t most);    /* SO_MAX_PACING_RATE */
void lwipy_tempo_follow(struct lwipy_sending *sending);               /* the window, which has moved */
u32_t lwipy_tempo_quantum(const struct lwipy_sending *sending);       /* what may go at once, bytes */
u32_t lwipy_tempo_allows(const struct lwipy_sending *sending, u32_t room);   /* so many bytes of `room` now */
void lwipy_tempo_sent(struct lwipy_sending *sending, u32_t length);

/* ---- output.c --------------------------------------------------------------------------------------------------- */
void lwipy_output(struct lwipy_sending *sending);     /* tcp_output() */

/* ---- autotune.c ------------------------------------------------------------------------------------------------ */
void lwipy_autotune_send(const struct lwipy_sending *sending);
void lwipy_autotune_apart(const struct tcp_pcb *pcb);   /* its peer is a kernel that leaves segments whole */

/* ---- rtt.c ------------------------------------------------------------------------------------------------------ */
void lwipy_rtt_open(struct lwipy_sending *sending);
void lwipy_rtt_sample(struct lwipy_sending *sending, u32_t now, u32_t rtt, int alone);
u32_t lwipy_rtt(const struct lwipy_sending *sending);  /* smoothed; 0: not known yet */

/* ---- rack.c ----------------------------------------------------------------------------------------------------- */
struct lwipy_ack;
void lwipy_rack_open(struct lwipy_sending *sending);
void lwipy_rack_delivered(struct lwipy_sending *sending, const struct lwipy_sent *sent, u32_t now);
void lwipy_rack_dsack(struct lwipy_sending *sending);
void lwipy_rack_recovered(struct lwipy_sending *sending);
u32_t lwipy_rack_window(struct lwipy_sending *sending);
/* Marks what is lost: bytes. `wait`: microseconds until something more may be, or 0. */
u32_t lwipy_rack_detect(struct lwipy_sending *sending, u32_t now, u32_t *wait);
u32_t lwipy_probe_timeout(const struct lwipy_sending *sending);
void lwipy_probe_judged(struct lwipy_sending *sending, int needless);

/* ---- recovery.c ------------------------------------------------------------------------------------------------- */
struct lwipy_arrival {             /* of an acknowledgement, as the hook saw it */
  u32_t ack;
  u8_t duplicate;                  /* RFC 5681 section 2 */
  u8_t blocks;
  u32_t left[4], right[4];         /* of SACK */
};

void lwipy_recovery_ack(struct lwipy_sending *sending, const struct lwipy_arrival *arrival);
/* The phase and the window follow what is known by now; `progress`: lastack has moved. */
void lwipy_recovery_judge(struct lwipy_sending *sending, struct lwipy_ack *ack, int progress);
void lwipy_reduce(struct lwipy_sending *sending);      /* the window, for what was lost: once in each phase */

/* ---- repair.c ---------------------------------------------------------------------------------------------------- */
/* Queues what is lost, as long as there is room in the window; how much of that is left. */
u32_t lwipy_repair(struct lwipy_sending *sending, u32_t room);

/* ---- alarms.c ---------------------------------------------------------------------------------------------------- */
void lwipy_sending_arm(struct lwipy_sending *sending);
void lwipy_sending_alarm(struct lwipy_deadline *deadline);   /* its time has come */

/* ---- dsack.c ----------------------------------------------------------------------------------------------------- */
void lwipy_dsack_in(struct tcp_pcb *pcb, u32_t seqno, u32_t length);
void lwipy_dsack_through(void);

static inline u32_t
lwipy_now32(void)
{
  return (u32_t)lwipy_latest();
}

#endif /* LWIPY_SENDING_H */
