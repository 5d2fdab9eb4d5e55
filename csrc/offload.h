/*
 * What a device with virtio-net headers does for us, and what it says about its frames: see offload.c and bundle.c.
 */
#ifndef LWIPY_OFFLOAD_H
#define LWIPY_OFFLOAD_H

#include <stddef.h>
#include <stdint.h>

struct pbuf;

/* struct virtio_net_hdr (VIRTIO 1.2, 5.1.6), in the machine's byte order as Linux has it by default. */
struct lwipy_vnet_header {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;                /* a hint, not believed */
  uint16_t gso_size;               /* payload of each segment that the frame is to be cut into */
  uint16_t csum_start, csum_offset;
};

#define LWIPY_VNET_HEADER 10

enum { LWIPY_VNET_NEEDS_CSUM = 1, LWIPY_VNET_DATA_VALID = 2 };
enum { LWIPY_VNET_GSO_NONE = 0, LWIPY_VNET_GSO_TCPV4 = 1, LWIPY_VNET_GSO_TCPV6 = 4 };

/* Where things are in a frame with an unfragmented TCP or UDP packet; offsets from the frame's first byte. */
struct lwipy_layout {
  uint8_t version;                 /* of IP */
  uint8_t protocol;
  uint16_t network, transport;
  uint16_t payload;                /* of UDP too */
  uint32_t end;                    /* of the packet: padding may follow */
};

/* 0: some other frame, or its headers do not lie within the `room` bytes that are there, or end behind `length`. */
int lwipy_layout_of(const uint8_t *frame, size_t room, size_t length, int layer, struct lwipy_layout *out);

/* What a frame's header says of it; bits, or the first alone. */
enum { LWIPY_FRAME_LIES = -1,
       LWIPY_FRAME_CHECKED = 1,    /* the sum of TCP or UDP is right, or is not there yet */
       LWIPY_FRAME_LONG = 2 };     /* one TCP segment, which may be longer than the MTU */
/* Writes the sum into a frame that lacks one and is neither TCP nor UDP. */
int lwipy_offload_judge(const struct lwipy_vnet_header *header, uint8_t *frame, size_t length, int layer);
void lwipy_offload_complete(const struct lwipy_vnet_header *header, uint8_t *frame, size_t length);

/* Cuts a long frame that was judged to be one into segments of its header's size, as far as the MTU allows; each is
   given on as a real frame. The frame is overwritten. */
void lwipy_offload_cut(const struct lwipy_vnet_header *header, uint8_t *frame, size_t length, int layer, size_t mtu,
                       void (*give)(void *to, const uint8_t *frame, size_t length), void *to);

/* Has the device sum up a TCP packet that consists of these headers and `payload` bytes: its length, IPv4's checksum
   and the sum of TCP's pseudo header are written into it. A length beyond 16 bits is written as 0. */
void lwipy_offload_leave_sum(struct lwipy_vnet_header *header, uint8_t *headers, const struct lwipy_layout *at,
                             size_t payload);

/* ---- bundle.c ----------------------------------------------------------------------------------------------------- */

#define LWIPY_BUNDLE_SEGMENTS 136
#define LWIPY_BUNDLE_PIECES   320  /* pbufs of all the segments */
#define LWIPY_BUNDLE_LONGEST  ((u32_t)192 << 10)   /* bytes of an IP packet, where the device takes such */
#define LWIPY_LONGEST_HEADERS (14 + 60 + 60)

struct lwipy_bundle {
  struct lwipy_layout at;          /* of the first segment */
  uint32_t count;                  /* 0: empty, and the rest means nothing */
  uint32_t pieces;
  uint32_t size, bytes;            /* payload of the first segment, and of all */
  uint32_t next;                   /* the sequence number that goes on */
  uint8_t ended;                   /* nothing can follow */
  uint8_t flags;                   /* of TCP: PSH and FIN of any segment */
  uint8_t bare;                    /* set by whose it is: segments may follow without headers of their own */
  uint8_t is_long;                 /* and: IPv4's packets may have LWIPY_BUNDLE_LONGEST bytes, not just 65535 */
  uint32_t followed;               /* such segments */
  uint16_t id;                     /* IPv4's, of the next segment: the device counts on from a frame's */
  struct pbuf *segments[LWIPY_BUNDLE_SEGMENTS];
};

/* 1: the segment is the bundle's now (a reference more); 0: it does not continue it, or is none to be bundled. */
int lwipy_bundle_add(struct lwipy_bundle *bundle, const struct pbuf *p, const struct lwipy_layout *at);
/* The headers of the one frame that the bundle makes; their length. */
size_t lwipy_bundle_headers(struct lwipy_bundle *bundle, struct lwipy_vnet_header *header, uint8_t *headers);
/* Where a segment's payload begins, in bytes from its pbuf's start. */
size_t lwipy_bundle_skip(const struct lwipy_bundle *bundle, uint32_t index);
/* 1: the segment with this TCP header, at its pbuf's start, goes right behind the one that lwIP has sent last. The sent
   one was bundled, this one is now, too, and has all it needs. 0: lwIP is to send it. */
int lwipy_bundle_follow(const struct pbuf *sent, struct pbuf *p);
void lwipy_bundle_clear(struct lwipy_bundle *bundle);

#endif /* LWIPY_OFFLOAD_H */
