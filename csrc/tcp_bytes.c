/*
 * Bytes of a connection, both ways, and the ends of the two directions.
 */
#include "demux.h"
#include "held.h"
#include "netif.h"
#include "tcp_endpoint.h"

#include <string.h>

static int
cannot_send(struct lwipy_tcp *tcp)
{
  if (tcp->error) {
    return lwipy_tcp_take_error(tcp);
  }
  if (tcp->connecting) {
    tcp->end.armed |= LWIPY_WRITABLE;
    return LWIPY_EWOULDBLOCK;
  }
  if (!tcp->connected || tcp->write_shut || tcp->pcb == NULL) {
    return LWIPY_EPIPE;
  }
  return 0;
}

/* lwIP calls it with every slow tick, in which tcp_timers.c includes a connection that has such a callback. */
static err_t
on_poll(void *arg, struct tcp_pcb *pcb)
{
  struct lwipy_tcp *tcp = arg;
  if (!lwipy_arena_is_low()) {
    tcp_poll(pcb, NULL, 0);
    if (lwipy_tcp_has_room(tcp)) {
      lwipy_signal(&tcp->end, LWIPY_WRITABLE);
    }
  }
  return ERR_OK;
}

/* Memory is others' now, so no acknowledgement of this connection's own will say when there is some again. */
static void
wait_for_memory(struct lwipy_tcp *tcp)
{
  lwipy_drops.memory_waits++;
  tcp_poll(tcp->pcb, on_poll, 0);
}

/* Bytes that are queued now; what is not copied is referred to. */
static size_t
queue_bytes(struct lwipy_tcp *tcp, const void *data, size_t length, u8_t copy)
{
  size_t done = 0;
  while (done < length && tcp->pcb->snd_buf > 0) {
    size_t part = LWIP_MIN(length - done, LWIP_MIN(tcp->pcb->snd_buf, 0xffff));
    u8_t more = done + part < length ? TCP_WRITE_FLAG_MORE : 0;
    if (lwipy_arena_is_low() ||
        tcp_write(tcp->pcb, (const u8_t *)data + done, (u16_t)part, copy | more) != ERR_OK) {
      wait_for_memory(tcp);
      break;
    }
    done += part;
  }
  return done;
}

static int64_t
sent(struct lwipy_tcp *tcp, size_t done, size_t length)
{
  tcp->has_more = done < length;
  if (done > 0) {
    lwipy_sending_output(tcp->pcb);
  }
  if (done < length) {
    tcp->end.armed |= LWIPY_WRITABLE;
  }
  return done > 0 || length == 0 ? (int64_t)done : LWIPY_EWOULDBLOCK;
}

/* What comes before any sending. 0, or why it cannot be done. */
static int
prepare(struct lwipy_tcp *tcp)
{
  int result = tcp == NULL ? LWIPY_EHANDLE : cannot_send(tcp);
  if (result == 0) {
    lwipy_timers_stir();
    lwipy_tcp_use_window(tcp);
    lwipy_tcp_start(tcp);
    if (lwipy_sending_of(tcp->pcb) != NULL) {
      lwipy_sending_hunger(lwipy_sending_of(tcp->pcb));
    }
  }
  return result;
}

int64_t
core_tcp_send(lwipy_handle handle, const void *data, size_t length)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  int result = prepare(tcp);
  return result != 0 ? result : sent(tcp, queue_bytes(tcp, data, length, TCP_WRITE_FLAG_COPY), length);
}

int64_t
core_tcp_send_held(lwipy_handle handle, const void *data, size_t length, lwipy_hold *hold)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  struct lwipy_sending *sending;
  struct lwipy_held *held;
  size_t done;
  u32_t start;
  int result = prepare(tcp);
  if (result != 0) {
    return result;
  }
  if (length == 0 || tcp->pcb->snd_buf == 0) {
    return sent(tcp, 0, length);
  }
  if ((held = lwipy_held_new(hold, data)) == NULL) {
    wait_for_memory(tcp);
    return sent(tcp, 0, length);
  }
  sending = lwipy_sending_of(tcp->pcb);
  start = tcp->pcb->snd_lbb;
  done = queue_bytes(tcp, data, length, sending != NULL ? 0 : TCP_WRITE_FLAG_COPY);
  if (done == 0) {
    lwipy_held_discard(held);
  } else if (sending != NULL) {
    lwipy_held_add(sending, held, start, tcp->pcb->snd_lbb);
  } else {
    lwipy_held_release(held);
  }
  return sent(tcp, done, length);
}

static void
open_window(struct lwipy_tcp *tcp, u32_t length)
{
  lwipy_tcp_use_window(tcp);
  while (length > 0 && tcp->pcb != NULL) {
    u16_t part = (u16_t)LWIP_MIN(length, 0xffff);
    tcp_recved(tcp->pcb, part);
    length -= part;
  }
}

/* Nothing is left but perhaps an end, which is news. */
static void
rearm(struct lwipy_tcp *tcp)
{
  tcp->end.armed |= LWIPY_READABLE;
  if (tcp->got_fin || tcp->read_shut || tcp->error || tcp->pcb == NULL) {
    lwipy_signal(&tcp->end, LWIPY_READABLE);
  }
}

