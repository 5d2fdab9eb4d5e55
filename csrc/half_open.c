/*
 * Half-open connections: asked for by a SYN, answered, not confirmed.
 *
 * Theory of operation. Anyone can send SYNs with sources that are not his own, as many as the line carries. Each would
 * hold memory until it times out, so there is a table of them, of a size that the stack can bear. While it is full, SYNs
 * are answered without being remembered (cookies.c). lwIP bounds them by listener, to 255 at most, which a flood fills
 * at once: that count is kept at zero.
 *
 * Invariants:
 * 1. The table has exactly the pcbs in SYN_RCVD, each at the place that its extension argument says.
 * 2. Only such pcbs have a listener (`pcb->listener`): a listener that goes leaves no pointer behind.
 */
#include "half_open.h"
#include "demux.h"

#include <string.h>

#include "lwip/mem.h"
#include "lwip/priv/tcp_priv.h"

#define MOST     1024
#define LEAST    32          /* places of the table */
#define BYTES    1024        /* that one of them takes, the answer waiting to be sent again included */

static struct tcp_pcb **table;
static u32_t count, room;

static void
leave(u32_t place)
{
  table[place] = table[--count];
  if (place < count) {
    tcp_ext_arg_set(table[place], 0, (void *)(uintptr_t)place);
  }
  if (count == 0 && room > LEAST) {
    mem_free(table);
    table = NULL;
    room = 0;
  }
}

static void
destroyed(u8_t id, void *place)
{
  LWIP_UNUSED_ARG(id);
  leave((u32_t)(uintptr_t)place);
  lwipy_demux_died();
}

static const struct tcp_ext_arg_callbacks callbacks = { destroyed, NULL };

static int
grow(void)
{
  u32_t more = room != 0 ? room * 2 : LEAST;
  struct tcp_pcb **bigger = mem_malloc(more * sizeof(*bigger));
  if (bigger == NULL) {
    return -1;
  }
  if (table != NULL) {
    memcpy(bigger, table, count * sizeof(*bigger));
    mem_free(table);
  }
  table = bigger;
  room = more;
  return 0;
}

int
lwipy_half_open_is_full(void)
{
  return count >= LWIP_MIN(MOST, lwipy_arena_limit() / 16 / BYTES);
}

err_t
lwipy_half_open_begin(u8_t id, struct tcp_pcb_listen *listener, struct tcp_pcb *pcb)
{
  LWIP_UNUSED_ARG(id);
  LWIP_UNUSED_ARG(listener);
  if (count == room && grow() != 0) {
    return ERR_MEM;
  }
  table[count] = pcb;
  tcp_ext_arg_set(pcb, 0, (void *)(uintptr_t)count++);
  tcp_ext_arg_set_callbacks(pcb, 0, &callbacks);
  tcp_backlog_accepted(pcb);
  lwipy_demux_born();
  return ERR_OK;
}

void
lwipy_half_open_end(struct tcp_pcb *pcb)
{
  leave((u32_t)(uintptr_t)tcp_ext_arg_get(pcb, 0));
  pcb->listener = NULL;
}

void
lwipy_half_open_abort(const void *listener)
{
  u32_t i = count;
  while (i-- > 0) {
    struct tcp_pcb *pcb = table[i];
    if (pcb->callback_arg == listener) {
      lwipy_demux_select_pcb(pcb);
      tcp_arg(pcb, NULL);
      tcp_abort(pcb);               /* the last of the table takes its place, and has been looked at */
    }
  }
}
