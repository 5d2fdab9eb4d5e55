/*
 * lwIP's own ip6_frag.c, compiled to copy what it cuts.
 *
 * Otherwise it moves the payload pointers of the packet along, and leaves them at its end. TCP still holds that packet,
 * and sends it again: after a "packet too big", or with a smaller MTU, pieces of the stream would be missing, and the
 * walk over them would end at a null pointer (lwIP 2.2.1).
 */
#define LWIP_NETIF_TX_SINGLE_PBUF 1

#include "../lwip/src/core/ipv6/ip6_frag.c"
