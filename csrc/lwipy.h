/*
 * The border between Python and C: what stands here is the cdef, and nothing else crosses.
 *
 * Every function declared with a `lwipy_core *core` first takes that core's lock, runs inside the core's own
 * copy of lwIP and gives the lock back (instance.c; the code is generated from this file by build_ffi.py).
 * It answers with a value >= 0, or with one of the LWIPY_E codes below. Those marked "no lock" are written by hand.
 * Handles name endpoints: a generation in the upper 32 bits, a slot in the lower; a stale one gets LWIPY_EHANDLE.
 * Times are microseconds, lengths bytes.
 */
#ifndef LWIPY_H
#define LWIPY_H

#include <stddef.h>
#include <stdint.h>

/* ---- Codes; the ones from -1 to -16 are lwIP's err_t ---------------------------------------------------- */
enum {
  LWIPY_EMEM = -1, LWIPY_EBUF = -2, LWIPY_ETIMEOUT = -3, LWIPY_ERTE = -4, LWIPY_EINPROGRESS = -5,
  LWIPY_EVAL = -6, LWIPY_EWOULDBLOCK = -7, LWIPY_EUSE = -8, LWIPY_EALREADY = -9, LWIPY_EISCONN = -10,
  LWIPY_ECONN = -11, LWIPY_EIF = -12, LWIPY_EABRT = -13, LWIPY_ERST = -14, LWIPY_ECLSD = -15, LWIPY_EARG = -16,
  LWIPY_EFAILED = -100,    /* an lwIP assertion failed: the stack is dead, see lwipy_failure() */
  LWIPY_EHANDLE = -101,    /* no such endpoint (any more) */
  LWIPY_EREFUSED = -102, LWIPY_EUNREACH = -103, LWIPY_ENOTCONN = -104, LWIPY_EPIPE = -105,
  LWIPY_EMSGSIZE = -106, LWIPY_EACCES = -107, LWIPY_ENODEV = -108, LWIPY_ENOTSUP = -109, LWIPY_ESYS = -110,
  LWIPY_ENONAME = -111, LWIPY_EADDR = -112, LWIPY_EPROTO = -113, LWIPY_EINTR = -114,
  LWIPY_ESYSTEM = -1000    /* and below: -1000 - errno */
};

/* ---- Events of an endpoint ------------------------------------------------------------------------------- */
enum {
  LWIPY_READABLE = 1,      /* data, an end of stream, a datagram or a connection waits */
  LWIPY_WRITABLE = 2,      /* room in the send buffer, after a send that did not take everything */
  LWIPY_CONNECTED = 4,     /* connect() succeeded */
  LWIPY_FAILED = 8,        /* the connection failed; lwipy_error() says how */
  LWIPY_CLOSED = 16,       /* both directions have ended and been acknowledged; the pcb is gone */
  LWIPY_RESOLVED = 32,     /* a name was resolved, or not */
  LWIPY_ACKED = 64         /* everything sent so far has been acknowledged (only while lingering) */
};

/* Why Python should look at this core: bits of the word lwipy_attention() points to. */
enum { LWIPY_HAS_EVENTS = 1, LWIPY_HAS_FRAMES = 2, LWIPY_HAS_DEADLINE = 4, LWIPY_HAS_INPUT = 8,
       LWIPY_HAS_LINKS = 16,      /* lwipy_link_news() */
       LWIPY_HAS_WATCHED = 32,    /* lwipy_watched() */
       LWIPY_WOKEN = 64,          /* lwipy_wake() was called */
       LWIPY_HAS_RELEASED = 256,  /* holds have come home; whoever looks there clears the bit */
       LWIPY_HAS_TROUBLE = 128,   /* a stage ended by itself */
       LWIPY_NEWS = LWIPY_HAS_EVENTS | LWIPY_HAS_FRAMES | LWIPY_HAS_LINKS | LWIPY_HAS_WATCHED | LWIPY_HAS_TROUBLE |
                    LWIPY_HAS_RELEASED };   /* what Python has to look at */