int64_t
core_tcp_recv(lwipy_handle handle, void *buffer, size_t room, int flags)
{
  int peek = (flags & LWIPY_PEEK) != 0;
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  u32_t done;
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if ((flags & LWIPY_WHOLE) && tcp->queue.bytes > room) {
    return tcp->queue.bytes;
  }
  if (tcp->queue.bytes > 0) {
    done = lwipy_rxqueue_get(&tcp->queue, buffer, (u32_t)LWIP_MIN(room, 0x7fffffff), peek);
    if (!peek && tcp->pcb != NULL) {
      lwipy_timers_stir();
      lwipy_autotune_received(tcp, done);
      open_window(tcp, done);
    }
    if ((flags & LWIPY_LAST) && done < room) {
      rearm(tcp);
    }
    return done;
  }
  if (flags & LWIPY_QUEUED) {
    rearm(tcp);
    return LWIPY_EWOULDBLOCK;
  }
  if (tcp->got_fin || tcp->read_shut) {
    return 0;                        /* the end stays the end, whatever happens to the other direction */
  }
  if (tcp->error) {
    return lwipy_tcp_take_error(tcp);
  }
  if (tcp->connected && tcp->pcb == NULL) {
    return 0;
  }
  if (!tcp->connected && !tcp->connecting) {
    return LWIPY_ENOTCONN;
  }
  tcp->end.armed |= LWIPY_READABLE;
  return LWIPY_EWOULDBLOCK;
}

int
core_tcp_shutdown(lwipy_handle handle, int read, int write)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->pcb != NULL && tcp->pcb->state == LISTEN) {
    if (read) {
      /* Ends the listening, as on Linux: whoever waits in accept() gets EINVAL. */
      struct tcp_pcb *pcb;
      lwipy_tcp_remember(tcp);
      memcpy(&tcp->shadow, tcp->pcb, sizeof(tcp->shadow));
      pcb = lwipy_tcp_detach(tcp);
      lwipy_tcp_end_listener(tcp, pcb);
      lwipy_signal(&tcp->end, LWIPY_READABLE);
    }
    return 0;
  }
  if (!tcp->connected) {
    return tcp->error ? lwipy_tcp_take_error(tcp) : LWIPY_ENOTCONN;
  }
  if (read && !tcp->read_shut) {
    u32_t unread = tcp->queue.bytes;
    tcp->read_shut = 1;
    lwipy_rxqueue_clear(&tcp->queue);
    if (tcp->pcb != NULL) {
      open_window(tcp, unread);
    }
    lwipy_signal(&tcp->end, LWIPY_READABLE);
  }
  if (write && !tcp->write_shut) {
    tcp->write_shut = 1;
    if (tcp->pcb == NULL) {
      return LWIPY_ENOTCONN;
    }
    lwipy_timers_stir();
    lwipy_tcp_use_window(tcp);
    lwipy_tcp_start(tcp);
    return tcp_shutdown(tcp->pcb, 0, 1);
  }
  return 0;
}

int
core_tcp_linger(lwipy_handle handle)
{
  struct lwipy_tcp *tcp = lwipy_end_find(handle, LWIPY_KIND_TCP);
  if (tcp == NULL) {
    return LWIPY_EHANDLE;
  }
  if (tcp->pcb == NULL || !tcp->connected) {
    lwipy_signal(&tcp->end, LWIPY_ACKED);
    return 0;
  }
  tcp->lingering = 1;
  if (!tcp->write_shut) {
    tcp->write_shut = 1;
    lwipy_timers_stir();
    lwipy_tcp_use_window(tcp);
    lwipy_tcp_start(tcp);
    return tcp_shutdown(tcp->pcb, 0, 1);
  }
  if (tcp->pcb->unsent == NULL && tcp->pcb->unacked == NULL) {
    lwipy_signal(&tcp->end, LWIPY_ACKED);
  }
  return 0;
}

/* ---- What goes on after the socket was closed --------------------------------------------------------------------- */

static int
may_arrive(const struct tcp_pcb *pcb)
{
  const struct netif *netif = ip_route(&pcb->local_ip, &pcb->remote_ip);
  const struct lwipy_nic *nic = netif != NULL ? lwipy_nic_of(netif) : NULL;
  return netif != NULL && netif_is_up(netif) && netif_is_link_up(netif) &&
         (nic == NULL || nic->wire == NULL || lwipy_wire_leads_somewhere(nic));
}

static void
count_unfinished(void *argument)
{
  int64_t *count = argument;
  const struct tcp_pcb *pcb;
  for (pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    *count += pcb->callback_arg == NULL && pcb->state >= ESTABLISHED && (pcb->unsent != NULL || pcb->unacked != NULL) &&
              may_arrive(pcb);
  }
}

int64_t
core_tcp_unfinished(void)
{
  int64_t count = 0;
  lwipy_demux_each(count_unfinished, &count);
  return count;
}
