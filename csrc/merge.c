/*
 * Merging on the way in: consecutive segments of one connection that come in one batch go through lwIP as one.
 *
 * Theory of operation. lwIP's work is per segment, not per byte: with frames of 1500 bytes most of it is saved when
 * forty of them become one segment of 64 KB (kernels call it GRO). A frame that continues what is held of its connection
 * is not given to lwIP: its payload is appended to the chain of pbufs whose first has the headers. Whatever cannot be
 * merged flushes all that is held first, and so does the end of the batch; nothing is held between batches. Which
 * connection a frame belongs to is learned from lwIP itself: the first frame of an unknown one goes straight through,
 * and the hook (tcp_hooks.c) notes the endpoint that lwIP found for it.
 *
 * Invariants:
 * 1. Held is only what lwIP would have taken in order: the connection is ESTABLISHED, the first segment begins at
 *    rcv_nxt, each other where the one before it ends, all lie within the window, nothing waits out of order, and no
 *    trouble has been seen lately (ack.c).
 * 2. Each frame's checksums were verified, where the interface asks for it, before it is held; the merged segment's are
 *    not looked at.
 * 3. Merged are plain data segments only: no fragments, no IPv4 options or IPv6 extension headers, no flags but ACK and
 *    PSH, the same TCP options byte for byte, together no more than LONGEST with headers. The merged segment has the
 *    last one's acknowledgement and window, which never go back, and PSH if one of them had it.
 * 4. A flow's handle may be stale at any time; it is looked up whenever something is to be held.
 */
#include "merge.h"
#include "copy.h"
#include "netif.h"
#include "tcp_endpoint.h"

#include <string.h>

#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/ip6.h"
#include "lwip/prot/tcp.h"

#define LONGEST 65000
#define FLOWS   8

/* Where the parts of a frame are; all of it points into the frame. */
struct view {
  const u8_t *ip;
  const u8_t *addresses;           /* source and destination */
  struct tcp_hdr *tcp;
  u16_t address_length;
  u16_t headers;                   /* bytes before the payload, from the frame's beginning */
  u16_t tcp_headers;
  u16_t payload;
};

struct flow {
  lwipy_handle handle;             /* 0: not known */
  struct lwipy_nic *nic;
  u8_t key[36];                    /* addresses and ports, as they come */
  u8_t address_length;
  /* What is held: */
  struct pbuf *head, *tail;
  u16_t ip_offset, tcp_offset, headers;
  u32_t total, frames;             /* bytes with headers */
  u32_t next;                      /* the sequence number that continues it */
  u32_t limit;                     /* the end of the window */
  u32_t ack;
};

static struct flow flows[FLOWS];
static struct flow *learning;
static unsigned victim, held;
static int in_batch;

/* ---- Looking at a frame ------------------------------------------------------------------------------------------ */

/* 1 for a segment that could be merged, as far as it tells by itself. The guard has checked the lengths of IP. */
static int
look(const struct lwipy_nic *nic, const u8_t *frame, size_t length, struct view *view)
{
  size_t at = nic->layer == LWIPY_L2 ? SIZEOF_ETH_HDR : 0, header;
  const u8_t *ip = frame + at;
  if (at > 0 && (frame[0] & 1)) {
    return 0;
  }
  if (ip[0] == 0x45 && (at == 0 || (frame[12] == 0x08 && frame[13] == 0x00))) {
    if (length < at + IP_HLEN + TCP_HLEN || ip[9] != IP_PROTO_TCP || (ip[6] & 0x3f) != 0 || ip[7] != 0) {
      return 0;
    }
    view->addresses = ip + 12;
    view->address_length = 8;
    at += IP_HLEN;
  } else if (ip[0] >> 4 == 6 && (at == 0 || (frame[12] == 0x86 && frame[13] == 0xdd))) {
    if (length < at + IP6_HLEN + TCP_HLEN || ip[6] != IP_PROTO_TCP) {
      return 0;
    }
    view->addresses = ip + 8;
    view->address_length = 32;
    at += IP6_HLEN;
  } else {
    return 0;
  }
  view->ip = ip;
  view->tcp = (struct tcp_hdr *)(void *)(uintptr_t)(frame + at);
  header = (size_t)(frame[at + 12] >> 4) * 4;
  if (header < TCP_HLEN || at + header >= length || (frame[at + 13] & ~TCP_PSH) != TCP_ACK) {
    return 0;
  }
  view->tcp_headers = (u16_t)header;
  view->headers = (u16_t)(at + header);
  view->payload = (u16_t)(length - at - header);
  return 1;
}

