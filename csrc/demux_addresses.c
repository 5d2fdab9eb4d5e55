/*
 * Addresses of connections: the hash of the 4-tuple that finds them (demux.c), and their end with a local address.
 */
#include "demux.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"

/*
 * A sum of products with random factors: whoever does not know them chooses 4-tuples that fall together as seldom as
 * chance does (M. Dietzfelbinger 1996). What others can see, ports and sequence numbers, is made from lwipy_ends_hash().
 */
static u64_t factors[11];

void
lwipy_demux_draw_factors(void)
{
  u64_t i;
  for (i = 0; i < LWIP_ARRAYSIZE(factors); i++) {
    u64_t words[3] = {i, 0, 0};      /* of a length that no connection's ends have */
    factors[i] = lwipy_keyed_hash(words, 3) | 1;
  }
}

u32_t
lwipy_demux_hash(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
  u64_t sum = factors[0] + factors[1] * ((u32_t)local_port << 16 | remote_port);
  if (IP_IS_V6(remote)) {
    const u32_t *ours = ip_2_ip6(local)->addr, *theirs = ip_2_ip6(remote)->addr;
    int i;
    for (i = 0; i < 4; i++) {
      sum += factors[2 + i] * ours[i] + factors[6 + i] * theirs[i];
    }
  } else {
    sum += factors[2] * ip4_addr_get_u32(ip_2_ip4(local)) + factors[6] * ip4_addr_get_u32(ip_2_ip4(remote));
  }
  sum = (sum ^ sum >> 32) * factors[10];
  return (u32_t)(sum >> 32);
}

void
lwipy_demux_select_pcb(const struct tcp_pcb *pcb)
{
  lwipy_demux_select(lwipy_demux_hash(&pcb->local_ip, pcb->local_port, &pcb->remote_ip, pcb->remote_port));
}

/* ---- An address goes ------------------------------------------------------------------------------------------------- */

static void
address_changed(void *old)
{
  tcp_netif_ip_addr_changed(old, NULL);
}

static void
end_connections_of(const ip_addr_t *old)
{
  if (!ip_addr_isany(old)) {
    lwipy_demux_each(address_changed, (void *)(uintptr_t)old);
  }
}

/* lwIP has called tcp_netif_ip_addr_changed() for the bucket at hand, or is about to. */
static void
on_netif(struct netif *netif, netif_nsc_reason_t reason, const netif_ext_callback_args_t *args)
{
  int i;
  if (reason & LWIP_NSC_NETIF_REMOVED) {
    end_connections_of(netif_ip_addr4(netif));
    for (i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
      end_connections_of(netif_ip_addr6(netif, i));
    }
  } else if (reason & LWIP_NSC_IPV4_ADDRESS_CHANGED) {
    end_connections_of(args->ipv4_changed.old_address);
  } else if (reason & LWIP_NSC_IPV6_SET) {
    end_connections_of(args->ipv6_set.old_address);
  } else if ((reason & LWIP_NSC_IPV6_ADDR_STATE_CHANGED) &&
             (args->ipv6_addr_state_changed.old_state & IP6_ADDR_VALID) &&
             !ip6_addr_isvalid(netif_ip6_addr_state(netif, args->ipv6_addr_state_changed.addr_index))) {
    end_connections_of(args->ipv6_addr_state_changed.address);
  }
}

void
lwipy_demux_watch_addresses(void)
{
  static netif_ext_callback_t entry;
  netif_add_ext_callback(&entry, on_netif);
}
