/*
 * The border between Python and C: what stands here is the cdef, and nothing else crosses.
 *
 * Every function declared with a `lwipy_core *core` first takes that core's lock, runs inside the core's own
 * copy of lwIP and gives the lock back (instance.c; the code is generated from this file by build_ffi.py).
 * It answers with a value >= 0, or with one of the LWIPY_E codes (lwipy_types.h). Those marked "no lock" are written
 * by hand.
 * Handles name endpoints: a generation in the upper 32 bits, a slot in the lower; a stale one gets LWIPY_EHANDLE.
 * Times are microseconds, lengths bytes.
 */
#ifndef LWIPY_H
#define LWIPY_H

#include "lwipy_types.h"

/* ---- A core and its life (no lock) ----------------------------------------------------------------------- */
lwipy_core *lwipy_open(const lwipy_options *options, char *error, size_t error_size);
void lwipy_close(lwipy_core *core);
const char *lwipy_failure(lwipy_core *core);
uint32_t *lwipy_attention(lwipy_core *core);
const char *lwipy_version(void);

int lwipy_wire(lwipy_core *core_a, int nic_a, lwipy_core *core_b, int nic_b, int offload);   /* 1: wire_offload.c */
/* Drives the core and sleeps, at most so long (-1: without end); the attention word when Python is needed, 0 when the
   time is over, or a code. The core's lock is not held in the sleep. */
int lwipy_run(lwipy_core *core, int64_t microseconds);
/* The same for a driver's thread beside which other threads may wait and drive, see leader.c. */
int lwipy_serve(lwipy_core *core, int64_t microseconds);
void lwipy_admit(lwipy_core *core, int on);        /* there is a driver's thread, and threads may wait; or no longer */
/* Waits for an endpoint, after an operation that had to wait; drives the core meanwhile if nobody else does. 1: it is
   worth another try, 2: a signal came, 0: the time is over, ENOTSUP: threads do not wait here, or another code. */
int lwipy_wait(lwipy_core *core, lwipy_handle handle, int wanted, int64_t microseconds);
/* lwipy_tcp_recv and lwipy_tcp_send that wait, the latter until everything is sent: see blocking.c. */
int64_t lwipy_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int flags, int64_t microseconds);
int64_t lwipy_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length, int64_t microseconds,
                   lwipy_hold *hold);   /* NULL: the bytes are copied; what the core refers to has references of its own */
int64_t lwipy_poll(lwipy_core *core);              /* runs what is due and ready; microseconds to the next deadline, or -1 */
void lwipy_wake(lwipy_core *core);                 /* ends a sleep; any thread */
/* For an event loop that sleeps by itself: readable when lwipy_poll() has something to do. */
int lwipy_wake_fd(lwipy_core *core);
void lwipy_wake_clear(lwipy_core *core);           /* forgets lwipy_wake(), before lwipy_poll() */

/* ---- Time and events ------------------------------------------------------------------------------------- */
int lwipy_set_time(lwipy_core *core, int64_t now);
int64_t lwipy_turn(lwipy_core *core, const lwipy_readiness *ready, int count);   /* a part of lwipy_poll, see loop.c */
int64_t lwipy_deadline(lwipy_core *core);          /* as lwipy_poll, without running anything */
int lwipy_events(lwipy_core *core, lwipy_event *out, int room);
int lwipy_get_statistics(lwipy_core *core, lwipy_statistics *out);
int lwipy_fail(lwipy_core *core, const char *text);   /* as a failed assertion of lwIP's does; for tests */

