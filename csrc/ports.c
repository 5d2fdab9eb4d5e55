/*
 * Local TCP ports: lwIP looks for one through all connections, which it cannot see here (demux.c).
 *
 * A connection gets a port that makes its 4-tuple unique: the same port may go to several destinations at once, so that
 * their number is not bounded by that of ports. Where the search begins depends on the destination, by a
 * keyed hash, and goes on from connection to connection (RFC 6056 section 3.3.3): ports are not reused early, and
 * nobody who sees one port can tell the next. A port that bind() is asked for may be no other socket's, as lwIP has it.
 * To go through all connections for that would take longer the more there are: `taken` says for most ports at once that
 * nobody has them. It forgets nothing of itself; a look that finds a port there goes through all, and notes anew who is
 * left.
 *
 * Invariants:
 * 1. The port of every connection, listener and bound pcb is in `taken`: it is noted where it is chosen. What a listener
 *    accepts has the listener's.
 */
#include "demux.h"
#include "tcp.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"

#define FIRST   32768
#define COUNT   32768
#define DYNAMIC 16384      /* the last of them are IANA's dynamic ports, which bind() takes from first */

static u8_t taken[(FIRST + COUNT) / 8];

static void
note(u16_t port)
{
  taken[port / 8] |= (u8_t)(1 << port % 8);
}

static int
is_noted(u16_t port)
{
  return taken[port / 8] >> port % 8 & 1;
}

/* Listening, or bound and neither connected nor listening yet. */
static int
is_bound(u16_t port)
{
  const struct tcp_pcb *pcb;
  for (pcb = tcp_listen_pcbs.pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->local_port == port) {
      return 1;
    }
  }
  for (pcb = tcp_bound_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->local_port == port) {
      return 1;
    }
  }
  return 0;
}

u16_t
lwipy_port_towards(const ip_addr_t *local, const ip_addr_t *remote, u16_t remote_port)
{
  static u32_t next;
  u32_t offset = (u32_t)lwipy_ends_hash(local, 0, remote, remote_port), tried;
  for (tried = 0; tried < COUNT; tried++) {
    u16_t port = (u16_t)(FIRST + (offset + next++) % COUNT);
    if (!is_bound(port) && lwipy_demux_find(local, port, remote, remote_port) == NULL) {
      note(port);
      return port;
    }
  }
  return 0;
}

/* ---- bind() ---------------------------------------------------------------------------------------------------------- */

static void
mark(const struct tcp_pcb *pcb)
{
  for (; pcb != NULL; pcb = pcb->next) {
    note(pcb->local_port);
  }
}

static void
mark_all(void *unused)
{
  LWIP_UNUSED_ARG(unused);
  mark(tcp_active_pcbs);
  mark(tcp_tw_pcbs);
}

static void
note_anew(void)
{
  memset(taken, 0, sizeof(taken));
  lwipy_demux_each(mark_all, NULL);
  mark(tcp_listen_pcbs.pcbs);
  mark(tcp_bound_pcbs);
}

static u16_t
free_port(void)
{
  u32_t start = lwipy_rand(), tried;
  for (tried = 0; tried < COUNT; tried++) {
    u16_t port = (u16_t)(FIRST + (tried < DYNAMIC ? COUNT - DYNAMIC + (start + tried) % DYNAMIC : tried - DYNAMIC));
    if (!is_noted(port)) {
      return port;
    }
  }
  return 0;
}

static u16_t
any_port(void)
{
  u16_t port = free_port();
  if (port == 0) {
    note_anew();
    port = free_port();
  }
  return port;
}

struct wish {
  const struct tcp_pcb *pcb;
  const ip_addr_t *ip;
  u16_t port;
  int refused;
};

/* The rule of tcp_bind(). */
static int
is_refused(const struct wish *wish, const struct tcp_pcb *other)
{
  int reuse = ip_get_option(wish->pcb, SOF_REUSEADDR) != 0;
  for (; other != NULL; other = other->next) {
    if (other->local_port == wish->port && !(reuse && ip_get_option(other, SOF_REUSEADDR)) &&
        IP_IS_V6(wish->ip) == IP_IS_V6_VAL(other->local_ip) &&
        (ip_addr_isany(&other->local_ip) || ip_addr_isany(wish->ip) || ip_addr_eq(&other->local_ip, wish->ip))) {
      return 1;
    }
  }
  return 0;
}

static void
ask(void *argument)
{
  struct wish *wish = argument;
  wish->refused |= is_refused(wish, tcp_active_pcbs) ||
                   (!ip_get_option(wish->pcb, SOF_REUSEADDR) && is_refused(wish, tcp_tw_pcbs));
}

/* Whether a connection keeps the port from whoever wishes it; of listeners and bound pcbs tcp_bind() knows. */
static int
is_kept(struct wish *wish)
{
  if (is_noted(wish->port)) {
    lwipy_demux_each(ask, wish);
    note_anew();
  }
  return wish->refused;
}

/* tcp_bind(). */
err_t
lwipy_port_bind(struct tcp_pcb *pcb, const ip_addr_t *ip, u16_t port)
{
  struct wish wish = {pcb, ip, port, 0};
  err_t err;
  if (port == 0) {
    port = any_port();
    if (port == 0) {
      return ERR_BUF;
    }
  } else if (is_kept(&wish)) {
    return ERR_USE;
  }
  lwipy_demux_nowhere();
  err = tcp_bind(pcb, ip, port);
  if (err == ERR_OK) {
    note(port);
  }
  return err;
}