enum { LWIPY_OPT_NODELAY = 1, LWIPY_OPT_KEEPALIVE, LWIPY_OPT_KEEPIDLE, LWIPY_OPT_KEEPINTVL, LWIPY_OPT_KEEPCNT,
       LWIPY_OPT_RCVBUF, LWIPY_OPT_SNDBUF, LWIPY_OPT_REUSEADDR, LWIPY_OPT_BROADCAST, LWIPY_OPT_TTL, LWIPY_OPT_TOS,
       LWIPY_OPT_V6ONLY, LWIPY_OPT_NETIF, LWIPY_OPT_MCAST_TTL, LWIPY_OPT_MCAST_LOOP, LWIPY_OPT_MCAST_NETIF,
       LWIPY_OPT_CHECKSUM, LWIPY_OPT_QUICKACK, LWIPY_OPT_MAX_PACING };

/* What makes it fast, and can be left out (tests, measurements). */
enum { LWIPY_WITHOUT_MERGE = 1,       /* merge.c */
       LWIPY_WITHOUT_ONE_ACK = 2,     /* ack.c */
       LWIPY_WITHOUT_DEMUX = 4,       /* demux.c */
       LWIPY_WITHOUT_BLOCKS = 8,      /* blocks.c */
       LWIPY_WITHOUT_HOLDING = 16,    /* held.c */
       LWIPY_WITHOUT_WIRE_OFFLOAD = 32,  /* wire_offload.c */
       LWIPY_WITHOUT_TAIL = 64,       /* output.c */
       LWIPY_WITHOUT_LENDING = 128,   /* lend.c */
       LWIPY_WITHOUT_FOLLOWING = 256,   /* output.c */
       LWIPY_WITHOUT_LANES = 512 };   /* lane.c */

enum { LWIPY_PEEK = 1,       /* what is received stays */
       LWIPY_LAST = 2,       /* an event will say what comes after less than there was room for; nobody asks before */
       LWIPY_WHOLE = 4 };    /* where more is queued than there is room for, all stays; the result is how much it is */

enum { LWIPY_TCP = 1, LWIPY_UDP = 2, LWIPY_RAW = 3 };
enum { LWIPY_L2 = 2, LWIPY_L3 = 3 };
enum { LWIPY_IN = 0, LWIPY_OUT = 1 };    /* directions: from the wire, towards the wire */
enum { LWIPY_NETIF_UP = 1, LWIPY_NETIF_LINK = 2 };

/* ---- Links that have a descriptor ------------------------------------------------------------------------ */
enum { LWIPY_LINK_STREAM = 1,     /* each frame behind its length, 32 bits big-endian */
       LWIPY_LINK_DGRAM = 2,      /* one frame a datagram */
       LWIPY_LINK_TUN = 3,        /* one frame a read or write: a TAP or TUN device, without packet information */
       LWIPY_LINK_VNET = 4,       /* the same, each frame behind a virtio-net header of 10 bytes */
       LWIPY_LINK_VHOST = 5 };    /* a guest's virtio rings: lwipy_vhost_open() */
enum { LWIPY_OFFLOAD_CSUM = 1, LWIPY_OFFLOAD_TSO4 = 2, LWIPY_OFFLOAD_TSO6 = 4 };
enum { LWIPY_LINK_LOST = 1,       /* the link has ended; `reason` says why, 0 for an orderly end */
       LWIPY_LINK_HEARD = 2,      /* the first datagram of a peer */
       LWIPY_LINK_REFUSED = 4 };  /* datagrams are not taken: nobody is there */

/* ---- Shapes ---------------------------------------------------------------------------------------------- */
typedef struct lwipy_core lwipy_core;
struct lwipy_wire;
typedef uint64_t lwipy_handle;