/* ---- Interfaces (number 1.. as lwIP's netif index) -------------------------------------------------------- */
int lwipy_netif_add(lwipy_core *core, int layer, const uint8_t *mac, int mtu);
int lwipy_netif_remove(lwipy_core *core, int nic);
int lwipy_netif_set_state(lwipy_core *core, int nic, int flags);
int lwipy_netif_flags(lwipy_core *core, int nic);
int lwipy_netif_set_mtu(lwipy_core *core, int nic, int mtu);
int lwipy_netif_set_mac(lwipy_core *core, int nic, const uint8_t *mac);
int lwipy_netif_set_ipv4(lwipy_core *core, int nic, const lwipy_address *address, int prefix);
int lwipy_netif_set_gateway(lwipy_core *core, int nic, const lwipy_address *gateway);
int lwipy_netif_add_ipv6(lwipy_core *core, int nic, const lwipy_address *address, int prefix);
int lwipy_netif_remove_ipv6(lwipy_core *core, int nic, const lwipy_address *address);
int lwipy_netif_get_ipv4(lwipy_core *core, int nic, lwipy_address *address, lwipy_address *netmask, lwipy_address *gateway);
int lwipy_netif_get_ipv6(lwipy_core *core, int nic, int slot, lwipy_address *address, int *prefix, int *state);
int lwipy_netif_autoconfigure(lwipy_core *core, int nic, int on);
int lwipy_netif_set_checksums(lwipy_core *core, int nic, int on);
int lwipy_netif_set_default(lwipy_core *core, int nic);
int lwipy_netif_add_neighbour(lwipy_core *core, int nic, const lwipy_address *address, const uint8_t *mac);
int lwipy_netif_remove_neighbour(lwipy_core *core, int nic, const lwipy_address *address);
int lwipy_netif_get_counters(lwipy_core *core, int nic, lwipy_netif_counters *out);
int lwipy_netif_dhcp_start(lwipy_core *core, int nic, const char *hostname);
int lwipy_netif_dhcp_stop(lwipy_core *core, int nic);
int lwipy_netif_dhcp_bound(lwipy_core *core, int nic);

/* Frames. A packed batch is a run of [32-bit length, host order][frame], without padding. */
int lwipy_netif_receive(lwipy_core *core, int nic, const void *frame, size_t length);
int64_t lwipy_netif_receive_packed(lwipy_core *core, int nic, const void *batch, size_t length);
int64_t lwipy_netif_pending(lwipy_core *core, int nic);   /* bytes that lwipy_netif_take would give */
int64_t lwipy_netif_take(lwipy_core *core, int nic, void *batch, size_t room);
/* The same in one buffer with offsets (batch.c). LWIPY_EOFFSET - i: the i-th offset is wrong; of take: the first frame
   has i bytes, and there is no room for it. */
enum { LWIPY_EOFFSET = -1000000 };
int64_t lwipy_netif_receive_batch(lwipy_core *core, int nic, const void *buffer, size_t length,
                                  const uint32_t *offsets, size_t frames);
int64_t lwipy_netif_take_batch(lwipy_core *core, int nic, void *buffer, size_t room, uint32_t *offsets, size_t frames);
int lwipy_netif_deliver(lwipy_core *core, int nic, int on);   /* 1: frames for the wire set LWIPY_HAS_FRAMES */

/* A link takes over a descriptor, which must be non-blocking, and closes it in the end; a code: it is still the caller's.
   `peer` is the path that unix datagrams go to; without it they go where the socket is connected to, or to whoever sent
   the last one. */
int lwipy_link_open(lwipy_core *core, int nic, int kind, int fd, const char *peer, size_t peer_length);
/* What the device of an LWIPY_LINK_VNET has agreed to do: LWIPY_OFFLOAD_... bits. */
int lwipy_link_set_offload(lwipy_core *core, int nic, int features);
/* A guest's rings take the link's place (link_vhost.c). The core keeps `kick` and `call` of both, and closes them in
   the end; a code: they are still the caller's. The file of a region is not needed afterwards. */
int lwipy_vhost_open(lwipy_core *core, int nic, const lwipy_vhost_device *device);
int lwipy_vhost_bases(lwipy_core *core, int nic, uint32_t *out);   /* the index at which each ring is to go on */
int lwipy_vhost_set_call(lwipy_core *core, int nic, int ring, int fd);   /* -1 for none; takes it over, as above */
int lwipy_link_close(lwipy_core *core, int nic);   /* the interface has a link, but no wire now: its link is down */
int lwipy_link_get_status(lwipy_core *core, int nic, lwipy_link_status *out);
int lwipy_link_news(lwipy_core *core, lwipy_link_event *out, int room);

