/*
 * Buffers that grow with the way: as much may be on its way as the bandwidth times the round trip.
 *
 * Theory of operation. 256 KB fill a line of 100 Mbit/s for 20 ms. Beyond that a connection's buffers grow by
 * themselves, up to 4 MB, until the application sets SO_SNDBUF or SO_RCVBUF. The send buffer follows the congestion
 * window: twice that, so that the application can refill while the window is on its way, and three times where the
 * window grows during recovery too (BBR). The receive buffer follows the application: when within one round trip it has
 * read more than a part of the buffer, the buffer limits (dynamic right-sizing, as in Linux). How long a round trip is
 * the receiving side knows from the handshake; if that had to be repeated, it assumes UNKNOWN_WAY. A kernel of this
 * machine, which hands over segments whole through a device, is not nearer than LEAST_WAY: each side sleeps until the
 * other has used up the window, and what is on its way has to outlast that. There NEAR_MOST is enough: all windows
 * together have to lie in the device's queue, which is 500 frames, and drops what is more.
 *
 * A device that takes long frames (bundle.c) has a reader that keeps each for as long as it copies it: the send buffer
 * grows until there is room for the next ones meanwhile.
 *
 * Invariants:
 * 1. Buffers grow only where a round trip takes LEAST_WAY: on shorter ones a larger window has nothing to fill. Beyond
 *    that, the send buffer grows up to NEAR_MOST where frames are long.
 * 2. A window that was announced is never taken back (RFC 9293 3.8.6).
 */
#include "tcp_endpoint.h"
#include "netif.h"

#define LEAST_WAY   2000           /* microseconds */
#define NEAR_MOST   ((u32_t)1 << 20)   /* bytes of a buffer, towards a kernel of this machine */
#define UNKNOWN_WAY 100000
#define PIECE       16             /* segments that are worth waking an application for */

void
lwipy_autotune_shaken(struct lwipy_tcp *tcp, u32_t rtt)
{
  tcp->way = rtt != 0 ? rtt : UNKNOWN_WAY;
}

void
lwipy_autotune_apart(const struct tcp_pcb *pcb)
{
  struct lwipy_tcp *tcp = pcb->callback_arg;
  if (tcp != NULL) {
    tcp->way = LWIP_MAX(tcp->way, LEAST_WAY);
  }
}

/* lwIP says that there is room when the first byte is acknowledged. During recovery that may be a while, and the network
   would run empty: whoever waits is woken by what the peer has beyond the hole. */
static void
wake(const struct lwipy_sending *sending, struct lwipy_tcp *tcp)
{
  const struct tcp_pcb *pcb = sending->pcb;
  if (sending->phase != LWIPY_OPEN && (tcp->end.armed & LWIPY_WRITABLE) &&
      (lwipy_tcp_has_room(tcp) || (pcb->unsent == NULL && pcb->snd_buf >= (u32_t)PIECE * pcb->mss))) {
    lwipy_signal(&tcp->end, LWIPY_WRITABLE);
  }
}

/* How far the send buffer may grow. */
static u32_t
most_to_send(const struct lwipy_sending *sending)
{
  const struct netif *netif = lwipy_netif_by_index(sending->nic);
  const struct lwipy_nic *nic = netif != NULL ? lwipy_nic_of(netif) : NULL;
  if (sending->min_rtt >= LEAST_WAY && sending->min_rtt != UINT32_MAX) {
    return LWIPY_WND_MAX;
  }
  return nic != NULL && nic->long_frames ? NEAR_MOST : 0;
}

void
lwipy_autotune_send(const struct lwipy_sending *sending)
{
  struct lwipy_tcp *tcp = sending->pcb->callback_arg;
  u32_t wanted, windows = sending->controller->alone ? 3 : 2;
  if (tcp == NULL) {
    return;
  }
  if (!tcp->sndbuf_fixed) {
    wanted = LWIP_MIN(windows * LWIP_MIN(sending->cwnd, LWIPY_WND_MAX), most_to_send(sending));
    if (wanted > tcp->sndbuf) {
      sending->pcb->snd_buf += wanted - tcp->sndbuf;
      tcp->sndbuf = wanted;
    }
  }
  wake(sending, tcp);
}

/* The application has read `length` bytes. */
void
lwipy_autotune_received(struct lwipy_tcp *tcp, u32_t length)
{
  struct tcp_pcb *pcb = tcp->pcb;
  u32_t now = lwipy_now32(), wanted, most = tcp->way > LEAST_WAY ? LWIPY_WND_MAX : NEAR_MOST;
  if (tcp->rcvbuf_fixed || !(pcb->flags & TF_WND_SCALE) || tcp->rcvbuf >= most || tcp->way < LEAST_WAY) {
    return;
  }
  tcp->read += length;
  if (now - tcp->read_since < tcp->way) {
    return;
  }
  wanted = LWIP_MIN(tcp->read, most / 4) * 4;
  if (tcp->read > tcp->rcvbuf / 4 && now - tcp->read_since < 4 * tcp->way && wanted > tcp->rcvbuf) {
    pcb->rcv_wnd += wanted - tcp->rcvbuf;
    tcp->rcvbuf = wanted;
    lwipy_tcp_use_window(tcp);
  }
  tcp->read = 0;
  tcp->read_since = now;
}
