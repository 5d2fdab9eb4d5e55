/*
 * Links that have a descriptor: see link_fd.c. One file for each kind.
 */
#ifndef LWIPY_LINK_H
#define LWIPY_LINK_H

#include "netif.h"

#include "lwip/prot/ethernet.h"

struct lwipy_link;

int lwipy_link_transmit(struct lwipy_link *link, const struct pbuf *p);   /* 0, or one of these: */
enum { LWIPY_LINK_FULL = -1, LWIPY_LINK_ERROR = -2 };
void lwipy_link_free(struct lwipy_nic *nic);
void lwipy_link_restage(struct lwipy_nic *nic);   /* the interface's stages have changed */
void lwipy_links_service(const lwipy_readiness *ready, int count);   /* at the start of a turn */
void lwipy_watch_is_ready(int number);   /* watch.c */
int lwipy_links_have_more(void);     /* one is to be served without being ready */
void lwipy_links_settle(void);       /* at the end of every call: output goes out, what ended is closed */

#ifndef _WIN32
#include <sys/socket.h>
#include <sys/uio.h>

struct lwipy_link_kind {
  /* One batch from the descriptor into lwIP. 0, or an errno (or LWIPY_LINK_END) with which the link ends. */
  int (*receive)(struct lwipy_link *link);
  /* The queue to the descriptor, as far as it takes it; sets `blocked` if something is left. The same results. */
  int (*send)(struct lwipy_link *link);
  /* How a frame of so many bytes is marked in the queue. */
  uint32_t (*prefix)(uint32_t length);
  /* Called when blocked. 0: it will be told by itself when to go on, -1: the descriptor being writable will tell,
     1: nothing will, the next call tries again. */
  int (*wait)(struct lwipy_link *link);
  /* Tries to write a frame at once, with nothing queued before it. 1: done, 0: queue it, or LWIPY_LINK_ERROR. */
  int (*write)(struct lwipy_link *link, const struct pbuf *p);
  /* In place of write() and the queue: everything about a frame. 0, LWIPY_LINK_FULL or LWIPY_LINK_ERROR; send() is
     called at the end of the call. */
  int (*transmit)(struct lwipy_link *link, const struct pbuf *p);
  /* Of kinds that write frame by frame: 1: written, 0: not now, LWIPY_LINK_ERROR: refused, `ended` is set if for good. */
  int (*pieces)(struct lwipy_link *link, const struct iovec *pieces, int count);
  int by_edge;                     /* the descriptor is never read, every write to it counts */
};

#define LWIPY_LINK_END    -1       /* an orderly end, in place of an errno */

struct lwipy_link {
  struct lwipy_nic *nic;
  int number;                      /* of the interface */
  const struct lwipy_link_kind *kind;
  int fd;                          /* -1: no wire now */
  int ended;                       /* 0, or an errno or LWIPY_LINK_END with which settle() is to close the link */
  u8_t blocked;                    /* the descriptor did not take everything */
  u8_t armed;                      /* and the poller tells when it does */
  u8_t waits_out;                  /* by the descriptor itself */
  u8_t dirty;                      /* on settle()'s list */
  struct lwipy_link *next_dirty;
  struct lwipy_fifo out;           /* frames for the wire; of a stream: the very bytes */
  u8_t *in;                        /* LWIPY_LINK_BATCH bytes */
  size_t in_used;                  /* of a stream: bytes of the frame that is not complete */
  u32_t news;                      /* LWIPY_LINK_LOST ...; not yet told */
  int reason;
  u32_t announced;
  /* Of datagrams: */
  struct sockaddr_storage peer;
  socklen_t peer_length;           /* 0: unknown, or the socket is connected */
  u8_t learns;                     /* the peer is whoever sent the last datagram */
  u8_t heard;
  int waiter;                      /* see link_dgram.c */
  u8_t moved;                      /* something was sent since the last wait */
  u8_t more;                       /* the next turn is to serve it, whatever the poller says: lwipy_link_again() */
  u8_t lone;                       /* batches of one frame in a row: lwipy_link_is_lone() */
  struct lwipy_vnet *vnet;         /* of devices with virtio-net headers, see link_vnet.c */
  struct lwipy_vhost *vhost;       /* of rings, see link_vhost.c */
};

#define LWIPY_LINK_BATCH ((size_t)256 << 10)
#define LWIPY_LINK_FRAMES 64       /* at most in a batch of single frames */

extern const struct lwipy_link_kind lwipy_link_stream, lwipy_link_dgram, lwipy_link_tun, lwipy_link_vnet, lwipy_link_vhost;

void lwipy_link_tell(struct lwipy_link *link, u32_t news, int reason);
size_t lwipy_link_frame_room(const struct lwipy_link *link);   /* the longest frame that makes sense, and one byte */
int lwipy_dgram_open(struct lwipy_link *link, int fd, const char *peer, size_t peer_length);
void lwipy_dgram_close(struct lwipy_link *link);
/* link_fd.c: core_link_open() for any kind, told what that one wants to know; another turn, at once. */
int lwipy_link_start(int number, int kind, int fd, const void *about, size_t length);
void lwipy_link_again(struct lwipy_link *link);
/* Of devices: whether a batch that has so many frames and bytes is taken to be over; a batch's frames when it is: 0. */
int lwipy_link_is_lone(struct lwipy_link *link, int frames, size_t bytes);
int lwipy_link_had(struct lwipy_link *link, int frames);
/* link_tun.c */
int lwipy_tun_write(struct lwipy_link *link, const struct iovec *pieces, int count);
/* Adds the pieces of a chain, but for its first `skip` bytes, which are in the first pbuf; how many there are then, or -1
   for more than `room`. What lies together, as what is sent without a copy does, is one. */
int lwipy_tun_pieces(const struct pbuf *p, size_t skip, struct iovec *pieces, int count, int room);
int lwipy_tun_drain(struct lwipy_link *link);   /* the send() of kinds that have pieces() */
/* link_vnet.c: frames with virtio-net headers, whatever they lie in. */
#define LWIPY_VNET_LONGEST (UINT16_MAX + SIZEOF_ETH_HDR + SIZEOF_VLAN_HDR)
struct lwipy_vnet_header;
int lwipy_vnet_open(struct lwipy_link *link);
void lwipy_vnet_close(struct lwipy_link *link);
void lwipy_vnet_agree(struct lwipy_link *link, int features);   /* what the device does: LWIPY_OFFLOAD_... */
int lwipy_vnet_transmit(struct lwipy_link *link, const struct pbuf *p);
int lwipy_vnet_send(struct lwipy_link *link);
u8_t *lwipy_vnet_room(struct lwipy_link *link);   /* for a frame of LWIPY_VNET_LONGEST bytes; NULL: no memory */
void lwipy_vnet_take(struct lwipy_link *link, const struct lwipy_vnet_header *header, size_t length);   /* it is there */
/* link_vhost.c; a part of these is elsewhere: no Linux */
int lwipy_vhost_begin(struct lwipy_link *link, const lwipy_vhost_device *device);
void lwipy_vhost_end(struct lwipy_link *link);
void lwipy_dgram_describe(const struct lwipy_link *link, char *out, size_t room);
#endif

#endif /* LWIPY_LINK_H */