/* Descriptors of Python's: their numbers come back from lwipy_watched() when they are ready. */
int lwipy_watch(lwipy_core *core, int fd, int number, int write);
int lwipy_unwatch(lwipy_core *core, int fd);
int lwipy_watched(lwipy_core *core, int *out, int room);

/* One interface for several stacks (steer.c). `own` is the member's number that the core has, -1 if it is the front;
   `add` makes the inner interface that leads to another one, and answers with its number. `pick` (no lock) is the member
   that has the flow between two ends, or their fragments. The cores of one interface share something (no lock). */
enum { LWIPY_STEER_MOST = 64 };
struct lwipy_shared *lwipy_shared_new(void);       /* NULL: no memory */
void lwipy_shared_drop(struct lwipy_shared *shared);
int lwipy_steer_open(lwipy_core *core, int nic, uint64_t key, int count, int own,
                     struct lwipy_shared *shared);
int lwipy_steer_add(lwipy_core *core, int nic, int member);
int lwipy_steer_get_counters(lwipy_core *core, int nic, lwipy_steer_counters *out);
int lwipy_steer_pick(uint64_t key, int count, const lwipy_address *a, const lwipy_address *b, int fragmented);
int lwipy_source(lwipy_core *core, const lwipy_address *to, lwipy_address *out);   /* which of ours a packet there has */

int lwipy_unwire(lwipy_core *core, int nic);
int lwipy_wire_join(lwipy_core *core, int nic, struct lwipy_wire *wire, int side, int offload);

/* Stages between lwIP and the link (stage.h). `add` answers with the stage's number; removing one passes on what it
   keeps. A capture owns `fd` from then on, also when it cannot be added. */
int lwipy_stage_remove(lwipy_core *core, int nic, int stage);
int lwipy_impair_add(lwipy_core *core, int nic);
int lwipy_impair_seed(lwipy_core *core, int nic, int stage, uint64_t seed);
int lwipy_impair_set(lwipy_core *core, int nic, int stage, int direction, const lwipy_impairment *set);
int lwipy_impair_get_counters(lwipy_core *core, int nic, int stage, int direction, lwipy_impair_counters *out);
int lwipy_pace_add(lwipy_core *core, int nic, const lwipy_pacing *set);
int lwipy_pace_set(lwipy_core *core, int nic, int stage, const lwipy_pacing *set);
int lwipy_pace_get_counters(lwipy_core *core, int nic, int stage, lwipy_pace_counters *out);
int lwipy_capture_add(lwipy_core *core, int nic, int fd, int at_wire, uint32_t snaplen, int64_t start_ns);
int lwipy_capture_flush(lwipy_core *core, int nic, int stage);
int lwipy_capture_get_counters(lwipy_core *core, int nic, int stage, lwipy_capture_counters *out);
int lwipy_clear_trouble(lwipy_core *core);

