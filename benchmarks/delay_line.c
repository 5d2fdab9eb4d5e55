/*
 * A line between two ends: so slow, so long, with such a queue, losing and delaying so much. Built and run by
 * delay_line.py, one process for each line.
 *
 * Theory of operation. An end is a descriptor that gives and takes frames: a TAP device, or a stream with each frame
 * behind its length. A frame from the first end to the second passes, in this order: the coin that loses it; the
 * queue, whose end drops it when `queue` frames wait; the line, which sends `rate` bits a second; the way, which takes
 * `delay`, and for a few frames up to `behind` frames' times longer, so that later ones overtake. The other direction
 * has the delay only. One thread: it sleeps in ppoll() until a frame comes or the next one is due. Frames too small to
 * carry data (ARP, the handshake, bare acknowledgements) are neither lost nor overtaken: a run does not hang on one SYN.
 *
 * Invariants:
 * 1. A way's frames are in the order of `due`, and those that wait for the line are counted in `waiting`.
 * 2. The coins are thrown once for each frame that can carry data, in the order of the frames' coming, and come from
 *    the seed alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LONGEST 2048
#define LEAST   200                /* bytes of a frame that may be lost */
#define BATCH   64
#define FULL_BITS (1514 * 8)
#define SECOND  1000000000ll
#define NEVER   INT64_MAX

struct settings {                  /* as in delay_line.py */
  int64_t delay;                   /* nanoseconds, one way */
  double rate, loss, reorder;      /* bits a second; probabilities */
  int64_t queue, behind;           /* frames */
  uint64_t seed;
};

struct counts {
  int64_t frames, lost, full, overtaken, undelivered, late_sum, late_most;   /* late: nanoseconds */
};

struct frame {
  struct frame *next;
  int64_t due;
  size_t length;
  uint8_t data[4 + LONGEST];       /* behind the length that a stream has */
};

struct end {
  int fd, stream;
  size_t have, used;
  uint8_t buffer[1 << 16];
};

struct way {
  struct end *from, *to;
  const struct settings *set;
  struct counts *count;
  uint64_t random;
  struct frame *first, *last;
  int64_t busy;                    /* the line is, until then */
  int64_t *off;                    /* when each frame that waits will be off the line: a ring; NULL: no line */
  int64_t oldest, waiting;
};

static int64_t
clock_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * SECOND + t.tv_nsec;
}

