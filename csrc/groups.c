/*
 * Multicast groups that sockets have joined (IGMP for IPv4, MLD for IPv6).
 *
 * Theory of operation. lwIP counts memberships by interface and knows nothing of sockets. This list does: who joined
 * what where, so that a socket's memberships end with it, as everywhere.
 *
 * Invariants:
 * 1. An entry stands for exactly one reference that lwIP counts.
 * 2. lwIP forgets an interface's groups with the interface; so do we, before its number is given to another.
 */
#include "core.h"
#include "dgram.h"

#include "lwip/igmp.h"
#include "lwip/mem.h"
#include "lwip/mld6.h"

struct membership {
  struct membership *next;
  lwipy_handle owner;
  ip_addr_t group;
  u8_t nic;
};

static struct membership *memberships;

static struct membership **
find(lwipy_handle owner, const ip_addr_t *group, int nic)
{
  struct membership **link = &memberships;
  while (*link != NULL &&
         ((*link)->owner != owner || (*link)->nic != nic || !ip_addr_eq(&(*link)->group, group))) {
    link = &(*link)->next;
  }
  return link;
}

static void
take_out(struct membership **link)
{
  struct membership *item = *link;
  *link = item->next;
  mem_free(item);
}

static int
join(lwipy_handle owner, ip_addr_t *group, struct netif *netif)
{
  struct membership *item;
  int result;
  if (*find(owner, group, netif_get_index(netif)) != NULL) {
    return LWIPY_EUSE;
  }
  if ((item = mem_malloc(sizeof(*item))) == NULL) {
    return LWIPY_EMEM;
  }
  result = IP_IS_V6(group) ? mld6_joingroup_netif(netif, ip_2_ip6(group)) : igmp_joingroup_netif(netif, ip_2_ip4(group));
  if (result != ERR_OK) {
    mem_free(item);
    return result;
  }
  item->owner = owner;
  item->nic = netif_get_index(netif);
  ip_addr_copy(item->group, *group);
  item->next = memberships;
  memberships = item;
  return 0;
}

static int
leave(struct membership **link)
{
  struct membership *item = *link;
  struct netif *netif = lwipy_netif_by_index(item->nic);
  int result = LWIPY_ENODEV;
  if (netif != NULL) {
    result = IP_IS_V6_VAL(item->group) ? mld6_leavegroup_netif(netif, ip_2_ip6(&item->group))
                                       : igmp_leavegroup_netif(netif, ip_2_ip4(&item->group));
  }
  take_out(link);
  return result;
}

static int
change(lwipy_handle handle, const lwipy_address *address, int nic, int joins)
{
  struct netif *netif = nic > 0 ? lwipy_netif_by_index(nic) : lwipy_netif_first();
  struct membership **link;
  ip_addr_t group;
  if (lwipy_dgram_find(handle) == NULL) {
    return LWIPY_EHANDLE;
  }
  if (lwipy_address_to_ip(address, &group) != 0 || !ip_addr_ismulticast(&group)) {
    return LWIPY_EARG;
  }
  if (netif == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  if (IP_IS_V6(&group)) {
    ip6_addr_assign_zone(ip_2_ip6(&group), IP6_MULTICAST, netif);
  }
  if (joins) {
    return join(handle, &group, netif);
  }
  link = find(handle, &group, netif_get_index(netif));
  return *link != NULL ? leave(link) : LWIPY_EADDR;
}

int
core_join(lwipy_handle handle, const lwipy_address *group, int nic)
{
  return change(handle, group, nic, 1);
}

int
core_leave(lwipy_handle handle, const lwipy_address *group, int nic)
{
  return change(handle, group, nic, 0);
}

void
lwipy_groups_leave_all(lwipy_handle owner)
{
  struct membership **link = &memberships;
  while (*link != NULL) {
    if ((*link)->owner == owner) {
      leave(link);
    } else {
      link = &(*link)->next;
    }
  }
}

void
lwipy_groups_forget(int nic)
{
  struct membership **link = &memberships;
  while (*link != NULL) {
    if ((*link)->nic == nic) {
      take_out(link);
    } else {
      link = &(*link)->next;
    }
  }
}
