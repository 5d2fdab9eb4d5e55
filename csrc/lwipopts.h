/*
 * lwIP's options for lwipy. Only values that differ from lwIP's defaults stand here, each with its reason.
 */
#ifndef LWIPY_LWIPOPTS_H
#define LWIPY_LWIPOPTS_H

#include <stddef.h>
#include <stdint.h>

/* --- System: one private copy of the core per Stack, driven from outside ------------------------------- */
#define NO_SYS                          1   /* the core starts no thread and never blocks */
#define LWIP_SOCKET                     0   /* sockets are Python's, over the raw API */
#define LWIP_NETCONN                    0
#define SYS_LIGHTWEIGHT_PROT            0   /* the core's lock is taken at the border (instance.c) */
#define LWIP_TIMERS                     0   /* core.c runs the timers itself, so that a quiet stack sleeps */
#define LWIP_STATS                      1   /* drop counters are shown to the user */
#define LWIP_STATS_LARGE                1   /* 16-bit counters would wrap within a second */
#define LWIP_ASSERT_CORE_LOCKED()       lwipy_assert_core_locked()

/* --- Memory: everything from the stack's own arena ------------------------------------------------------ */
#define MEM_ALIGNMENT                   8
#define MEM_CUSTOM_ALLOCATOR            1
#define MEM_CUSTOM_MALLOC               lwipy_arena_malloc
#define MEM_CUSTOM_CALLOC               lwipy_arena_calloc
#define MEM_CUSTOM_FREE                 lwipy_arena_free
#define MEMP_MEM_MALLOC                 1   /* pools are the arena's size classes; its limit bounds them all */
#define PBUF_POOL_SIZE                  64  /* checked by lwIP, not used to allocate */
#define PBUF_POOL_BUFSIZE               1536   /* pieces of a datagram's copies; lwIP counts the default in 16 bits: 64 */
#define LWIP_SUPPORT_CUSTOM_PBUF        1
/* What waits for an address to be resolved may outlive its connection, and with it the memory it refers to (held.c). */
#define PBUF_NEEDS_COPY(p)              (!((p)->type_internal & PBUF_TYPE_FLAG_STRUCT_DATA_CONTIGUOUS))
#define PBUF_LINK_HLEN                  14

/* --- Interfaces ------------------------------------------------------------------------------------------- */
#define LWIP_ETHERNET                   1
#define LWIP_NETIF_HOSTNAME             1
#define LWIP_NETIF_LINK_CALLBACK        0
#define LWIP_NETIF_EXT_STATUS_CALLBACK  1   /* an address goes: demux.c ends its connections */
#define LWIP_HAVE_LOOPIF                1
#define LWIP_NETIF_LOOPBACK             1
#define LWIP_LOOPBACK_MAX_PBUFS         4096 /* packets to oneself are bounded as well */
#define LWIP_LOOPIF_MULTICAST           1
#define LWIP_CHECKSUM_CTRL_PER_NETIF    1   /* off on in-process wires */
#define LWIP_CHECKSUM_ON_COPY           0   /* measured: costs more than it saves with the 64-bit sum below */
#define LWIP_CHKSUM                     lwipy_checksum

/* --- IPv4 ------------------------------------------------------------------------------------------------- */
#define IP_FORWARD                      0
#define IP_DEFAULT_TTL                  64  /* RFC 1122, and what every host has; lwIP's 255 tells us from them */
#define IP_SOF_BROADCAST                1   /* EACCES unless SO_BROADCAST, as everywhere */
#define IP_REASS_MAX_PBUFS              2048 /* 65507-byte datagrams are 45 fragments; several at a time */
#define ARP_TABLE_SIZE                  127
#define ARP_QUEUEING                    1   /* a burst of first SYNs must survive the ARP exchange */
#define ARP_QUEUE_LEN                   128
#define ETHARP_SUPPORT_STATIC_ENTRIES   1
#define LWIP_IGMP                       1
#define LWIP_MULTICAST_TX_OPTIONS       1
#define LWIP_RAW                        1
#define LWIP_DHCP                       1
#define LWIP_DHCP_DOES_ACD_CHECK        0   /* the lease's probe would delay every start by seconds */
#define LWIP_ACD                        0
#define DHCP_OPTIONS_LEN                152 /* 68 do not hold a host name of 63 characters; lwIP asserts it */
#define LWIP_IP_ACCEPT_UDP_PORT(port)   ((port) == PP_NTOHS(67)) /* a DHCP server hears clients without address */

