/*
 * What lwIP asks of its port: time, random numbers, sums, and what to do when an assertion fails.
 */
#include "core.h"

#include <stdio.h>
#include <string.h>

#include "lwip/ip_addr.h"
#include "lwip/sys.h"

u32_t lwipy_rcvbuf;

static u64_t secret[2];        /* of this core; see lwipy_keyed_hash() */
static u64_t random_counter;
static int64_t manual_time = -1;

/* ---- Time ------------------------------------------------------------------------------------------------- */

static int64_t latest;

/* Some virtual machines' monotonic clocks step back by milliseconds from one processor to the next. */
int64_t
lwipy_now(void)
{
  int64_t now = manual_time >= 0 ? manual_time : lwipy_monotonic();
  if (now > latest) {
    latest = now;
  }
  return latest;
}

/* When somebody last asked: no older than the call of the border that is under way. */
int64_t
lwipy_latest(void)
{
  return latest;
}

int64_t
lwipy_now_ns(void)
{
  return manual_time >= 0 ? manual_time * 1000 : lwipy_monotonic_ns();
}

u32_t
sys_now(void)
{
  return (u32_t)(lwipy_now() / 1000);
}

void
lwipy_port_open(const lwipy_options *options)
{
  if (options->manual_clock) {
    manual_time = LWIP_MAX(options->start, 0);
  }
  if (options->seed != 0) {
    secret[0] = options->seed;
    secret[1] = ~options->seed;
  } else if (lwipy_system_random(secret, sizeof(secret)) != 0) {
    lwipy_assertion_failed("the system gives no random numbers", __FILE__, __LINE__);
  }
}

/* Time never runs backwards in a core: lwIP's timers could not bear it. */
int
core_set_time(int64_t now)
{
  if (now > manual_time) {
    manual_time = now;
  }
  return 0;
}

/* ---- Random numbers and initial sequence numbers ---------------------------------------------------------- */

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND do { \
    v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32); \
    v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2; \
    v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0; \
    v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32); \
  } while (0)

/* SipHash-2-4 of whole 64-bit words: a keyed function that cannot be predicted without the secret. */
u64_t
lwipy_keyed_hash(const u64_t *words, size_t count)
{
  u64_t v0 = secret[0] ^ 0x736f6d6570736575ULL, v1 = secret[1] ^ 0x646f72616e646f6dULL;
  u64_t v2 = secret[0] ^ 0x6c7967656e657261ULL, v3 = secret[1] ^ 0x7465646279746573ULL;
  u64_t last = (u64_t)(count * 8) << 56;
  size_t i;
  for (i = 0; i <= count; i++) {
    u64_t m = i < count ? words[i] : last;
    v3 ^= m;
    SIPROUND;
    SIPROUND;
    v0 ^= m;
  }
  v2 ^= 0xff;
  SIPROUND;
  SIPROUND;
  SIPROUND;
  SIPROUND;
  return v0 ^ v1 ^ v2 ^ v3;
}

uint32_t
lwipy_rand(void)
{
  u64_t counter = ++random_counter;
  return (u32_t)lwipy_keyed_hash(&counter, 1);
}

/* Of a connection's two ends; what follows from it may be seen by everybody. */
u64_t
lwipy_ends_hash(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
  u64_t words[5], ports = (u64_t)local_port << 16 | remote_port;
  if (IP_IS_V6(remote)) {
    memcpy(&words[0], ip_2_ip6(local)->addr, 16);
    memcpy(&words[2], ip_2_ip6(remote)->addr, 16);
    words[4] = ports;
    return lwipy_keyed_hash(words, 5);
  }
  words[0] = (u64_t)ip4_addr_get_u32(ip_2_ip4(local)) << 32 | ip4_addr_get_u32(ip_2_ip4(remote));
  words[1] = ports;
  return lwipy_keyed_hash(words, 2);
}

/* RFC 6528: a clock of 4 microseconds plus a keyed hash of the connection's two ends. */
u32_t
lwipy_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
  return (u32_t)lwipy_ends_hash(local, local_port, remote, remote_port) + (u32_t)(lwipy_latest() / 4);
}

/* ---- Assertions -------------------------------------------------------------------------------------------- */

/* A broken assertion ends this core, never the process: control goes back to the border (instance.c). */
void
lwipy_assertion_failed(const char *text, const char *file, int line)
{
  const char *name = strrchr(file, '/');
  snprintf(lwipy_self->failure, sizeof(lwipy_self->failure), "%s (%s:%d)", text, name ? name + 1 : file, line);
  LWIPY_LONGJMP(lwipy_self->unwind, 1);
}

void
lwipy_assert_core_locked(void)
{
  if (!lwipy_self->entered || !lwipy_thread_is(lwipy_self->owner)) {
    lwipy_assertion_failed("core used without its lock", __FILE__, __LINE__);
  }
}