typedef struct {
  uint8_t family;          /* 0 none, 4, 6 */
  uint8_t bytes[16];       /* network order */
  uint16_t port;           /* host order */
  uint32_t scope;          /* number of the interface, 0 for none */
} lwipy_address;

typedef struct { lwipy_handle handle; uint32_t events; } lwipy_event;

typedef struct { lwipy_handle handle; lwipy_address local, remote; } lwipy_accepted;

typedef struct { uint32_t tag; uint32_t events; } lwipy_readiness;     /* poller.h */

typedef struct {
  int nic;
  uint32_t news;               /* LWIPY_LINK_... bits */
  int reason;                  /* errno */
  uint32_t announced;          /* with EPROTO: the length of frame that the stream announced; with EBADMSG: why a ring
                                  is not to be trusted, see vhost_ring.h */
} lwipy_link_event;

/* What a master says of a guest's virtio-net device (vhost-user). */
enum { LWIPY_VHOST_REGIONS = 8 };

typedef struct {
  int fd;
  uint64_t guest, user, size;  /* addresses in the guest and in the emulator, bytes */
  uint64_t offset;             /* in the file */
} lwipy_vhost_region;

typedef struct {
  int kick, call;              /* eventfds, not blocking; `call` may be -1 */
  uint32_t size;               /* descriptors */
  uint32_t base;               /* index of the first buffer to take */
  uint64_t descriptors, available, used;   /* addresses in the emulator */
} lwipy_vhost_ring;

typedef struct {
  uint32_t count;
  lwipy_vhost_region regions[LWIPY_VHOST_REGIONS];
  lwipy_vhost_ring rings[2];   /* 0: to the guest, 1: from it */
  int header;                  /* bytes before each frame, 10 or 12 */
  int mergeable, event_index;  /* VIRTIO_NET_F_MRG_RXBUF, VIRTIO_RING_F_EVENT_IDX */
  int offload;                 /* LWIPY_OFFLOAD_... bits: what the guest takes */
} lwipy_vhost_device;

typedef struct {
  int open;                    /* there is a descriptor */
  int hung_up;                 /* and its other end has gone, though data may wait before the end */
  uint64_t queued;             /* bytes for the wire that the descriptor did not take yet */
  char peer[128];              /* of datagrams: the path or host:port that they go to, "" when unknown */
} lwipy_link_status;

typedef struct {
  uint8_t state;           /* RFC 9293 3.3.2, lwIP's numbering: 0 CLOSED 1 LISTEN 2 SYN_SENT 3 SYN_RCVD 4 ESTABLISHED
                              5 FIN_WAIT_1 6 FIN_WAIT_2 7 CLOSE_WAIT 8 CLOSING 9 LAST_ACK 10 TIME_WAIT */
  uint32_t mss, cwnd, ssthresh, snd_wnd, rcv_wnd;
  uint32_t unsent, unacked;    /* bytes accepted from the application: not yet sent, not yet acknowledged */
  uint32_t rto;                /* microseconds */
  uint32_t rtt;                /* microseconds, smoothed; 0 before the first sample */
  uint32_t retransmits;        /* of the segment at the head, since it was last acknowledged */
  uint32_t queued;             /* bytes received and not yet read; for a listener, connections to accept */
  /* Of the sending side, zero before the first byte was sent. */
  char congestion[16];         /* the controller's name */
  uint8_t phase;               /* 0 open, 1 recovering, 2 timed out */
  uint8_t reordering;          /* seen on this way */
  uint32_t rttvar, min_rtt;    /* microseconds */
  uint32_t in_flight;          /* bytes in the network, without what was SACKed or lost */
  uint64_t pacing_rate;        /* bytes a second, 0 for no pacing */
  uint32_t resent, lost;       /* segments, so far */
  uint32_t timeouts, probes, needless, undone;
  uint32_t sndbuf, rcvbuf;     /* buffers as they are now */
} lwipy_tcp_info;