/* --- IPv6 ------------------------------------------------------------------------------------------------- */
#define LWIP_IPV6                       1
#define LWIP_IPV6_NUM_ADDRESSES         8
#define LWIP_IPV6_FORWARD               0
#define IPV6_FRAG_COPYHEADER            1   /* needed where pointers have 64 bits */
#define LWIP_ND6_QUEUEING               1
#define MEMP_NUM_ND6_QUEUE              256
#define LWIP_ND6_NUM_NEIGHBORS          127
#define LWIP_ND6_NUM_DESTINATIONS       127
#define LWIP_IPV6_DHCP6                 0
#define LWIP_ND6_TCP_REACHABILITY_HINTS 1

/* --- TCP -------------------------------------------------------------------------------------------------- */
#define LWIPY_WND_MAX                   0x400000 /* 4 MB: the largest buffer a socket may ask for */
#define LWIPY_BUF_DEFAULT               0x40000  /* 256 KB: beyond it the walk over unacked costs more than it wins */
/* The window of the connection at hand; the preprocessor, which lwIP's checks use, sees the maximum. */
#define TCP_WND                         (lwipy_rcvbuf ? lwipy_rcvbuf : LWIPY_WND_MAX)
#define TCP_SND_BUF                     LWIPY_BUF_DEFAULT
#define TCP_MSS                         65495 /* clamped by each netif's MTU */
#define TCP_SND_QUEUELEN                60000
#define TCP_SNDLOWAT                    1024  /* used by lwIP's sockets only, but checked */
#define TCP_SNDQUEUELOWAT               16
#define LWIP_DISABLE_TCP_SANITY_CHECKS  1     /* they compare with pools that are not used here */
#define LWIP_WND_SCALE                  1
#define TCP_RCV_SCALE                   7     /* 4 MB >> 7 fits 16 bits; steps of 128 bytes */
#define TCP_OVERSIZE                    1460
#define TCP_LISTEN_BACKLOG              1
#define TCP_DEFAULT_LISTEN_BACKLOG      255   /* half-open connections; the accept queue is bounded in tcp.c */
#define LWIP_TCP_SACK_OUT               1
#define LWIP_TCP_MAX_SACK_NUM           4
#define TCP_OOSEQ_MAX_PBUFS             4096  /* one-byte segments out of order must not eat the arena */
#define LWIP_TCP_KEEPALIVE              1
#define LWIP_TCP_TIMESTAMPS             0
#define TCP_TMR_INTERVAL                25    /* a lost segment costs 150 ms; lwIP's 250 makes it 1.5 s */
#define TCP_MSL                         1000  /* TIME_WAIT of 2 s; a new SYN ends it sooner (tcp_hooks.c) */
#define LWIP_TCP_RTO_TIME               1000  /* RFC 6298 */
#define TCP_SYNMAXRTX                   6
#define LWIP_TCP_PCB_NUM_EXT_ARGS       2     /* they tell us when a pcb is freed: 0 tcp.c, 1 sending.c */
#define SO_REUSE                        1
#define SO_REUSE_RXTOALL                1
#define LWIP_RANDOMIZE_INITIAL_LOCAL_PORTS 1

/* --- DNS -------------------------------------------------------------------------------------------------- */
#define LWIP_DNS                        1
#define DNS_TABLE_SIZE                  32
#define DNS_MAX_SERVERS                 3
#define DNS_MAX_RETRIES                 4
#define LWIP_DNS_SECURE                 (LWIP_DNS_SECURE_RAND_XID | LWIP_DNS_SECURE_NO_MULTIPLE_OUTSTANDING | \
                                         LWIP_DNS_SECURE_RAND_SRC_PORT)

/* --- Hooks ------------------------------------------------------------------------------------------------ */
#define LWIP_HOOK_FILENAME              "hooks.h"
#define LWIP_HOOK_IP4_ROUTE_SRC(source, destination) lwipy_route4(source, destination) /* ip4.h looks for it here */

/* Known to every lwIP file; defined in port.c and arena.c. */
extern uint32_t lwipy_rcvbuf;
void *lwipy_arena_malloc(size_t size);
void *lwipy_arena_calloc(size_t count, size_t size);
void lwipy_arena_free(void *block);
uint16_t lwipy_checksum(const void *data, int length);
uint16_t lwipy_fold(uint32_t sum);         /* a sum of 16-bit words, carries added to it (RFC 1071) */
void lwipy_assert_core_locked(void);

#endif /* LWIPY_LWIPOPTS_H */