/* ---- Endpoints ------------------------------------------------------------------------------------------- */
int lwipy_socket(lwipy_core *core, int kind, int family, int protocol, lwipy_handle *out);
int lwipy_bind(lwipy_core *core, lwipy_handle handle, const lwipy_address *address);
int lwipy_connect(lwipy_core *core, lwipy_handle handle, const lwipy_address *address);
int lwipy_release(lwipy_core *core, lwipy_handle handle);     /* graceful for TCP; the handle ends here */
int lwipy_abort(lwipy_core *core, lwipy_handle handle);       /* RST for TCP; the handle ends here */
int lwipy_error(lwipy_core *core, lwipy_handle handle);       /* the error that ended it; reading clears it */
int lwipy_ready(lwipy_core *core, lwipy_handle handle);       /* LWIPY_READABLE and LWIPY_WRITABLE as of now, arming what is not */
int lwipy_missed(lwipy_core *core, lwipy_handle handle, int wanted);   /* a part of lwipy_wait, see leader.c */
int lwipy_rouse(lwipy_core *core, lwipy_handle handle);       /* whoever waits for it tries again */
int lwipy_quiet(lwipy_core *core, lwipy_handle handle, int on);   /* its events are not reported, or are again */
int lwipy_local(lwipy_core *core, lwipy_handle handle, lwipy_address *out);
int lwipy_remote(lwipy_core *core, lwipy_handle handle, lwipy_address *out);
int lwipy_both_addresses(lwipy_core *core, lwipy_handle handle, lwipy_address *out);      /* the local one, the remote one */
int lwipy_set_option(lwipy_core *core, lwipy_handle handle, int option, int value);
int lwipy_get_option(lwipy_core *core, lwipy_handle handle, int option);

int lwipy_tcp_listen(lwipy_core *core, lwipy_handle handle, int backlog);
int lwipy_tcp_connected(lwipy_core *core, lwipy_handle handle);   /* 0: it is; EWOULDBLOCK: not yet; or why it failed */
int lwipy_tcp_accept(lwipy_core *core, lwipy_handle handle, lwipy_handle *out);
int lwipy_tcp_open(lwipy_core *core, const lwipy_address *to, lwipy_accepted *out);   /* a connection begins, no delay */
int lwipy_tcp_accept_many(lwipy_core *core, lwipy_handle handle, lwipy_accepted *out, int room);   /* how many, 0 for none */
int64_t lwipy_tcp_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length);
/* The same without a copy. If the result is above zero, one of the hold's references is the core's. */
int64_t lwipy_tcp_send_held(lwipy_core *core, lwipy_handle handle, const void *data, size_t length, lwipy_hold *hold);
int64_t lwipy_tcp_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int flags);
int64_t lwipy_errand_run(lwipy_core *core, lwipy_handle handle, lwipy_errand *errand);   /* a part of lwipy_recv, lwipy_send */
int lwipy_tcp_shutdown(lwipy_core *core, lwipy_handle handle, int read, int write);
int lwipy_tcp_linger(lwipy_core *core, lwipy_handle handle);  /* FIN now, keep the handle, LWIPY_ACKED when acknowledged */
/* Congestion control by name; ENOENT: there is none so called. `name` of get: 16 bytes. */
int lwipy_tcp_set_congestion(lwipy_core *core, lwipy_handle handle, const char *name, size_t length);
int lwipy_tcp_get_congestion(lwipy_core *core, lwipy_handle handle, char *name);
int64_t lwipy_tcp_unfinished(lwipy_core *core);    /* connections without a handle whose last bytes are not acknowledged */
int lwipy_tcp_get_info(lwipy_core *core, lwipy_handle handle, lwipy_tcp_info *out);

int64_t lwipy_udp_send(lwipy_core *core, lwipy_handle handle, const void *data, size_t length,
                       const lwipy_address *to, const lwipy_address *from, int nic, int ttl, int tos);
int64_t lwipy_udp_recv(lwipy_core *core, lwipy_handle handle, void *buffer, size_t room, int peek,
                       lwipy_datagram *out);
int lwipy_join(lwipy_core *core, lwipy_handle handle, const lwipy_address *group, int nic);
int lwipy_leave(lwipy_core *core, lwipy_handle handle, const lwipy_address *group, int nic);

/* ---- Names ----------------------------------------------------------------------------------------------- */
int lwipy_dns_set_server(lwipy_core *core, int index, const lwipy_address *address);
int lwipy_dns_get_server(lwipy_core *core, int index, lwipy_address *out);
int lwipy_dns_query(lwipy_core *core, const char *name, int family, lwipy_handle *out);
int lwipy_dns_answer(lwipy_core *core, lwipy_handle handle, lwipy_address *out);

#endif /* LWIPY_H */
