/*
 * The peers of benchmarks/segments.py: TCP connections whose client side sends without end, as fast as it is heard.
 *
 * Each flow has one frame, which lies in the processor's cache: for the next segment only the sequence number and the
 * sum change. All flows' next frames are one batch, as a link reads them. What comes back is read as far as the
 * acknowledgments; so much that has not been acknowledged is on its way at most. The core's functions are given by
 * pointer, so that it is the very core that Python drives. Several threads may send, each to a core of its own; what one
 * sends, another may hear, where a flow's answers leave by another queue than its frames came to: they have one account.
 *
 * In a slice all threads begin at once, and one of them keeps the clock for all: the clocks of a virtual machine's
 * processors may differ, and those of others than the first may step by 20 ms.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define ROOM   (1 << 16)
#define FRAMES 512
#define WARM_UP 8                  /* rounds before a slice: what another processor had in its cache comes to this one's */
#define SHORT_SLEEP 20000          /* nanoseconds, to which the kernel adds its own */
#define PATIENCE    200000

/* What of some flows is on its way; several threads may send them, and others hear. */
struct account {
  uint32_t first_port, ports;
  uint32_t *acknowledged;          /* by port, `ports` of them; where its flow's sequence numbers begin */
  uint64_t ahead;                  /* bytes */
  uint8_t gap[64];                 /* what is written lies on lines of its own */
  uint64_t sent;                   /* atomic: bytes */
  uint8_t gap_after_sent[64];
  uint64_t heard;                  /* atomic */
};

struct peer {
  void *core;
  int nic;
  uint32_t flows, length, data;    /* of a frame, and of what it carries */
  uint8_t *frames;                 /* flows * length bytes, the next ones to be sent */
  uint32_t *offsets;
  struct account *account;         /* of these flows, and of those that are heard */
  int64_t (*receive)(void *, int, const void *, size_t, const uint32_t *, size_t);
  int64_t (*take)(void *, int, void *, size_t, uint32_t *, size_t);
  int64_t (*poll)(void *);
};

struct slice {
  uint32_t ready, over;            /* atomic: threads that wait for the others; the time is over */
  double seconds;                  /* that it took */
};

static uint32_t
get32(const uint8_t *p)
{
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static double
now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
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

static void
hear(const struct peer *peer)
{
  static _Thread_local uint8_t buffer[ROOM];
  static _Thread_local uint32_t at[FRAMES + 1];
  struct account *account = peer->account;
  uint64_t bytes = 0;
  int64_t count, i;
  do {
    peer->poll(peer->core);
    count = peer->take(peer->core, peer->nic, buffer, ROOM, at, FRAMES);
    for (i = 0; i < count; i++) {
      const uint8_t *frame = buffer + at[i];
      uint32_t port = (uint32_t)(frame[36] << 8 | frame[37]) - account->first_port, ack = get32(frame + 42);
      if (at[i + 1] - at[i] >= 54 && port < account->ports && (int32_t)(ack - account->acknowledged[port]) > 0) {
        bytes += ack - account->acknowledged[port];
        account->acknowledged[port] = ack;
      }
    }
  } while (count == FRAMES);
  __atomic_add_fetch(&account->heard, bytes, __ATOMIC_RELAXED);
}

static int
may_send(const struct peer *peer)
{
  uint64_t heard = __atomic_load_n(&peer->account->heard, __ATOMIC_RELAXED);
  return __atomic_load_n(&peer->account->sent, __ATOMIC_RELAXED) - heard <= peer->account->ahead;
}

/* A segment of each flow. */
static void
send_round(const struct peer *peer)
{
  uint32_t flow;
  __atomic_add_fetch(&peer->account->sent, (uint64_t)peer->flows * peer->data, __ATOMIC_RELAXED);
  peer->receive(peer->core, peer->nic, peer->frames, (size_t)peer->flows * peer->length, peer->offsets, peer->flows);
  for (flow = 0; flow < peer->flows; flow++) {
    advance(peer->frames + (size_t)flow * peer->length + 34, peer->data);
  }
  hear(peer);
}

/* Seconds until so many rounds, all but what may be `ahead`, have been acknowledged; -1 when PATIENCE sleeps brought
   nothing. */
double
send_rounds(const struct peer *peer, uint64_t rounds)
{
  struct timespec pause = { 0, SHORT_SLEEP };
  double began = now();
  uint64_t idle;
  while (rounds-- > 0) {
    send_round(peer);
    for (idle = 0; !may_send(peer); hear(peer)) {
      if (idle++ == PATIENCE) {
        return -1;
      }
      nanosleep(&pause, NULL);
    }
  }
  return now() - began;
}

/* How many segments it sent. */
static uint64_t
send_or_hear(const struct peer *peer)
{
  if (may_send(peer)) {
    send_round(peer);
    return peer->flows;
  }
  hear(peer);
  return 0;
}

/* Sends, or only keeps the clock where `peer` is NULL, until `seconds` are over, if this thread keeps it (`seconds` > 0),
   or until that one says so; with `threads` in all. How many segments it sent. */
uint64_t
send_slice(const struct peer *peer, struct slice *slice, uint32_t threads, double seconds)
{
  double began, time;
  uint64_t sent = 0;
  int i;
  for (i = 0; peer != NULL && i < WARM_UP; i++) {
    send_or_hear(peer);
  }
  __atomic_add_fetch(&slice->ready, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&slice->ready, __ATOMIC_SEQ_CST) != threads) {
  }
  began = time = seconds > 0 ? now() : 0;
  while (!__atomic_load_n(&slice->over, __ATOMIC_RELAXED)) {
    sent += peer != NULL ? send_or_hear(peer) : 0;
    if (seconds > 0 && (time = now()) - began >= seconds) {
      slice->seconds = time - began;
      __atomic_store_n(&slice->over, 1, __ATOMIC_RELAXED);
    }
  }
  return sent;
}
