/*
 * What a blocking socket does for every few bytes, as functions of Python that wait: send(), recv(), recv_into().
 *
 * Theory of operation. Between an answer and the next question there is nothing but the program and these functions,
 * and where both ends share a processor, whatever they touch is cold. So each is a single call, that takes the timeout
 * (seconds, or None) as its last argument, waits by its namesake in blocking.c, and runs the handlers of signals itself.
 *
 * Invariants:
 * 1. The GIL is given up while a function waits.
 * 2. Waiting ends at the time that was asked for, however many signals come.
 */
#include "way.h"
#include "notes.h"

#include "platform.h"

#define LONGEST 1e12               /* seconds whose microseconds have room in 64 bits */

/* For which connection, and until when it may wait; -1 for no end. */
struct operation {
  const struct way *way;
  lwipy_handle handle;
  int64_t end;
};

/* 0, and an exception, for what is no such call. */
static int
begin(struct operation *operation, PyObject *const *arguments, Py_ssize_t given, Py_ssize_t count)
{
  PyObject *timeout;
  double seconds;
  if ((operation->way = lwipy_way_of(arguments, given, count)) == NULL) {
    return 0;
  }
  timeout = arguments[count - 1];
  operation->handle = PyLong_AsUnsignedLongLong(arguments[1]);
  operation->end = -1;
  if (timeout != Py_None) {
    seconds = PyFloat_AsDouble(timeout);
    operation->end = lwipy_monotonic() + (int64_t)((seconds < LONGEST ? seconds : LONGEST) * 1e6);
  }
  return PyErr_Occurred() == NULL;
}

static int64_t
left(const struct operation *operation)
{
  int64_t time = operation->end < 0 ? -1 : operation->end - lwipy_monotonic();
  return operation->end >= 0 && time < 0 ? 0 : time;
}

static PyObject *
told(int64_t result)
{
  return PyErr_Occurred() ? NULL : PyLong_FromLongLong(result);
}

/* All of it, as far as one operation goes: how much was sent, or a code, which may be behind bytes that were sent. */
static int64_t
send_all(const struct operation *operation, const char *data, size_t length, lwipy_hold *hold)
{
  size_t done = 0;
  for (;;) {
    int64_t sent;
    Py_BEGIN_ALLOW_THREADS
    sent = lwipy_send(operation->way->core, operation->handle, data + done, length - done, left(operation), hold);
    Py_END_ALLOW_THREADS
    done += sent > 0 ? (size_t)sent : 0;
    if (done == length || (sent < 0 && sent != LWIPY_EINTR) || PyErr_CheckSignals() != 0) {
      return sent < 0 && sent != LWIPY_ENOTSUP ? sent : (int64_t)done;
    }
  }
}

/* wait_send(way, handle, data, timeout): None when all is sent, how much where threads do not wait here (any more), or
   lwipy_send()'s code. */
PyObject *
lwipy_calls_wait_send(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
  struct operation operation;
  Py_buffer view;
  Py_ssize_t length;
  lwipy_hold *hold;
  int64_t sent = 0;
  (void)module;
  if (!begin(&operation, arguments, given, 4) || PyObject_GetBuffer(arguments[2], &view, PyBUF_SIMPLE) != 0) {
    return NULL;
  }
  length = view.len;
  hold = lwipy_hold_of(operation.way, arguments[2], (size_t)length);
  if (!PyErr_Occurred()) {
    sent = send_all(&operation, view.buf, (size_t)length, hold);
  }
  if (hold != NULL && lwipy_atomic_add(&hold->references, -1) == 0) {
    lwipy_notes_drop(hold);
  }
  PyBuffer_Release(&view);
  if (sent == length) {
    Py_RETURN_NONE;
  }
  return told(sent);
}

static int64_t
receive(const struct operation *operation, void *buffer, size_t room, int flags)
{
  int64_t got;
  do {
    Py_BEGIN_ALLOW_THREADS
    got = lwipy_recv(operation->way->core, operation->handle, buffer, room, flags, left(operation));
    Py_END_ALLOW_THREADS
  } while (got == LWIPY_EINTR && PyErr_CheckSignals() == 0);
  return got;
}

/* wait_recv_into(way, handle, buffer, timeout): lwipy_recv(). */
PyObject *
lwipy_calls_wait_recv_into(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
  struct operation operation;
  Py_buffer view;
  int64_t got;
  (void)module;
  if (!begin(&operation, arguments, given, 4) || PyObject_GetBuffer(arguments[2], &view, PyBUF_WRITABLE) != 0) {
    return NULL;
  }
  got = receive(&operation, view.buf, (size_t)view.len, 0);
  PyBuffer_Release(&view);
  return told(got);
}

/* What another thread took before this one did. */
static int
is_gone(PyObject *received)
{
  return received != NULL && PyLong_Check(received) && PyLong_AsLongLong(received) == LWIPY_EWOULDBLOCK;
}

/* wait_recv(way, handle, most, timeout): what lwipy_recv() gives as bytes, or its code. */
PyObject *
lwipy_calls_wait_recv(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
  struct operation operation;
  char few[LWIPY_FEW];
  PyObject *received;
  size_t most, room;
  int64_t got;
  int flags = 0;
  (void)module;
  if (!begin(&operation, arguments, given, 4)) {
    return NULL;
  }
  most = PyLong_AsSize_t(arguments[2]);
  room = lwipy_few_of(most, &flags);
  for (;;) {
    if (PyErr_Occurred() || ((got = receive(&operation, few, room, flags)) == LWIPY_EINTR && PyErr_Occurred())) {
      return NULL;
    }
    received = lwipy_received(operation.way, operation.handle, few, got, most, 0);
    if (got <= LWIPY_FEW || !is_gone(received)) {
      return received;
    }
    Py_DECREF(received);
  }
}
