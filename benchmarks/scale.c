/*
 * Many connections between two stacks of one process, driven from C: what the core costs without Python.
 *
 * benchmarks/native.py builds this with the core's own sources into a library; lwipy_open() loads its copies from there.
 */
#include "lwipy.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PORTS 4
#define BATCH 64

#define EXPORT __attribute__((visibility("default")))

struct scale {
  double setup, teardown;          /* connections a second */
  double segment;                  /* nanoseconds for a frame, both ends and the application in it */
  double memory;                   /* bytes for an idle end */
  double idle;                     /* share of a processor while all rest, looked at every 10 ms */
};

EXPORT int bench_scale(uint32_t count, int one_bucket, uint32_t rounds, struct scale *out);
EXPORT double bench_set_up(uint32_t count);            /* connections a second, of stacks that are new; or below 0 */

static lwipy_core *server, *client;
static lwipy_handle *ends, *peers, listeners[PORTS];

static double
used(void)
{
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static lwipy_address
ip(uint8_t last, uint16_t port)
{
  lwipy_address address = {4, {10, 0, 0, last}, port, 0};
  return address;
}

static lwipy_core *
open_stack(int one_bucket, uint8_t last, int *nic)
{
  lwipy_options options = {.memory = (uint64_t)1 << 30, .without = one_bucket ? LWIPY_WITHOUT_DEMUX : 0};
  uint8_t mac[6] = {2, 0, 0, 0, 0, last};
  lwipy_address address = ip(last, 0);
  char error[256];
  lwipy_core *core = lwipy_open(&options, error, sizeof(error));
  if (core != NULL) {
    *nic = lwipy_netif_add(core, LWIPY_L2, mac, 1500);
    lwipy_netif_set_ipv4(core, *nic, &address, 24);
    lwipy_netif_set_checksums(core, *nic, 0);
  }
  return core;
}

static uint32_t
turn(uint32_t accepted)
{
  lwipy_accepted found[BATCH];
  int i, n, count;
  lwipy_poll(client);
  lwipy_poll(server);
  lwipy_poll(client);
  lwipy_poll(server);
  for (i = 0; i < PORTS; i++) {
    while ((count = lwipy_tcp_accept_many(server, listeners[i], found, BATCH)) > 0) {
      for (n = 0; n < count; n++) {
        peers[accepted++] = found[n].handle;
      }
    }
  }
  return accepted;
}

static double
set_up(uint32_t count)
{
  uint32_t i, accepted = 0;
  double started = used();
  for (i = 0; i < count; i++) {
    lwipy_address to = ip(1, (uint16_t)(80 + i % PORTS));
    lwipy_accepted made;
    if (lwipy_tcp_open(client, &to, &made) != 0) {
      return -1;
    }
    ends[i] = made.handle;
    if (i % BATCH == BATCH - 1) {
      accepted = turn(accepted);
    }
  }
  accepted = turn(accepted);
  return accepted == count ? count / (used() - started) : -1;
}

static uint64_t
frames(int nic_a, int nic_b)
{
  lwipy_netif_counters a, b;
  lwipy_netif_get_counters(server, nic_a, &a);
  lwipy_netif_get_counters(client, nic_b, &b);
  return a.rx_frames + b.rx_frames;
}

/* One byte on each of BATCH connections, in an order that no cache knows; and all that has come is read. */
static void
say(lwipy_core *from, const lwipy_handle *handles, uint32_t count, uint32_t seed)
{
  lwipy_event events[4 * BATCH];
  char buffer[64];
  uint32_t i, at = seed * 2654435761u + 1;
  int got, n;
  for (i = 0; i < BATCH; i++) {
    at = at * 1664525u + 1013904223u;
    lwipy_tcp_send(from, handles[(uint64_t)at * count >> 32], "x", 1);
  }
  lwipy_poll(client);
  lwipy_poll(server);
  lwipy_poll(client);
  for (i = 0; i < 2; i++) {
    lwipy_core *core = i == 0 ? server : client;
    while ((got = lwipy_events(core, events, 4 * BATCH)) > 0) {
      for (n = 0; n < got; n++) {
        while (lwipy_tcp_recv(core, events[n].handle, buffer, sizeof(buffer), 0) > 0) {
        }
      }
    }
  }
}

static double
exchange(uint32_t count, uint32_t rounds, int nic_a, int nic_b)
{
  uint64_t before = frames(nic_a, nic_b);
  double started = used(), seconds;
  uint32_t i;
  for (i = 0; i < rounds; i++) {
    say(client, ends, count, i * BATCH);
    say(server, peers, count, i * BATCH);
  }
  seconds = used() - started;
  return seconds * 1e9 / (double)(frames(nic_a, nic_b) - before);
}

static void
rest(double seconds)
{
  struct timespec pause = {0, 10000000};
  int i;
  for (i = 0; i < (int)(seconds * 100); i++) {
    lwipy_poll(client);
    lwipy_poll(server);
    nanosleep(&pause, NULL);
  }
}

static double
memory(void)
{
  lwipy_statistics a, b;
  lwipy_get_statistics(server, &a);
  lwipy_get_statistics(client, &b);
  return (double)(a.memory_used + b.memory_used);
}

static void
measure(uint32_t count, uint32_t rounds, int nic_a, int nic_b, struct scale *out)
{
  double before = memory(), started;
  uint32_t i;
  out->setup = set_up(count);
  rest(0.2);
  out->memory = (memory() - before) / 2 / count;
  exchange(count, rounds / 4 + 1, nic_a, nic_b);
  out->segment = exchange(count, rounds, nic_a, nic_b);
  rest(0.5);
  started = used();
  rest(1.0);
  out->idle = used() - started;
  started = used();
  for (i = 0; i < count; i++) {
    lwipy_release(client, ends[i]);
  }
  out->teardown = count / (used() - started);
}

static int
open_pair(uint32_t count, int one_bucket, int *nic_a, int *nic_b)
{
  int i;
  ends = calloc(count, sizeof(*ends));
  peers = calloc(count + 1, sizeof(*peers));
  server = open_stack(one_bucket, 1, nic_a);
  client = open_stack(one_bucket, 2, nic_b);
  if (ends == NULL || peers == NULL || server == NULL || client == NULL ||
      lwipy_wire(server, *nic_a, client, *nic_b, 0) != 0) {
    return -1;
  }
  for (i = 0; i < PORTS; i++) {
    lwipy_address address = ip(1, (uint16_t)(80 + i));
    lwipy_socket(server, LWIPY_TCP, 4, 0, &listeners[i]);
    lwipy_bind(server, listeners[i], &address);
    lwipy_set_option(server, listeners[i], LWIPY_OPT_NODELAY, 1);
    lwipy_tcp_listen(server, listeners[i], 65535);
  }
  return 0;
}

static void
close_pair(void)
{
  if (client != NULL) {
    lwipy_close(client);
  }
  if (server != NULL) {
    lwipy_close(server);
  }
  free(ends);
  free(peers);
}

int
bench_scale(uint32_t count, int one_bucket, uint32_t rounds, struct scale *out)
{
  int nic_a, nic_b, result = open_pair(count, one_bucket, &nic_a, &nic_b);
  if (result == 0) {
    measure(count, rounds, nic_a, nic_b, out);
    result = out->setup < 0 ? -1 : 0;
  }
  close_pair();
  return result;
}

double
bench_set_up(uint32_t count)
{
  int nic_a, nic_b;
  double rate = open_pair(count, 0, &nic_a, &nic_b) == 0 ? set_up(count) : -1;
  close_pair();
  return rate;
}
