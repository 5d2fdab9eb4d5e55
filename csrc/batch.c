/*
 * Batches of frames for embedders: one buffer, and offsets that say where in it each frame lies.
 *
 * Frame i of n lies from offsets[i] to offsets[i + 1], so there are n + 1 offsets. Nothing is given to lwIP before all
 * of them have been checked; what is wrong is told by its index.
 */
#include "merge.h"
#include "netif.h"

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
