/*
 * Addresses of connections: the hash of the 4-tuple that finds them (demux.c), and their end with a local address.
 */
#include "demux.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"

u32_t
lwipy_demux_hash(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
  u64_t words[5], ports = (u64_t)local_port << 16 | remote_port;
  if (IP_IS_V6(remote)) {
    memcpy(&words[0], ip_2_ip6(local)->addr, 16);
    memcpy(&words[2], ip_2_ip6(remote)->addr, 16);
    words[4] = ports | (u64_t)1 << 32;      /* not what makes initial sequence numbers */
    return (u32_t)lwipy_keyed_hash(words, 5);
  }
  words[0] = (u64_t)ip4_addr_get_u32(ip_2_ip4(local)) << 32 | ip4_addr_get_u32(ip_2_ip4(remote));
  words[1] = ports;
  return (u32_t)lwipy_keyed_hash(words, 2);
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