typedef struct {             /* how a datagram came */
  lwipy_address source, destination;
  int nic, ttl, tos;
  size_t length;             /* of its payload, however much of it was taken */
} lwipy_datagram;

typedef struct {
  uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
  uint64_t rx_malformed;       /* refused by the guard or too short or too long for the interface */
  uint64_t rx_other;           /* to another station's MAC address */
  uint64_t rx_nomem;           /* no memory for the frame */
  uint64_t rx_down;            /* the interface or its link was down */
  uint64_t tx_full;            /* the queue of frames to the wire was full */
  uint64_t tx_down;
  uint64_t tx_error;           /* the device refused the frame */
  uint64_t rx_offload;         /* its virtio-net header did not fit the frame */
} lwipy_netif_counters;

typedef struct {             /* frames; see steer.c */
  uint64_t flows, fragments, to_all, to_first;
  uint64_t full;               /* a member's queue was full, or the member is gone */
  uint64_t tcp_fragments;      /* dropped */
  uint64_t suppressed;         /* for the wire: another member has said it */
  uint64_t pinned;             /* flows that go where their first datagram came from */
} lwipy_steer_counters;

typedef struct {
  uint64_t tcp_rx, tcp_tx, tcp_drop, tcp_chkerr, tcp_lenerr, tcp_memerr, tcp_proterr;
  uint64_t udp_rx, udp_tx, udp_drop, udp_chkerr, udp_lenerr, udp_noport;
  uint64_t ip4_rx, ip4_tx, ip4_drop, ip4_chkerr, ip4_lenerr, ip4_proterr;
  uint64_t ip6_rx, ip6_tx, ip6_drop, ip6_lenerr, ip6_proterr;
  uint64_t icmp_rx, icmp_tx, icmp_drop, arp_rx, arp_drop, nd6_rx, nd6_drop, frag_rx, frag_drop;
  /* Dropped before lwIP saw them (guard.c, tcp_hooks.c), by what was wrong. */
  uint64_t guard_tcp_options, guard_tcp_flags, guard_tcp_window, guard_nd_options, guard_nd_fragment,
           guard_nd_unasked, guard_icmp, guard_ip_header, guard_fragment, guard_source;
  uint64_t syn_backlog;        /* SYNs dropped because an accept queue was full */
  uint64_t syn_cookies_sent, syn_cookies_good;   /* answers to SYNs that were not remembered; those confirmed */
  uint64_t time_wait_shed;     /* connections in TIME_WAIT that ended before their time, for others */
  uint64_t memory_refused;     /* connections that were not begun because memory is low */
  uint64_t memory_waits;       /* sends that have to wait until there is more */
  uint64_t udp_queue_full;     /* datagrams dropped because a socket's queue was full */
  uint64_t memory_used, memory_limit;
  uint64_t endpoints;
} lwipy_statistics;

/* One direction of a bad network, see impair.c. */
typedef struct {
  double loss, duplicate, corrupt, reorder;    /* probabilities, 0 to 1 */
  int64_t delay, jitter;
  uint64_t rate;               /* bits a second, 0 for no limit; what waits for it: */
  uint32_t queue;              /* frames */
  uint64_t queue_bytes;
} lwipy_impairment;

typedef struct {
  uint64_t frames, lost, corrupted, duplicated, reordered, delayed;
  uint64_t queue_full;         /* dropped: the line's queue, or memory, was full */
  uint64_t passed;             /* went on, copies included */
  uint64_t kept;               /* on their way now */
} lwipy_impair_counters;

/* A burst limit towards the wire, see pace.c. */
typedef struct {
  uint32_t burst;              /* frames in any `interval` */
  uint64_t burst_bytes;        /* and bytes; 0 for any number */
  int64_t interval;
  uint32_t queue;              /* frames that may wait */
  uint16_t in_flight;          /* segments of one TCP connection that may be unacknowledged; 0 for any number */
} lwipy_pacing;

