/*
 * Batches of frames for embedders: each behind its length, or in one buffer with offsets that say where it lies.
 *
 * Of offsets: frame i of n lies from offsets[i] to offsets[i + 1], so there are n + 1 of them. Nothing is given to lwIP
 * before all have been checked; what is wrong is told by its index.
 */
#include "merge.h"
#include "netif.h"

#include <string.h>

int64_t
core_netif_receive_packed(int number, const void *batch, size_t length)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  const u8_t *p = batch;
  int64_t count = 0;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  lwipy_timers_stir();
  lwipy_wires_hold();
  lwipy_batch_begin();
  while (length >= sizeof(u32_t)) {
    u32_t size;
    memcpy(&size, p, sizeof(size));
    p += sizeof(size);
    length -= sizeof(size);
    if (size > length) {
      length = SIZE_MAX;
      break;
    }
    lwipy_nic_input(nic, p, size);
    p += size;
    length -= size;
    count++;
  }
  lwipy_batch_end();
  return length == 0 ? count : LWIPY_EARG;
}

int64_t
core_netif_receive_batch(int number, const void *buffer, size_t length, const uint32_t *offsets, size_t frames)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  size_t i;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  for (i = 0; i <= frames; i++) {
    if (offsets[i] > length || (i > 0 && offsets[i] < offsets[i - 1])) {
      return LWIPY_EOFFSET - (int64_t)i;
    }
  }
  lwipy_timers_stir();
  lwipy_wires_hold();
  lwipy_batch_begin();
  for (i = 0; i < frames; i++) {
    lwipy_nic_input(nic, (const u8_t *)buffer + offsets[i], offsets[i + 1] - offsets[i]);
  }
  lwipy_batch_end();
  return (int64_t)frames;
}

int64_t
core_netif_take_batch(int number, void *buffer, size_t room, uint32_t *offsets, size_t frames)
{
  struct lwipy_nic *nic = lwipy_nic(number);
  size_t i = 0, at = 0;
  if (nic == NULL) {
    return LWIPY_ENODEV;
  }
  offsets[0] = 0;
  while (i < frames && nic->out.used > 0) {
    size_t length = lwipy_fifo_length(&nic->out, 0);
    if (length > room - at) {
      if (i == 0) {
        return LWIPY_EOFFSET - (int64_t)length;
      }
      break;
    }
    lwipy_fifo_take_frame(&nic->out, (u8_t *)buffer + at, length);
    at += length;
    offsets[++i] = (u32_t)at;
  }
  lwipy_nics_show_frames();
  return (int64_t)i;
}
