/*
 * The peers of benchmarks/group.py: 64 TCP connections whose client side sends without end, as fast as it is heard.
 *
 * Each flow has one frame, which lies in the processor's cache: for the next segment only the sequence number and the
 * sum change. All flows' next frames are one batch, as a link reads them. What comes back is read as far as the
 * acknowledgments; so much that has not been acknowledged is on its way at most, else the thread sleeps. The core's
 * functions are given by pointer, so that it is the very core that Python drives. Several threads may send, each to a
 * core of its own.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define ROOM   (1 << 16)
#define FRAMES 512
#define SHORT_SLEEP 20000          /* nanoseconds, to which the kernel adds its own */
#define PATIENCE    200000

struct group {
  void *core;
  int nic;
  uint32_t flows, first_port, ports, length, data;   /* of a frame, and of what it carries */
  uint64_t ahead;                  /* bytes */
  uint8_t *frames;                 /* flows * length bytes, the next ones to be sent */
  uint32_t *offsets;
  uint32_t *acknowledged;          /* by port, `ports` of them; where its flow's sequence numbers begin */
  int64_t (*receive)(void *, int, const void *, size_t, const uint32_t *, size_t);
  int64_t (*take)(void *, int, void *, size_t, uint32_t *, size_t);
  int64_t (*poll)(void *);
};

static uint32_t
get32(const uint8_t *p)
{
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* RFC 1624: the sum follows the sequence number. */
static void
advance(uint8_t *tcp, uint32_t by)
{
  uint32_t before = get32(tcp + 4), now = before + by;
  uint32_t sum = (uint32_t)(~((uint32_t)tcp[16] << 8 | tcp[17]) & 0xffff);
  sum += (~before & 0xffff) + (~(before >> 16) & 0xffff) + (now & 0xffff) + (now >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~(sum + (sum >> 16));
  tcp[4] = (uint8_t)(now >> 24);
  tcp[5] = (uint8_t)(now >> 16);
  tcp[6] = (uint8_t)(now >> 8);
  tcp[7] = (uint8_t)now;
  tcp[16] = (uint8_t)(sum >> 8);
  tcp[17] = (uint8_t)sum;
}

/* Bytes that were acknowledged since the last time. */
static uint64_t
hear(const struct group *group)
{
  static _Thread_local uint8_t buffer[ROOM];
  static _Thread_local uint32_t at[FRAMES + 1];
  uint64_t bytes = 0;
  int64_t count, i;
  do {
    group->poll(group->core);
    count = group->take(group->core, group->nic, buffer, ROOM, at, FRAMES);
    for (i = 0; i < count; i++) {
      const uint8_t *frame = buffer + at[i];
      uint32_t port = (uint32_t)(frame[36] << 8 | frame[37]) - group->first_port, ack = get32(frame + 42);
      if (at[i + 1] - at[i] >= 54 && port < group->ports && (int32_t)(ack - group->acknowledged[port]) > 0) {
        bytes += ack - group->acknowledged[port];
        group->acknowledged[port] = ack;
      }
    }
  } while (count == FRAMES);
  return bytes;
}

/* Sends so many rounds. Seconds until all but what may be `ahead` has been acknowledged, or -1 when PATIENCE sleeps
   brought nothing. */
double
send_rounds(const struct group *group, uint64_t rounds)
{
  struct timespec began, now, pause = { 0, SHORT_SLEEP };
  uint64_t sent = 0, heard = 0, idle, round;
  uint32_t flow;
  clock_gettime(CLOCK_MONOTONIC, &began);
  for (round = 0; round < rounds; round++) {
    group->receive(group->core, group->nic, group->frames, (size_t)group->flows * group->length, group->offsets,
                   group->flows);
    sent += (uint64_t)group->flows * group->data;
    for (flow = 0; flow < group->flows; flow++) {
      advance(group->frames + (size_t)flow * group->length + 34, group->data);
    }
    heard += hear(group);
    for (idle = 0; sent - heard > group->ahead; heard += hear(group)) {
      if (idle++ == PATIENCE) {
        return -1;
      }
      nanosleep(&pause, NULL);
    }
  }
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9;
}
