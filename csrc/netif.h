/*
 * An interface as the port sees it: lwIP's netif and what the port keeps beside it.
 */
#ifndef LWIPY_NETIF_H
#define LWIPY_NETIF_H

#include "core.h"
#include "fifo.h"

#include <string.h>

struct lwipy_link;
struct lwipy_stage;
struct lwipy_steer;
struct lwipy_wire;

struct lwipy_nic {
  struct netif netif;
  u8_t layer;                          /* LWIPY_L2 or LWIPY_L3 */
  u8_t unchecked;                      /* the user wants no sums made or checked */
  u8_t sums_by_device;                 /* TCP's are left to it (link_vnet.c) */
  u8_t long_frames;                    /* and it is given TCP's segments in frames beyond 64 KB */
  u8_t deliver;                        /* somebody waits to be told of frames for the wire */
  u8_t prefix6[LWIP_IPV6_NUM_ADDRESSES];   /* of the addresses the user gave; 0 for those from a router */
  ip6_addr_t gateway6;                 /* any: none */
  struct lwipy_fifo out;               /* frames that Python is to take */
  struct lwipy_wire *wire;             /* or the wire they go to */
  int wire_side;
  u8_t owes;                           /* wire.c: the other side is to be told of frames; then */
  struct lwipy_nic *owing;             /* the next such one */
  struct lwipy_link *link;             /* or the descriptor they go to */
  u16_t in_flight;                     /* segments of a connection that may be unacknowledged; 0: any number (pace.c) */
  struct lwipy_stage *stages[2];       /* the first that a frame of each direction meets, or NULL */
  struct lwipy_steer *steer;           /* steer.c: its frames go to several stacks */
  struct lwipy_nic *front;             /* steer.c: of an inner interface, the one it stands behind */
  u8_t steer_number;                   /* and which member it leads to */
  lwipy_netif_counters count;
};

struct lwipy_nic *lwipy_nic(int number);          /* NULL: no such interface */
struct lwipy_nic *lwipy_nic_of(const struct netif *netif);   /* NULL for lwIP's loopback */
void lwipy_nic_forget_hostname(struct lwipy_nic *nic);
void lwipy_nic_set_sums(struct lwipy_nic *nic);   /* has lwIP make and check the sums that the nic's flags want */

/* For every frame: compilers call memcmp() for six bytes, and not for four and two. */
static inline int
lwipy_is_to(const u8_t *frame, const struct netif *netif)
{
  return memcmp(frame, netif->hwaddr, 4) == 0 && memcmp(frame + 4, netif->hwaddr + 4, 2) == 0;
}

/* frames.c */
void lwipy_nic_connect(struct lwipy_nic *nic);    /* has lwIP send to the wire through it */
void lwipy_nic_input(struct lwipy_nic *nic, const u8_t *frame, size_t length);    /* from the wire */
void lwipy_nic_input_pbuf(struct lwipy_nic *nic, struct pbuf *p);   /* the same; in one piece, and taken over */
void lwipy_nic_accept(struct lwipy_nic *nic, const u8_t *frame, size_t length);   /* behind the stages: to lwIP */
void lwipy_nic_take(struct lwipy_nic *nic, const u8_t *frame, size_t length);     /* the same; it was steered already */
void lwipy_nic_transmit(struct lwipy_nic *nic, const struct pbuf *p);             /* before the stages: from lwIP */
void lwipy_nics_show_frames(void);                /* attention, after frames were taken */
void lwipy_nic_output(struct lwipy_nic *nic, const struct pbuf *p);               /* behind the stages: to the wire */
/* lwipy_nic_accept in parts: whether a frame of at most `longest` bytes gets in, and how much of it (0: it is counted);
   an IP packet for lwIP, which takes it over. */
size_t lwipy_nic_admit(struct lwipy_nic *nic, const u8_t *frame, size_t length, size_t longest);
void lwipy_nic_feed_packet(struct lwipy_nic *nic, struct pbuf *p);

/* addresses.c */
int lwipy_mtu_for(int layer, int mtu);            /* what lwIP can use of it */
void lwipy_keep_addresses(struct lwipy_nic *nic); /* those the user gave, whatever a router said of them */

/* pace.c */
struct tcp_pcb;
void lwipy_limit_in_flight(struct tcp_pcb *pcb, const struct netif *netif);

/* wire.c */
int lwipy_wire_transmit(struct lwipy_nic *nic, const struct pbuf *p);
void lwipy_wire_receive(struct lwipy_nic *nic);
void lwipy_wire_cut(struct lwipy_nic *nic);
void lwipy_wires_hold(void);                      /* other sides are told of frames once: */
void lwipy_wires_tell(void);                      /* now; before a call returns */
int lwipy_wire_leads_somewhere(const struct lwipy_nic *nic);
void lwipy_wire_restage(struct lwipy_nic *nic);   /* the interface's stages have changed */
void lwipy_wire_flush(void);                      /* wire_offload.c: what was bundled is sent */

#endif /* LWIPY_NETIF_H */