typedef struct {
  uint64_t passed;             /* went on, at once or later */
  uint64_t waited;             /* had to wait */
  uint64_t queue_full;         /* dropped; the interface's tx_full counts them too */
  uint64_t waiting;            /* now */
} lwipy_pace_counters;

typedef struct {
  uint64_t frames, bytes;      /* frames written or about to be; bytes that the file has */
  uint64_t pending;            /* bytes to be written yet */
  uint64_t dropped;            /* not recorded: the reader was too slow, or writing has failed */
  int error;                   /* the errno that ended it, or 0 */
} lwipy_capture_counters;

/* Memory that is sent from without a copy, and who refers to it: see held.c. All of it is atomic. */
typedef struct lwipy_hold {
  struct lwipy_hold *next;     /* on the list that it comes home to */
  struct lwipy_hold **home;    /* the first of that list */
  uint32_t references;         /* without any it goes there */
} lwipy_hold;

typedef struct {
  uint64_t seed;               /* 0: random numbers from the system */
  uint64_t memory;             /* bytes the arena may grow to */
  int manual_clock;            /* 1: time stands still between calls of lwipy_set_time */
  int64_t start;               /* the manual clock's first time */
  uint32_t without;            /* LWIPY_WITHOUT_... */
} lwipy_options;

/* ---- A core and its life (no lock) ----------------------------------------------------------------------- */
lwipy_core *lwipy_open(const lwipy_options *options, char *error, size_t error_size);
void lwipy_close(lwipy_core *core);
const char *lwipy_failure(lwipy_core *core);
uint32_t *lwipy_attention(lwipy_core *core);
const char *lwipy_version(void);

int lwipy_wire(lwipy_core *core_a, int nic_a, lwipy_core *core_b, int nic_b, int offload);   /* 1: wire_offload.c */
/* Drives the core and sleeps, at most so long (-1: without end); the attention word when Python is needed, 0 when the
   time is over, or a code. The core's lock is not held in the sleep. */
int lwipy_run(lwipy_core *core, int64_t microseconds);
/* The same for a driver's thread beside which other threads may wait and drive, see leader.c. */
int lwipy_serve(lwipy_core *core, int64_t microseconds);
void lwipy_admit(lwipy_core *core, int on);        /* there is a driver's thread, and threads may wait; or no longer */
/* Waits for an endpoint, after an operation that had to wait; drives the core meanwhile if nobody else does. 1: it is
   worth another try, 2: a signal came, 0: the time is over, ENOTSUP: threads do not wait here, or another code. */
int lwipy_wait(lwipy_core *core, lwipy_handle handle, int wanted, int64_t microseconds);
/* lwipy_tcp_recv and lwipy_tcp_send that wait, the latter until everything is sent: see blocking.c. */
int64_t lwipy_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int flags, int64_t microseconds);
int64_t lwipy_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length, int64_t microseconds,
                   lwipy_hold *hold);   /* NULL: the bytes are copied; what the core refers to has references of its own */
int64_t lwipy_poll(lwipy_core *core);              /* runs what is due and ready; microseconds to the next deadline, or -1 */
void lwipy_wake(lwipy_core *core);                 /* ends a sleep; any thread */
/* For an event loop that sleeps by itself: readable when lwipy_poll() has something to do. */
int lwipy_wake_fd(lwipy_core *core);
void lwipy_wake_clear(lwipy_core *core);           /* forgets lwipy_wake(), before lwipy_poll() */

/* ---- Time and events ------------------------------------------------------------------------------------- */
int lwipy_set_time(lwipy_core *core, int64_t now);
int64_t lwipy_turn(lwipy_core *core, const lwipy_readiness *ready, int count);   /* a part of lwipy_poll, see loop.c */
int64_t lwipy_deadline(lwipy_core *core);          /* as lwipy_poll, without running anything */
int lwipy_events(lwipy_core *core, lwipy_event *out, int room);
int lwipy_get_statistics(lwipy_core *core, lwipy_statistics *out);
int lwipy_fail(lwipy_core *core, const char *text);   /* as a failed assertion of lwIP's does; for tests */

