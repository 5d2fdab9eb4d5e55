/*
 * SYN cookies: a SYN is answered without being remembered (D. J. Bernstein 1996, RFC 4987 section 3.6).
 *
 * Theory of operation. What has to be known of the SYN when its answer is confirmed is put into the initial sequence
 * number of the answer, beside a keyed hash of both ends, the peer's own sequence number and the time: 25 bits that
 * only this stack can make. The confirmation brings it back, one more, and then the connection is made as lwIP makes it
 * from a SYN (tcp_listen_input), its frame fed once more.
 *
 *   31 ........ 7 | 6 5    | 4 3 | 2 1          | 0
 *   keyed hash    | period | MSS | window scale | SACK
 *
 * A larger MSS or scale than the bits can say becomes the next smaller one: it costs a little speed and no correctness.
 * Cookies cost the peer its second chance: an answer that is lost is not sent again, the peer's SYN is.
 *
 * Invariants:
 * 1. A cookie is good for the period it was made in and for the next one.
 * 2. None is looked for unless one was made that could still be good.
 */
#include "demux.h"
#include "half_open.h"

#include <string.h>

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"

#define PERIOD (32 * (int64_t)1000000)
#define NONE   0xff

static const u16_t sizes[4] = {536, 1220, 1440, 8940};
static const u8_t scales[4] = {NONE, 0, 4, 7};

static int64_t made_in = -2;         /* the period of the last cookie */

struct wishes {
  u16_t mss;
  u8_t scale, sack;
};

static int64_t
period(void)
{
  return lwipy_now() / PERIOD;
}

static u32_t
hash(const struct tcp_hdr *header, u32_t peer_isn, int64_t when, u32_t low)
{
  u64_t words[7] = {0};
  const ip_addr_t *local = ip_current_dest_addr(), *remote = ip_current_src_addr();
  memcpy(&words[0], ip_2_ip6(local)->addr, IP_IS_V6(local) ? 16 : 4);
  memcpy(&words[2], ip_2_ip6(remote)->addr, IP_IS_V6(remote) ? 16 : 4);
  words[4] = (u64_t)header->dest << 48 | (u64_t)header->src << 32 | peer_isn;
  words[5] = (u64_t)when;
  words[6] = low;
  return (u32_t)lwipy_keyed_hash(words, 7) & ~(u32_t)0x7f;
}

/* ---- The answer ------------------------------------------------------------------------------------------------------- */

static void
read_options(const u8_t *option, u16_t length, struct wishes *wishes)
{
  u16_t at = 0;
  /* They are sound, or the hook would have dropped the segment. */
  while (at + 1 < length && option[at] != 0) {
    u8_t size = option[at] == 1 ? 1 : option[at + 1];
    if (option[at] == 2) {
      wishes->mss = (u16_t)(option[at + 2] << 8 | option[at + 3]);
    } else if (option[at] == 3) {
      wishes->scale = option[at + 2];
    } else if (option[at] == 4) {
      wishes->sack = 1;
    }
    at = (u16_t)(at + size);
  }
}

static u32_t
low_bits(const struct wishes *wishes, int64_t when)
{
  u32_t mss = 3, scale = wishes->scale == NONE ? 0 : 3;
  while (mss > 0 && sizes[mss] > wishes->mss) {
    mss--;
  }
  while (scale > 1 && scales[scale] > wishes->scale) {
    scale--;
  }
  return (u32_t)(when & 3) << 5 | mss << 3 | scale << 1 | wishes->sack;
}

static u16_t
write_options(u8_t *to, const struct wishes *wishes)
{
  u16_t mss = tcp_eff_send_mss(TCP_MSS, ip_current_dest_addr(), ip_current_src_addr()), length = 4;
  to[0] = 2;
  to[1] = 4;
  to[2] = (u8_t)(mss >> 8);
  to[3] = (u8_t)mss;
  if (wishes->scale != NONE) {
    memcpy(to + length, "\1\3\3", 3);
    to[length + 3] = TCP_RCV_SCALE;
    length = (u16_t)(length + 4);
  }
  if (wishes->sack) {
    memcpy(to + length, "\1\1\4\2", 4);
    length = (u16_t)(length + 4);
  }
  return length;
}