/* A sum over everything that is covered, checksum included, has all bits set. */
static int
is_verified(const struct lwipy_nic *nic, const struct view *view)
{
  u16_t length = (u16_t)(view->tcp_headers + view->payload);
  int v4 = view->address_length == 8;
  if (v4 && (nic->netif.chksum_flags & NETIF_CHECKSUM_CHECK_IP) && lwipy_checksum(view->ip, IP_HLEN) != 0xffff) {
    return 0;
  }
  return !(nic->netif.chksum_flags & NETIF_CHECKSUM_CHECK_TCP) ||
         lwipy_fold((u32_t)lwipy_checksum(view->tcp, length) + lwipy_checksum(view->addresses, view->address_length) +
                    lwip_htons(IP_PROTO_TCP) + lwip_htons(length)) == 0xffff;
}

/* ---- Flows -------------------------------------------------------------------------------------------------------- */

static struct flow *
flow_of(const struct lwipy_nic *nic, const struct view *view)
{
  unsigned i;
  for (i = 0; i < FLOWS; i++) {
    struct flow *flow = &flows[i];
    if (flow->nic == nic && flow->address_length == view->address_length &&
        memcmp(flow->key, view->addresses, view->address_length) == 0 &&
        memcmp(flow->key + view->address_length, view->tcp, 4) == 0) {
      return flow;
    }
  }
  return NULL;
}

static void
flush(struct flow *flow)
{
  struct pbuf *p = flow->head, *q;
  u32_t left = flow->total;
  u8_t *ip;
  if (p == NULL) {
    return;
  }
  flow->head = flow->tail = NULL;
  held--;
  if (flow->frames > 1) {
    ip = (u8_t *)p->payload + flow->ip_offset;
    if (flow->address_length == 8) {
      IPH_LEN_SET((struct ip_hdr *)(void *)ip, lwip_htons((u16_t)(flow->total - flow->ip_offset)));
    } else {
      IP6H_PLEN_SET((struct ip6_hdr *)(void *)ip, (u16_t)(flow->total - flow->ip_offset - IP6_HLEN));
    }
    for (q = p; q != NULL; q = q->next) {
      q->tot_len = (u16_t)left;
      left -= q->len;
    }
  }
  lwipy_frames_in_segment = flow->frames;
  lwipy_nic_feed_verified(flow->nic, p);
  lwipy_frames_in_segment = 1;
}

void
lwipy_merge_flush(void)
{
  unsigned i;
  learning = NULL;
  for (i = 0; held > 0 && i < FLOWS; i++) {
    flush(&flows[i]);
  }
}

/* The next frame to lwIP is of a flow that is not known. */
static void
learn(struct lwipy_nic *nic, const struct view *view)
{
  learning = &flows[victim++ % FLOWS];
  learning->handle = 0;
  learning->nic = nic;
  learning->address_length = (u8_t)view->address_length;
  memcpy(learning->key, view->addresses, view->address_length);
  memcpy(learning->key + view->address_length, view->tcp, 4);
}

void
lwipy_merge_learn(const struct tcp_pcb *pcb)
{
  if (learning != NULL) {
    const struct lwipy_tcp *tcp = pcb->callback_arg;
    if (tcp != NULL && pcb->state == ESTABLISHED) {
      learning->handle = tcp->end.handle;
    }
    learning = NULL;
  }
}

/* ---- Holding ------------------------------------------------------------------------------------------------------ */

/* A part of a frame as a pbuf: the frame's own, or a copy. */
static struct pbuf *
keep(const u8_t *from, u16_t length, struct pbuf *own)
{
  struct pbuf *p = own != NULL ? own : pbuf_alloc(PBUF_RAW, length, PBUF_RAM);
  if (own != NULL) {
    p->payload = (void *)(uintptr_t)from;
    p->len = p->tot_len = length;
  } else if (p != NULL) {
    lwipy_copy(p->payload, from, length);
  }
  return p;
}