/* ---- Interfaces (number 1.. as lwIP's netif index) -------------------------------------------------------- */
int lwipy_netif_add(lwipy_core *core, int layer, const uint8_t *mac, int mtu);
int lwipy_netif_remove(lwipy_core *core, int nic);
int lwipy_netif_set_state(lwipy_core *core, int nic, int flags);
int lwipy_netif_flags(lwipy_core *core, int nic);
int lwipy_netif_set_mtu(lwipy_core *core, int nic, int mtu);
int lwipy_netif_set_mac(lwipy_core *core, int nic, const uint8_t *mac);
int lwipy_netif_set_ipv4(lwipy_core *core, int nic, const lwipy_address *address, int prefix);
int lwipy_netif_set_gateway(lwipy_core *core, int nic, const lwipy_address *gateway);
int lwipy_netif_add_ipv6(lwipy_core *core, int nic, const lwipy_address *address, int prefix);
int lwipy_netif_remove_ipv6(lwipy_core *core, int nic, const lwipy_address *address);
int lwipy_netif_get_ipv4(lwipy_core *core, int nic, lwipy_address *address, lwipy_address *netmask, lwipy_address *gateway);
int lwipy_netif_get_ipv6(lwipy_core *core, int nic, int slot, lwipy_address *address, int *prefix, int *state);
int lwipy_netif_autoconfigure(lwipy_core *core, int nic, int on);
int lwipy_netif_set_checksums(lwipy_core *core, int nic, int on);
int lwipy_netif_set_default(lwipy_core *core, int nic);
int lwipy_netif_add_neighbour(lwipy_core *core, int nic, const lwipy_address *address, const uint8_t *mac);
int lwipy_netif_remove_neighbour(lwipy_core *core, int nic, const lwipy_address *address);
int lwipy_netif_get_counters(lwipy_core *core, int nic, lwipy_netif_counters *out);
int lwipy_netif_dhcp_start(lwipy_core *core, int nic, const char *hostname);
int lwipy_netif_dhcp_stop(lwipy_core *core, int nic);
int lwipy_netif_dhcp_bound(lwipy_core *core, int nic);

/* Frames. A packed batch is a run of [32-bit length, host order][frame], without padding. */
int lwipy_netif_receive(lwipy_core *core, int nic, const void *frame, size_t length);
int64_t lwipy_netif_receive_packed(lwipy_core *core, int nic, const void *batch, size_t length);
int64_t lwipy_netif_pending(lwipy_core *core, int nic);   /* bytes that lwipy_netif_take would give */
int64_t lwipy_netif_take(lwipy_core *core, int nic, void *batch, size_t room);
/* The same in one buffer with offsets (batch.c). LWIPY_EOFFSET - i: the i-th offset is wrong; of take: the first frame
   has i bytes, and there is no room for it. */
enum { LWIPY_EOFFSET = -1000000 };
int64_t lwipy_netif_receive_batch(lwipy_core *core, int nic, const void *buffer, size_t length,
                                  const uint32_t *offsets, size_t frames);
int64_t lwipy_netif_take_batch(lwipy_core *core, int nic, void *buffer, size_t room, uint32_t *offsets, size_t frames);
int lwipy_netif_deliver(lwipy_core *core, int nic, int on);   /* 1: frames for the wire set LWIPY_HAS_FRAMES */

/* A link takes over a descriptor, which must be non-blocking, and closes it in the end; a code: it is still the caller's.
   `peer` is the path that unix datagrams go to; without it they go where the socket is connected to, or to whoever sent
   the last one. */
int lwipy_link_open(lwipy_core *core, int nic, int kind, int fd, const char *peer, size_t peer_length);
/* What the device of an LWIPY_LINK_VNET has agreed to do: LWIPY_OFFLOAD_... bits. */
int lwipy_link_set_offload(lwipy_core *core, int nic, int features);
/* A guest's rings take the link's place (link_vhost.c). The core keeps `kick` and `call` of both, and closes them in
   the end; a code: they are still the caller's. The file of a region is not needed afterwards. */
