/*
 * Congestion control: a table of controllers, one of which moves the window of each connection (congestion.c).
 */
#ifndef LWIPY_CONGESTION_H
#define LWIPY_CONGESTION_H

#include "core.h"

struct lwipy_sending;

/* What an acknowledgement brought. Bytes and microseconds. */
struct lwipy_ack {
  u32_t now;
  u32_t delivered;                 /* acknowledged or SACKED for the first time */
  u32_t segments;                  /* that those were */
  u32_t lost;                      /* newly taken for lost */
  u32_t rtt;                       /* 0: none measured */
  u32_t flight;                    /* in the network before it came */
  u8_t limited;                    /* the window, not the application, was what limited the flight */
  u8_t original;                   /* something has arrived that was taken for lost and not sent again */
  /* A rate sample: so many bytes were delivered within so many microseconds; 0: none */
  u32_t rate_bytes, rate_time, rate_since;
  u8_t rate_starved;
};

struct lwipy_hystart {             /* RFC 9406 */
  u32_t round_end, round_min, last_min, css_base;
  u16_t samples;
  u8_t css, css_rounds, over;
};

struct lwipy_cubic {               /* RFC 9438; windows in segments */
  double w_max, w_est, k;
  u32_t epoch, last;
  u8_t growing;
  struct lwipy_hystart hystart;
};

struct lwipy_reno { u32_t counted; };

union lwipy_control {
  struct lwipy_cubic cubic;
  struct lwipy_reno reno;
  struct lwipy_bbr *bbr;
};

struct lwipy_controller {
  const char *name;
  int (*open)(struct lwipy_sending *sending);                 /* 0, or -1 without memory; `control` is zero */
  void (*close)(struct lwipy_sending *sending);               /* or NULL */
  void (*on_ack)(struct lwipy_sending *sending, const struct lwipy_ack *ack);
  u32_t (*on_loss)(struct lwipy_sending *sending);            /* the new ssthresh; once for each recovery */
  void (*on_timeout)(struct lwipy_sending *sending);          /* on_loss was called before */
  int alone;                       /* it sets the window in recovery too: no PRR, and ssthresh means nothing */
};

/* Numbers in the table, LWIPY_CC_LWIP for lwIP's own control without any of the port's, or -1. */
#define LWIPY_CC_LWIP    0
#define LWIPY_CC_DEFAULT 1
int lwipy_congestion_find(const char *name, size_t length);
const char *lwipy_congestion_name(int number);
const struct lwipy_controller *lwipy_congestion_at(int number);
int lwipy_congestion_use(struct lwipy_sending *sending, const struct lwipy_controller *controller);

extern const struct lwipy_controller lwipy_reno, lwipy_cubic, lwipy_bbr;

/* ---- hystart.c --------------------------------------------------------------------------------------------------- */
/* Bytes by which the window grows in slow start; 0 and ssthresh = cwnd when that is over. */
u32_t lwipy_hystart_ack(struct lwipy_hystart *hystart, struct lwipy_sending *sending, const struct lwipy_ack *ack);

/* ---- congestion.c ------------------------------------------------------------------------------------------------ */
u32_t lwipy_slow_start(struct lwipy_sending *sending, u32_t bytes);   /* grows up to ssthresh; what is left of `bytes` */

#endif /* LWIPY_CONGESTION_H */