static double
coin(uint64_t *state)              /* splitmix64: [0, 1) */
{
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* ---- Ends ------------------------------------------------------------------------------------------------------- */

/* One frame, or NULL: nothing there. `*ended`: nor will there be. */
static struct frame *
take(struct end *end, int *ended)
{
  struct frame *frame;
  ssize_t got;
  uint32_t length;
  if (!end->stream) {
    if ((frame = malloc(sizeof(*frame))) == NULL) {
      return NULL;
    }
    got = read(end->fd, frame->data + 4, LONGEST);
    if (got <= 0) {
      free(frame);
      return NULL;
    }
    frame->length = (size_t)got;
    return frame;
  }
  for (;;) {
    uint8_t *at = end->buffer + end->used;
    if (end->have - end->used >= 4) {
      length = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
      if (length > LONGEST) {
        *ended = 1;
        return NULL;
      }
      if (end->have - end->used >= 4 + length) {
        break;
      }
    }
    memmove(end->buffer, at, end->have - end->used);
    end->have -= end->used;
    end->used = 0;
    got = read(end->fd, end->buffer + end->have, sizeof(end->buffer) - end->have);
    if (got <= 0) {
      *ended |= got == 0 || (errno != EAGAIN && errno != EINTR);
      return NULL;
    }
    end->have += (size_t)got;
  }
  if ((frame = malloc(sizeof(*frame))) != NULL) {
    frame->length = length;
    memcpy(frame->data, end->buffer + end->used, 4 + length);
    end->used += 4 + length;
  }
  return frame;
}

static int
give(struct end *end, struct frame *frame)
{
  uint8_t *data = frame->data + 4;
  size_t length = frame->length;
  if (end->stream) {
    data = frame->data;
    data[0] = data[1] = 0;
    data[2] = (uint8_t)(length >> 8);
    data[3] = (uint8_t)length;
    length += 4;
  }
  return write(end->fd, data, length) == (ssize_t)length;
}

/* ---- Ways ------------------------------------------------------------------------------------------------------- */

static void
insert(struct way *way, struct frame *frame)
{
  struct frame **place = way->last != NULL && way->last->due <= frame->due ? &way->last->next : &way->first;
  while (*place != NULL && (*place)->due <= frame->due) {
    place = &(*place)->next;
  }
  frame->next = *place;
  *place = frame;
  if (frame->next == NULL) {
    way->last = frame;
  }
}

/* When the frame will be off the line, or NEVER: the queue is full. */
static int64_t
queue_up(struct way *way, const struct frame *frame, int64_t now)
{
  int64_t places = way->set->queue;
  while (way->waiting > 0 && way->off[way->oldest] <= now) {
    way->oldest = (way->oldest + 1) % places;
    way->waiting--;
  }
  if (way->waiting >= places) {
    return NEVER;
  }
  way->busy = (way->busy > now ? way->busy : now) + (int64_t)((double)frame->length * 8e9 / way->set->rate);
  way->off[(way->oldest + way->waiting++) % places] = way->busy;
  return way->busy;
}

static void
pass(struct way *way, struct frame *frame, int64_t now)
{
  const struct settings *set = way->set;
  way->count->frames++;
  frame->due = now;
  if (way->off != NULL) {
    int64_t late = 0;
    if (frame->length >= LEAST) {
      double lost = coin(&way->random), overtaken = coin(&way->random), by = coin(&way->random);
      if (lost < set->loss) {
        way->count->lost++;
        free(frame);
        return;
      }
      if (overtaken < set->reorder) {
        late = (int64_t)((1 + (int64_t)(by * (double)set->behind)) * FULL_BITS * 1e9 / set->rate) + 1;
        way->count->overtaken++;
      }
    }
    if ((frame->due = queue_up(way, frame, now)) == NEVER) {
      way->count->full++;
      free(frame);
      return;
    }
    frame->due += late;
  }
  frame->due += set->delay;
  insert(way, frame);
}

static int64_t
deliver(struct way *way, int64_t now)
{
  struct frame *frame;
  while ((frame = way->first) != NULL && frame->due <= now) {
    int64_t late = now - frame->due;
    way->first = frame->next;
    if (way->first == NULL) {
      way->last = NULL;
    }
    way->count->late_sum += late;
    way->count->late_most = late > way->count->late_most ? late : way->count->late_most;
    way->count->undelivered += !give(way->to, frame);
    free(frame);
  }
  return frame != NULL ? frame->due : NEVER;
}

/* Up to BATCH frames; 1: there may be more at once. */
static int
take_batch(struct way *way, int *ended)
{
  int64_t now = clock_now();
  struct frame *frame;
  int i;
  for (i = 0; i < BATCH && (frame = take(way->from, ended)) != NULL; i++) {
    pass(way, frame, now);
  }
  return i == BATCH;
}

/* Passes frames until descriptor `until` ends, or the stream does. 0, or -1 without memory. */
int
delay_line(int first, int first_stream, int second, int until, const struct settings *set, struct counts counts[2])
{
  static struct end a, b;
  struct way there = {.from = &a, .to = &b, .set = set, .count = &counts[0], .random = set->seed};
  struct way back = {.from = &b, .to = &a, .set = set, .count = &counts[1]};
  struct pollfd polled[3] = {{first, POLLIN, 0}, {second, POLLIN, 0}, {until, POLLIN, 0}};
  int ended = 0, more = 0;
  a.fd = first;
  a.stream = first_stream;
  b.fd = second;
  if ((there.off = calloc((size_t)set->queue, sizeof(*there.off))) == NULL) {
    return -1;
  }
  prctl(PR_SET_TIMERSLACK, 1ul);
  while (!ended && !(polled[2].revents & (POLLIN | POLLHUP))) {
    int64_t now = clock_now(), due = deliver(&there, now), due_back = deliver(&back, now), wait;
    struct timespec timeout;
    due = due < due_back ? due : due_back;
    wait = more ? 0 : due == NEVER ? SECOND : due > now ? due - now : 0;
    timeout.tv_sec = wait / SECOND;
    timeout.tv_nsec = wait % SECOND;
    ppoll(polled, 3, &timeout, NULL);
    more = take_batch(&there, &ended) | take_batch(&back, &ended);
  }
  free(there.off);
  return 0;
}
