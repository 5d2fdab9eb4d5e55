/*
 * ICMP's destination unreachable, told to the socket whose packet it quotes; lwIP itself takes no notice of it.
 *
 * A connect() that has no answer yet fails (RFC 1122 4.2.3.9; an established connection goes on, RFC 5927), a connected
 * UDP socket raises the error once, at its next call, as the kernel's do.
 *
 * The message is anybody's word: it counts when it is unfragmented, its checksum is right, and it quotes addresses and
 * ports of a socket of ours; for TCP also the sequence number of our SYN. Nothing is kept.
 */
#include "core.h"
#include "dgram.h"
#include "tcp.h"

#include <string.h>

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/ip6.h"

#define MESSAGE_HEADER 8
#define QUOTED_PORTS   8             /* what every message has of the payload: ports, and TCP's sequence number */

enum { PORT_UNREACHABLE4 = 3, PROTOCOL_UNREACHABLE4 = 2, FRAGMENTATION_NEEDED4 = 4, PORT_UNREACHABLE6 = 4 };

static u16_t
be16(const u8_t *p)
{
  return (u16_t)(p[0] << 8 | p[1]);
}

static void
tell_socket(u8_t protocol, const ip_addr_t *local, const ip_addr_t *remote, const u8_t *payload, int error)
{
  u16_t from = be16(payload), to = be16(payload + 2);
  if (protocol == IP_PROTO_UDP) {
    lwipy_udp_unreachable(local, from, remote, to, error);
  } else if (protocol == IP_PROTO_TCP) {
    u32_t seqno = (u32_t)be16(payload + 4) << 16 | be16(payload + 6);
    lwipy_tcp_unreachable(local, from, remote, to, seqno, error);
  }
}

void
lwipy_unreachable4(const u8_t *message, size_t length)
{
  const u8_t *quoted = message + MESSAGE_HEADER;
  ip_addr_t local, remote;
  size_t header;
  u8_t code;
  if (length < MESSAGE_HEADER + IP_HLEN + QUOTED_PORTS || (code = message[1]) == FRAGMENTATION_NEEDED4 ||
      quoted[0] >> 4 != 4 || (header = (size_t)(quoted[0] & 15) * 4) < IP_HLEN ||
      length < MESSAGE_HEADER + header + QUOTED_PORTS || (be16(quoted + 6) & 0x1fff) != 0 ||
      inet_chksum(message, (u16_t)length) != 0) {
    return;
  }
  IP_ADDR4(&local, quoted[12], quoted[13], quoted[14], quoted[15]);
  IP_ADDR4(&remote, quoted[16], quoted[17], quoted[18], quoted[19]);
  tell_socket(quoted[9], &local, &remote, quoted + header,
       code == PORT_UNREACHABLE4 || code == PROTOCOL_UNREACHABLE4 ? LWIPY_EREFUSED : LWIPY_EUNREACH);
}

static void
address6(ip_addr_t *out, const u8_t *bytes, const struct netif *netif)
{
  memset(out, 0, sizeof(*out));
  memcpy(ip_2_ip6(out)->addr, bytes, 16);
  IP_SET_TYPE_VAL(*out, IPADDR_TYPE_V6);
  ip6_addr_assign_zone(ip_2_ip6(out), IP6_UNICAST, netif);
}

void
lwipy_unreachable6(const struct netif *netif, const u8_t *packet, const u8_t *message, size_t length)
{
  const u8_t *quoted = message + MESSAGE_HEADER;
  ip_addr_t local, remote;
  ip6_addr_t source, destination;
  struct pbuf p;
  if (length < MESSAGE_HEADER + IP6_HLEN + QUOTED_PORTS || quoted[0] >> 4 != 6 || length > UINT16_MAX) {
    return;
  }
  memset(&p, 0, sizeof(p));
  p.payload = (void *)(uintptr_t)message;
  p.len = p.tot_len = (u16_t)length;
  memset(&source, 0, sizeof(source));
  memset(&destination, 0, sizeof(destination));
  memcpy(source.addr, packet + 8, 16);
  memcpy(destination.addr, packet + 24, 16);
  if (ip6_chksum_pseudo(&p, IP6_NEXTH_ICMP6, (u16_t)length, &source, &destination) != 0) {
    return;
  }
  address6(&local, quoted + 8, netif);
  address6(&remote, quoted + 24, netif);
  tell_socket(quoted[6], &local, &remote, quoted + IP6_HLEN,
       message[1] == PORT_UNREACHABLE6 ? LWIPY_EREFUSED : LWIPY_EUNREACH);
}
