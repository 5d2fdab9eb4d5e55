/*
 * The codes, flags and shapes that cross the border between Python and C: see lwipy.h.
 */
#ifndef LWIPY_TYPES_H
#define LWIPY_TYPES_H

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
       LWIPY_HAS_ERRANDS = 512,   /* of a thread that waits */
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
       LWIPY_WITHOUT_LANES = 512,     /* lane.c */
       LWIPY_WITHOUT_LONG_FRAMES = 1024,   /* bundle.c */
       LWIPY_WITHOUT_TEMPO = 2048,    /* tempo.c */
       LWIPY_WITHOUT_ERRANDS = 4096 };   /* errand.c */

enum { LWIPY_PEEK = 1,       /* what is received stays */
       LWIPY_LAST = 2,       /* an event will say what comes after less than there was room for; nobody asks before */
       LWIPY_WHOLE = 4,      /* where more is queued than there is room for, all stays; the result is how much it is */
       LWIPY_QUEUED = 8 };   /* only bytes: of an end or an error an event tells, if none are left; for no errand */

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
enum { LWIPY_OFFLOAD_CSUM = 1, LWIPY_OFFLOAD_TSO4 = 2, LWIPY_OFFLOAD_TSO6 = 4,
       LWIPY_OFFLOAD_LONG = 8 };   /* IPv4 packets to be cut may be longer than 64 KB, their length is written as 0 */
enum { LWIPY_LINK_LOST = 1,       /* the link has ended; `reason` says why, 0 for an orderly end */
       LWIPY_LINK_HEARD = 2,      /* the first datagram of a peer */
       LWIPY_LINK_REFUSED = 4 };  /* datagrams are not taken: nobody is there */

/* ---- Shapes ---------------------------------------------------------------------------------------------- */
typedef struct lwipy_core lwipy_core;
struct lwipy_shared;
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

typedef struct lwipy_errand lwipy_errand;   /* errand.h */

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

#endif /* LWIPY_TYPES_H */