int lwipy_vhost_open(lwipy_core *core, int nic, const lwipy_vhost_device *device);
int lwipy_vhost_bases(lwipy_core *core, int nic, uint32_t *out);   /* the index at which each ring is to go on */
int lwipy_vhost_set_call(lwipy_core *core, int nic, int ring, int fd);   /* -1 for none; takes it over, as above */
int lwipy_link_close(lwipy_core *core, int nic);   /* the interface has a link, but no wire now: its link is down */
int lwipy_link_get_status(lwipy_core *core, int nic, lwipy_link_status *out);
int lwipy_link_news(lwipy_core *core, lwipy_link_event *out, int room);

/* Descriptors of Python's: their numbers come back from lwipy_watched() when they are ready. */
int lwipy_watch(lwipy_core *core, int fd, int number, int write);
int lwipy_unwatch(lwipy_core *core, int fd);
int lwipy_watched(lwipy_core *core, int *out, int room);

/* One interface for several stacks (steer.c). `add` makes the inner interface of the next member and answers with its
   number. `pick` (no lock) is the member that has the flow between two ends, or their fragments. */
enum { LWIPY_STEER_MOST = 64 };
int lwipy_steer_open(lwipy_core *core, int nic, uint64_t key);
int lwipy_steer_add(lwipy_core *core, int nic);
int lwipy_steer_get_counters(lwipy_core *core, int nic, lwipy_steer_counters *out);
int lwipy_steer_pick(uint64_t key, int count, const lwipy_address *a, const lwipy_address *b, int fragmented);
int lwipy_source(lwipy_core *core, const lwipy_address *to, lwipy_address *out);   /* which of ours a packet there has */

int lwipy_unwire(lwipy_core *core, int nic);
int lwipy_wire_join(lwipy_core *core, int nic, struct lwipy_wire *wire, int side, int offload);

/* Stages between lwIP and the link (stage.h). `add` answers with the stage's number; removing one passes on what it
   keeps. A capture owns `fd` from then on, also when it cannot be added. */
int lwipy_stage_remove(lwipy_core *core, int nic, int stage);
int lwipy_impair_add(lwipy_core *core, int nic);
int lwipy_impair_seed(lwipy_core *core, int nic, int stage, uint64_t seed);
int lwipy_impair_set(lwipy_core *core, int nic, int stage, int direction, const lwipy_impairment *set);
int lwipy_impair_get_counters(lwipy_core *core, int nic, int stage, int direction, lwipy_impair_counters *out);
int lwipy_pace_add(lwipy_core *core, int nic, const lwipy_pacing *set);
int lwipy_pace_set(lwipy_core *core, int nic, int stage, const lwipy_pacing *set);
int lwipy_pace_get_counters(lwipy_core *core, int nic, int stage, lwipy_pace_counters *out);
int lwipy_capture_add(lwipy_core *core, int nic, int fd, int at_wire, uint32_t snaplen, int64_t start_ns);
int lwipy_capture_flush(lwipy_core *core, int nic, int stage);
int lwipy_capture_get_counters(lwipy_core *core, int nic, int stage, lwipy_capture_counters *out);
int lwipy_clear_trouble(lwipy_core *core);