static void
transmit(const struct tcp_pcb *listener, const struct tcp_hdr *syn, u32_t cookie, const struct wishes *wishes)
{
  struct netif *netif = ip_current_input_netif();
  const ip_addr_t *local = ip_current_dest_addr(), *remote = ip_current_src_addr();
  u8_t options[12];
  u16_t length = write_options(options, wishes);
  struct pbuf *p = pbuf_alloc(PBUF_IP, (u16_t)(TCP_HLEN + length), PBUF_RAM);
  struct tcp_hdr *header;
  if (p == NULL) {
    return;
  }
  header = p->payload;
  header->src = lwip_htons(syn->dest);
  header->dest = lwip_htons(syn->src);
  header->seqno = lwip_htonl(cookie);
  header->ackno = lwip_htonl(syn->seqno + 1);
  TCPH_HDRLEN_FLAGS_SET(header, (TCP_HLEN + length) / 4, TCP_SYN | TCP_ACK);
  header->wnd = lwip_htons(TCPWND_MIN16(TCP_WND));
  header->chksum = 0;
  header->urgp = 0;
  memcpy(header + 1, options, length);
  IF__NETIF_CHECKSUM_ENABLED(netif, NETIF_CHECKSUM_GEN_TCP) {
    header->chksum = ip_chksum_pseudo(p, IP_PROTO_TCP, p->tot_len, local, remote);
  }
  TCP_STATS_INC(tcp.xmit);
  if (listener->netif_idx != NETIF_NO_INDEX || (netif = ip_route(local, remote)) != NULL) {
    ip_output_if(p, local, remote, listener->ttl, listener->tos, IP_PROTO_TCP, netif);
  }
  pbuf_free(p);
}

void
lwipy_cookie_answer(const struct tcp_pcb *listener, const struct tcp_hdr *syn, u16_t opt_length)
{
  struct wishes wishes = {536, NONE, 0};
  int64_t now = period();
  u32_t low;
  read_options((const u8_t *)(syn + 1), opt_length, &wishes);
  low = low_bits(&wishes, now);
  made_in = now;
  lwipy_drops.cookies_sent++;
  transmit(listener, syn, hash(syn, syn->seqno, now, low) | low, &wishes);
}

/* ---- Its echo --------------------------------------------------------------------------------------------------------- */

static int
is_ours(const struct tcp_hdr *ack, u32_t cookie)
{
  int64_t now = period(), when = now - ((now - (cookie >> 5)) & 3);
  return when >= now - 1 && cookie == (hash(ack, ack->seqno - 1, when, cookie & 0x7f) | (cookie & 0x7f));
}

/* The pcb that tcp_listen_input() would have made, and tcp_output() its answer from. */
static void
set_up(struct tcp_pcb *pcb, struct tcp_pcb_listen *listener, const struct tcp_hdr *ack, u32_t cookie)
{
  u8_t scale = scales[cookie >> 1 & 3];
  ip_addr_copy(pcb->local_ip, *ip_current_dest_addr());
  ip_addr_copy(pcb->remote_ip, *ip_current_src_addr());
  pcb->local_port = listener->local_port;
  pcb->remote_port = ack->src;
  pcb->state = SYN_RCVD;
  pcb->rcv_nxt = ack->seqno;
  pcb->snd_wl1 = ack->seqno - 2;     /* the ACK is to bring the window */
  pcb->snd_wl2 = pcb->lastack = cookie;
  pcb->snd_nxt = pcb->snd_lbb = cookie + 1;
  pcb->callback_arg = listener->callback_arg;
  pcb->listener = listener;
  pcb->so_options = listener->so_options & SOF_INHERITED;
  pcb->netif_idx = listener->netif_idx;
  if (scale != NONE) {
    pcb->snd_scale = scale;
    pcb->rcv_scale = TCP_RCV_SCALE;
    pcb->rcv_wnd = pcb->rcv_ann_wnd = TCP_WND;
    tcp_set_flags(pcb, TF_WND_SCALE);
  }
  if (cookie & 1) {
    tcp_set_flags(pcb, TF_SACK);
  }
  pcb->rcv_ann_right_edge = pcb->rcv_nxt + pcb->rcv_ann_wnd;
  pcb->snd_wnd = pcb->snd_wnd_max = SND_WND_SCALE(pcb, ack->wnd);
  pcb->mss = tcp_eff_send_mss(sizes[cookie >> 3 & 3], &pcb->local_ip, &pcb->remote_ip);
}

int
lwipy_cookie_take(struct tcp_pcb *listening, const struct tcp_hdr *ack)
{
  struct tcp_pcb_listen *listener = (struct tcp_pcb_listen *)(void *)listening;
  u32_t cookie = ack->ackno - 1;
  struct tcp_pcb *pcb;
  if (period() - made_in > 1 || !is_ours(ack, cookie) || (pcb = tcp_alloc(listener->prio)) == NULL) {
    return 0;
  }
  set_up(pcb, listener, ack, cookie);
  if (lwipy_half_open_begin(0, listener, pcb) != ERR_OK) {
    tcp_free(pcb);
    return 0;
  }
  TCP_REG_ACTIVE(pcb);
  lwipy_drops.cookies_good++;
  return 1;
}
