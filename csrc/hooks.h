/*
 * lwIP's hooks; the functions are in the files named beside them.
 */
#ifndef LWIPY_HOOKS_H
#define LWIPY_HOOKS_H

#include "lwip/ip_addr.h"

struct pbuf;
struct netif;
struct tcp_hdr;
struct tcp_pcb;

/* port.c */
u32_t lwipy_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);
#define LWIP_HOOK_TCP_ISN(local, local_port, remote, remote_port) lwipy_isn(local, local_port, remote, remote_port)

/* tcp_hooks.c */
err_t lwipy_tcp_in(struct tcp_pcb *pcb, struct tcp_hdr *header, u16_t opt_length, u16_t opt1_length,
                   const u8_t *opt2, struct pbuf *p);
u32_t *lwipy_tcp_out(struct pbuf *p, struct tcp_hdr *header, const struct tcp_pcb *pcb, u32_t *options);
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, opt_length, opt1_length, opt2, p) \
  lwipy_tcp_in(pcb, header, opt_length, opt1_length, opt2, p)
#define LWIP_HOOK_TCP_OUT_ADD_TCPOPTS(p, header, pcb, options) lwipy_tcp_out(p, header, pcb, options)

/* demux.c. Of the files that include this one, PERF_START stands in tcp_in.c only (and in forwarding, which is off): in
   tcp_input(), where addresses are known and no list was looked at yet; PERF_STOP where the segment is done with. */
void lwipy_segment_begin(const struct pbuf *p);
void lwipy_segment_end(void);
#undef PERF_START
#undef PERF_STOP
#define PERF_START   lwipy_segment_begin(p)
#define PERF_STOP(x) lwipy_segment_end()

/* routes.c; lwIP wants LWIP_HOOK_IP4_ROUTE_SRC in lwipopts.h */
struct netif *lwipy_route4(const ip4_addr_t *source, const ip4_addr_t *destination);
struct netif *lwipy_route6(const ip6_addr_t *source, const ip6_addr_t *destination);
const ip6_addr_t *lwipy_gateway6(struct netif *netif, const ip6_addr_t *destination);
#define LWIP_HOOK_IP6_ROUTE(source, destination) lwipy_route6(source, destination)
#define LWIP_HOOK_ND6_GET_GW(netif, destination) lwipy_gateway6(netif, destination)

#endif /* LWIPY_HOOKS_H */
