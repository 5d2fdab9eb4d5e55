/*
 * A capture: the stage that writes every frame it sees, in both directions, to a file that Wireshark reads.
 *
 * Theory of operation. The format is libpcap's with stamps of nanoseconds (magic 0xa1b23c4d, native byte order; IETF
 * draft-ietf-opsawg-pcap), link type Ethernet or raw IP. A stamp is the wall clock's time at the start plus what has
 * passed by the stack's clock since; so virtual time works, and a wall clock that is set in between does no harm.
 * Records gather in a buffer, which is written when it holds FLUSH_AT bytes, FLUSH_AFTER after its first record, on
 * request and at the end.
 *
 * Invariants:
 * 1. Traffic never waits for the file. What is no regular file (a pipe to Wireshark, a terminal) is only given what it
 *    takes at once; frames that do not fit into the buffer meanwhile are counted as dropped.
 * 2. The first error of writing ends the recording for good, is kept in `error` and reported by LWIPY_HAS_TROUBLE.
 * 3. The descriptor belongs to the capture, from the call that adds it on, until the stage ends.
 */
#include "netif.h"
#include "stage.h"

#include <errno.h>
#include <string.h>

#include "lwip/mem.h"

#define MAGIC_NS       0xa1b23c4du
#define LINK_ETHERNET  1
#define LINK_RAW_IP    101
#define FLUSH_AT       ((size_t)64 << 10)
#define FLUSH_AFTER    100000                 /* microseconds */
#define ROOM           (FLUSH_AT + sizeof(struct record) + UINT16_MAX)

struct file_header {
  u32_t magic;
  u16_t major, minor;
  u32_t zone, accuracy, snaplen, link;
};

struct record {
  u32_t seconds, nanoseconds, captured, length;
};

struct capture {
  struct lwipy_stage stage;
  int fd, regular;
  u32_t snaplen;
  int64_t epoch_ns;                    /* the wall clock when the stack's clock was at 0 */
  u8_t *buffer;
  size_t used;
  u64_t buffered;                      /* frames in the buffer */
  int64_t flush_due;
  lwipy_capture_counters count;
};

static void
fail(struct capture *capture)
{
  capture->count.error = errno != 0 ? errno : EIO;
  capture->count.frames -= capture->buffered;
  capture->count.dropped += capture->buffered;
  capture->used = 0;
  capture->buffered = 0;
  lwipy_atomic_or(&lwipy_self->attention, LWIPY_HAS_TROUBLE);
}

static void
flush(struct capture *capture)
{
  size_t done = 0;
  capture->flush_due = LWIPY_NEVER;
  while (done < capture->used) {
    long written = lwipy_file_write(capture->fd, capture->regular, capture->buffer + done, capture->used - done);
    if (written < 0) {
      fail(capture);
      return;
    }
    if (written == 0) {
      capture->flush_due = lwipy_now() + FLUSH_AFTER;
      lwipy_stage_wake(capture->flush_due);
      break;
    }
    done += (size_t)written;
    capture->count.bytes += (u64_t)written;
  }
  capture->used -= done;
  memmove(capture->buffer, capture->buffer + done, capture->used);
  if (capture->used == 0) {
    capture->buffered = 0;
  }
}

static void
append(struct capture *capture, const struct pbuf *p)
{
  int64_t now_ns = capture->epoch_ns + lwipy_now_ns();
  struct record record;
  record.seconds = (u32_t)(now_ns / 1000000000);
  record.nanoseconds = (u32_t)(now_ns % 1000000000);
  record.captured = LWIP_MIN(p->tot_len, capture->snaplen);
  record.length = p->tot_len;
  if (capture->count.error != 0 || capture->used + sizeof(record) + record.captured > ROOM) {
    capture->count.dropped++;
    return;
  }
  memcpy(capture->buffer + capture->used, &record, sizeof(record));
  pbuf_copy_partial(p, capture->buffer + capture->used + sizeof(record), (u16_t)record.captured, 0);
  capture->used += sizeof(record) + record.captured;
  capture->buffered++;
  capture->count.frames++;
  if (capture->used >= FLUSH_AT) {
    flush(capture);
  } else if (capture->flush_due == LWIPY_NEVER) {
    capture->flush_due = lwipy_now() + FLUSH_AFTER;
    lwipy_stage_wake(capture->flush_due);
  }
}

static void
capture_frame(struct lwipy_stage *stage, int direction, const struct pbuf *p)
{
  append((struct capture *)stage, p);
  lwipy_stage_pass(stage, direction, p);
}

static int64_t
capture_run(struct lwipy_stage *stage, int64_t now)
{
  struct capture *capture = (struct capture *)stage;
  if (capture->flush_due <= now) {
    flush(capture);
  }
  return capture->flush_due;
}

static void
capture_end(struct lwipy_stage *stage, int pass_on)
{
  struct capture *capture = (struct capture *)stage;
  LWIP_UNUSED_ARG(pass_on);
  flush(capture);
  lwipy_file_close(capture->fd);
  mem_free(capture->buffer);
}

static const struct lwipy_stage_kind capture_kind = { capture_frame, capture_run, capture_end };

/* ---- The border ------------------------------------------------------------------------------------------------------- */

static void
write_file_header(struct capture *capture)
{
  struct file_header header;
  memset(&header, 0, sizeof(header));
  header.magic = MAGIC_NS;
  header.major = 2;
  header.minor = 4;
  header.snaplen = capture->snaplen;
  header.link = capture->stage.nic->layer == LWIPY_L2 ? LINK_ETHERNET : LINK_RAW_IP;
  memcpy(capture->buffer, &header, sizeof(header));
  capture->used = sizeof(header);
  flush(capture);
}

static struct capture *
capture_new(struct lwipy_nic *nic, int at_wire)
{
  u8_t *buffer = mem_malloc(ROOM);
  struct capture *capture;
  if (buffer == NULL) {
    return NULL;
  }
  capture = lwipy_stage_new(nic, &capture_kind, at_wire ? LWIPY_RANK_WIRE : LWIPY_RANK_NESTED, sizeof(*capture));
  if (capture == NULL) {
    mem_free(buffer);
    return NULL;
  }
  capture->buffer = buffer;
  return capture;
}

int
core_capture_add(int number, int fd, int at_wire, uint32_t snaplen, int64_t start_ns)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  struct capture *capture = nic != NULL ? capture_new(nic, at_wire) : NULL;
  if (capture == NULL) {
    lwipy_file_close(fd);
    return nic == NULL ? LWIPY_ENODEV : LWIPY_EMEM;
  }
  capture->fd = fd;
  capture->regular = lwipy_file_is_regular(fd);
  capture->snaplen = snaplen;
  capture->epoch_ns = start_ns - lwipy_now_ns();
  write_file_header(capture);
  return capture->stage.number;
}

int
core_capture_flush(int number, int stage)
{
  struct capture *capture = lwipy_stage_find(number, stage, &capture_kind);
  if (capture == NULL) {
    return LWIPY_ENODEV;
  }
  flush(capture);
  return 0;
}

int
core_capture_get_counters(int number, int stage, lwipy_capture_counters *out)
{
  struct capture *capture = lwipy_stage_find(number, stage, &capture_kind);
  if (capture == NULL) {
    return LWIPY_ENODEV;
  }
  *out = capture->count;
  out->pending = capture->used;
  return 0;
}

int
core_clear_trouble(void)
{
  lwipy_atomic_and(&lwipy_self->attention, ~(uint32_t)LWIPY_HAS_TROUBLE);
  return 0;
}
