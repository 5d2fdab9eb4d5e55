/*
 * What the files of one core share. Everything declared here exists once per Stack (see instance.c).
 */
#ifndef LWIPY_CORE_H
#define LWIPY_CORE_H

#include <setjmp.h>
#include <stdint.h>

#include "lwip/opt.h"

#include "lwip/def.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"

#include "leader.h"
#include "lwipy.h"
#include "platform.h"

/* The signal mask is nobody's business here, and saving it is a system call on some platforms. */
#ifdef __APPLE__
#define LWIPY_SETJMP  _setjmp
#define LWIPY_LONGJMP _longjmp
#else
#define LWIPY_SETJMP  setjmp
#define LWIPY_LONGJMP longjmp
#endif

/* The part that both sides of the border know. It lies in the process's heap, not in the core's arena. */
struct lwipy_core {
  const struct lwipy_table *table; /* the copy's functions; generated */
  lwipy_mutex lock;                /* held during every call into the copy, never while waiting */
  lwipy_thread owner;              /* who holds it, valid while `entered` */
  int entered;
  jmp_buf unwind;                  /* where a failed assertion goes */
  int failed;
  char failure[256];
  uint32_t attention;              /* LWIPY_HAS_... bits; atomic, read without the lock */
  uint32_t sleeping;               /* see loop.c; atomic */
  uint32_t heeds;                  /* the bits of `attention` that end the sleep; atomic */
  struct lwipy_leadership lead;    /* leader.c */
#ifdef _WIN32
  lwipy_bell wake;
#else
  int wake_fd[2];
  int poller;                      /* see poller_epoll.c and poller_kqueue.c */
#endif
  void *library;                   /* the private copy */
  int library_fd;                  /* the memory file it was loaded from, or -1 */
};

extern struct lwipy_core *lwipy_self;
extern u32_t lwipy_without;      /* LWIPY_WITHOUT_... */

/* ---- port.c ------------------------------------------------------------------------------------------------ */
int64_t lwipy_now(void);
int64_t lwipy_latest(void);
int64_t lwipy_now_ns(void);
void lwipy_port_open(const lwipy_options *options);
u64_t lwipy_keyed_hash(const u64_t *words, size_t count);   /* this core's own, from the first call to the last */
u64_t lwipy_ends_hash(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);
u32_t lwipy_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);

/* ---- arena.c ----------------------------------------------------------------------------------------------- */
extern u8_t *lwipy_arena;            /* its first byte */
int lwipy_arena_open(size_t limit);
void lwipy_arena_close(void);
size_t lwipy_arena_used(void);
size_t lwipy_arena_limit(void);
void lwipy_arena_spare(const void *memory, int spare);   /* kept for later, and so not in use; 0: in use again */
int lwipy_arena_is_low(void);         /* nothing new is begun, so that what there is can go on */

/* ---- timers.c ---------------------------------------------------------------------------------------------- */
#define LWIPY_NEVER INT64_MAX
void lwipy_timers_open(void);
void lwipy_timers_stir(void);        /* something happens now: idle timers catch up and run again */
void lwipy_timers_run(void);
int64_t lwipy_timers_deadline(void); /* absolute, or LWIPY_NEVER */

/* ---- tcp_timers.c: the part of them that is TCP's ------------------------------------------------------------ */
void lwipy_tcp_timers_open(void);
void lwipy_tcp_timers_stir(int64_t now);
int lwipy_tcp_timers_run(int64_t now);      /* 1: something was sent */
int64_t lwipy_tcp_timers_deadline(void);

/* ---- endpoints.c -------------------------------------------------------------------------------------------- */
enum lwipy_kind { LWIPY_KIND_TCP = LWIPY_TCP, LWIPY_KIND_UDP = LWIPY_UDP, LWIPY_KIND_RAW = LWIPY_RAW,
                  LWIPY_KIND_QUERY, LWIPY_KIND_ANY = 0 };

struct lwipy_end {
  lwipy_handle handle;
  u8_t kind;
  u8_t queued;                 /* on the ring */
  u8_t quiet;                  /* Python is told nothing: who waits for it waits in leader.c */
  u32_t armed;                 /* READABLE and WRITABLE are reported once, after an operation that had to wait */
  u32_t events;                /* not yet fetched by Python */
  struct lwipy_end *next;      /* on the ring */
};

void *lwipy_end_new(enum lwipy_kind kind, size_t size);
void *lwipy_end_find(lwipy_handle handle, enum lwipy_kind kind);
void lwipy_end_free(struct lwipy_end *end);
void lwipy_signal(struct lwipy_end *end, u32_t events);
size_t lwipy_end_count(void);

/* ---- core.c: the border calls these by name ---------------------------------------------------------------- */
int lwipy_inside_open(struct lwipy_core *core, const lwipy_options *options);
void lwipy_inside_leave(void);
void lwipy_inside_close(void);

/* ---- netif.c ------------------------------------------------------------------------------------------------ */
struct netif *lwipy_netif_by_index(int nic);
struct netif *lwipy_netif_first(void);
void lwipy_netif_close_all(void);
void lwipy_netif_poll(void);
int lwipy_netif_has_work(void);
void lwipy_keep_neighbours(void);    /* neighbours.c; once a second */
void lwipy_address_from_ip(lwipy_address *out, const ip_addr_t *ip, u16_t port);
int lwipy_address_to_ip(const lwipy_address *in, ip_addr_t *ip);
int lwipy_address_to_ip6(const lwipy_address *in, ip6_addr_t *ip, struct netif *netif);

/* ---- groups.c ------------------------------------------------------------------------------------------------ */
void lwipy_groups_leave_all(lwipy_handle owner);
void lwipy_groups_forget(int nic);   /* the interface is gone */

/* ---- guard.c ------------------------------------------------------------------------------------------------ */
struct lwipy_guard_counters {
  u64_t tcp_options, tcp_flags, tcp_window, nd_options, nd_fragment, nd_unasked, icmp, ip_header, fragment, source;
};
extern struct lwipy_guard_counters lwipy_guard_counters;
/* How many bytes to give to lwIP; 0: drop it. */
size_t lwipy_guard_ip(const struct netif *netif, const u8_t *packet, size_t length);
size_t lwipy_guard_frame(const struct netif *netif, const u8_t *frame, size_t length);

/* ---- unreachable.c; `message` is ICMP's, with its header ------------------------------------------------------ */
void lwipy_unreachable4(const u8_t *message, size_t length);
void lwipy_unreachable6(const struct netif *netif, const u8_t *packet, const u8_t *message, size_t length);

/* ---- tcp_hooks.c -------------------------------------------------------------------------------------------- */
extern int lwipy_replay;      /* the frame just fed ended a TIME_WAIT and is to be fed again */

/* ---- counters kept outside lwIP's statistics ------------------------------------------------------------------ */
struct lwipy_drops { u64_t syn_backlog, udp_queue_full, time_wait, memory, memory_waits, cookies_sent, cookies_good; };
extern struct lwipy_drops lwipy_drops;

#endif /* LWIPY_CORE_H */