/* ---- Endpoints ------------------------------------------------------------------------------------------- */
int lwipy_socket(lwipy_core *core, int kind, int family, int protocol, lwipy_handle *out);
int lwipy_bind(lwipy_core *core, lwipy_handle handle, const lwipy_address *address);
int lwipy_connect(lwipy_core *core, lwipy_handle handle, const lwipy_address *address);
int lwipy_release(lwipy_core *core, lwipy_handle handle);     /* graceful for TCP; the handle ends here */
int lwipy_abort(lwipy_core *core, lwipy_handle handle);       /* RST for TCP; the handle ends here */
int lwipy_error(lwipy_core *core, lwipy_handle handle);       /* the error that ended it; reading clears it */
int lwipy_ready(lwipy_core *core, lwipy_handle handle);       /* LWIPY_READABLE and LWIPY_WRITABLE as of now, arming what is not */
int lwipy_missed(lwipy_core *core, lwipy_handle handle, int wanted);   /* a part of lwipy_wait, see leader.c */
int lwipy_rouse(lwipy_core *core, lwipy_handle handle);       /* whoever waits for it tries again */
int lwipy_quiet(lwipy_core *core, lwipy_handle handle, int on);   /* its events are not reported, or are again */
int lwipy_local(lwipy_core *core, lwipy_handle handle, lwipy_address *out);
int lwipy_remote(lwipy_core *core, lwipy_handle handle, lwipy_address *out);
int lwipy_both_addresses(lwipy_core *core, lwipy_handle handle, lwipy_address *out);      /* the local one, the remote one */
int lwipy_set_option(lwipy_core *core, lwipy_handle handle, int option, int value);
int lwipy_get_option(lwipy_core *core, lwipy_handle handle, int option);

int lwipy_tcp_listen(lwipy_core *core, lwipy_handle handle, int backlog);
int lwipy_tcp_connected(lwipy_core *core, lwipy_handle handle);   /* 0: it is; EWOULDBLOCK: not yet; or why it failed */
int lwipy_tcp_accept(lwipy_core *core, lwipy_handle handle, lwipy_handle *out);
int lwipy_tcp_open(lwipy_core *core, const lwipy_address *to, lwipy_accepted *out);   /* a connection begins, no delay */
int lwipy_tcp_accept_many(lwipy_core *core, lwipy_handle handle, lwipy_accepted *out, int room);   /* how many, 0 for none */
int64_t lwipy_tcp_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length);
/* The same without a copy. If the result is above zero, one of the hold's references is the core's. */
int64_t lwipy_tcp_send_held(lwipy_core *core, lwipy_handle handle, const void *data, size_t length, lwipy_hold *hold);
int64_t lwipy_tcp_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int flags);
int lwipy_tcp_shutdown(lwipy_core *core, lwipy_handle handle, int read, int write);
int lwipy_tcp_linger(lwipy_core *core, lwipy_handle handle);  /* FIN now, keep the handle, LWIPY_ACKED when acknowledged */
/* Congestion control by name; ENOENT: there is none so called. `name` of get: 16 bytes. */
int lwipy_tcp_set_congestion(lwipy_core *core, lwipy_handle handle, const char *name, size_t length);
int lwipy_tcp_get_congestion(lwipy_core *core, lwipy_handle handle, char *name);
int64_t lwipy_tcp_unfinished(lwipy_core *core);    /* connections without a handle whose last bytes are not acknowledged */
int lwipy_tcp_get_info(lwipy_core *core, lwipy_handle handle, lwipy_tcp_info *out);

int64_t lwipy_udp_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length,
                       const lwipy_address *to, const lwipy_address *from, int nic, int ttl, int tos);
int64_t lwipy_udp_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int peek,
                       lwipy_datagram *out);
int lwipy_join(lwipy_core *core, lwipy_handle handle, const lwipy_address *group, int nic);
int lwipy_leave(lwipy_core *core, lwipy_handle handle, const lwipy_address *group, int nic);

/* ---- Names ----------------------------------------------------------------------------------------------- */
int lwipy_dns_set_server(lwipy_core *core, int index, const lwipy_address *address);
int lwipy_dns_get_server(lwipy_core *core, int index, lwipy_address *out);
int lwipy_dns_query(lwipy_core *core, const char *name, int family, lwipy_handle *out);
int lwipy_dns_answer(lwipy_core *core, lwipy_handle handle, lwipy_address *out);

#endif /* LWIPY_H */
