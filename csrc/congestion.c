/*
 * The table of congestion controllers, and what those that count losses share.
 *
 * Theory of operation. recovery.c finds out what was delivered and what was lost; a controller decides how much may be
 * in the network. One is chosen for each socket (TCP_CONGESTION), by the names that Linux has. lwIP's own control is in
 * the table too, under its own name: a connection that has chosen it goes without everything the port adds.
 *
 * Invariants:
 * 1. A window grows by bytes delivered, never by the number of acknowledgements: a peer that acknowledges each byte by
 *    itself gains nothing (RFC 3465, RFC 9438 4.2).
 * 2. A window grows only while it is what limits the flight (RFC 9293 3.8.6.2.1, RFC 7661): `ack->limited`.
 * 3. cwnd is at least one segment, ssthresh at least two.
 */
#include "congestion.h"
#include "sending.h"

#include <string.h>

#include "lwip/tcp.h"

static const struct lwipy_controller lwip_alone = { "lwip", NULL, NULL, NULL, NULL, NULL, 0 };

static const struct lwipy_controller *const table[] = { &lwip_alone, &lwipy_cubic, &lwipy_reno, &lwipy_bbr };

int
lwipy_congestion_find(const char *name, size_t length)
{
  int i;
  for (i = 0; i < (int)LWIP_ARRAYSIZE(table); i++) {
    if (strlen(table[i]->name) == length && memcmp(table[i]->name, name, length) == 0) {
      return i;
    }
  }
  return -1;
}

const char *
lwipy_congestion_name(int number)
{
  return table[number]->name;
}

const struct lwipy_controller *
lwipy_congestion_at(int number)
{
  return table[number];
}

/* In the place of the one before; the window stays as it is. */
int
lwipy_congestion_use(struct lwipy_sending *sending, const struct lwipy_controller *controller)
{
  union lwipy_control before = sending->control;
  memset(&sending->control, 0, sizeof(sending->control));
  if (controller->open != NULL && controller->open(sending) != 0) {
    sending->control = before;
    return -1;
  }
  if (sending->controller != NULL && sending->controller->close != NULL) {
    union lwipy_control now = sending->control;
    sending->control = before;
    sending->controller->close(sending);
    sending->control = now;
  }
  if (!controller->alone) {
    sending->pacing_rate = sending->most_rate;
  }
  sending->controller = controller;
  return 0;
}

u32_t
lwipy_slow_start(struct lwipy_sending *sending, u32_t bytes)
{
  u32_t part = sending->ssthresh > sending->cwnd ? LWIP_MIN(bytes, sending->ssthresh - sending->cwnd) : 0;
  sending->cwnd += part;
  return bytes - part;
}