/* The connection, if it is in a state for its segments to be held. */
static const struct tcp_pcb *
ready(struct flow *flow)
{
  const struct lwipy_tcp *tcp = lwipy_end_find(flow->handle, LWIPY_KIND_TCP);
  const struct tcp_pcb *pcb = tcp != NULL ? tcp->pcb : NULL;
  if (pcb == NULL || pcb->state != ESTABLISHED) {
    flow->nic = NULL;
    return NULL;
  }
  return pcb->ooseq == NULL && pcb->refused_data == NULL && tcp->quick == 0 && !tcp->quickack ? pcb : NULL;
}

static int
start(struct flow *flow, const u8_t *frame, const struct view *view, u32_t seqno, struct pbuf *own)
{
  const struct tcp_pcb *pcb = ready(flow);
  struct pbuf *p;
  if (pcb == NULL || seqno != pcb->rcv_nxt || view->payload > pcb->rcv_wnd || !is_verified(flow->nic, view) ||
      (p = keep(frame, (u16_t)(view->headers + view->payload), own)) == NULL) {
    return 0;
  }
  flow->head = flow->tail = p;
  flow->ip_offset = (u16_t)(view->ip - frame);
  flow->headers = view->headers;
  flow->tcp_offset = (u16_t)(view->headers - view->tcp_headers);
  flow->total = p->len;
  flow->frames = 1;
  flow->next = seqno + view->payload;
  flow->limit = pcb->rcv_nxt + pcb->rcv_wnd;
  flow->ack = lwip_ntohl(view->tcp->ackno);
  held++;
  return 1;
}

static int
extend(struct flow *flow, const u8_t *frame, const struct view *view, u32_t seqno, struct pbuf *own)
{
  struct tcp_hdr *header = (struct tcp_hdr *)(void *)((u8_t *)flow->head->payload + flow->tcp_offset);
  u32_t ack = lwip_ntohl(view->tcp->ackno), next = seqno + view->payload;
  struct pbuf *p;
  if (seqno != flow->next || flow->total + view->payload > LONGEST || TCP_SEQ_GT(next, flow->limit) ||
      TCP_SEQ_LT(ack, flow->ack) || view->headers != flow->headers ||
      memcmp(header + 1, view->tcp + 1, (size_t)view->tcp_headers - TCP_HLEN) != 0 ||
      !is_verified(flow->nic, view) || (p = keep(frame + view->headers, view->payload, own)) == NULL) {
    return 0;
  }
  flow->tail->next = p;
  flow->tail = p;
  flow->total += view->payload;
  flow->frames++;
  flow->next = next;
  flow->ack = ack;
  header->ackno = view->tcp->ackno;
  header->wnd = view->tcp->wnd;
  header->_hdrlen_rsvd_flags |= view->tcp->_hdrlen_rsvd_flags;   /* they differ in PSH at most */
  return 1;
}

int
lwipy_merge(struct lwipy_nic *nic, const u8_t *frame, size_t length, struct pbuf *own)
{
  struct view view;
  struct flow *flow;
  u32_t seqno;
  learning = NULL;
  if (!in_batch) {
    return 0;
  }
  if (!look(nic, frame, length, &view)) {
    lwipy_merge_flush();
    return 0;
  }
  seqno = lwip_ntohl(view.tcp->seqno);
  flow = flow_of(nic, &view);
  if (flow != NULL && flow->handle != 0) {
    if (flow->head != NULL && extend(flow, frame, &view, seqno, own)) {
      return 1;
    }
    flush(flow);
    if (start(flow, frame, &view, seqno, own)) {
      return 1;
    }
  }
  lwipy_merge_flush();
  if (flow == NULL) {
    learn(nic, &view);
  } else if (flow->handle == 0) {
    learning = flow;
  }
  return 0;
}

/* ---- Batches ------------------------------------------------------------------------------------------------------ */

void
lwipy_batch_begin(void)
{
  in_batch = !(lwipy_without & LWIPY_WITHOUT_MERGE);
  lwipy_ack_batch_begin();
}

void
lwipy_batch_end(void)
{
  lwipy_merge_flush();
  learning = NULL;
  in_batch = 0;
  lwipy_ack_batch_end();
}
