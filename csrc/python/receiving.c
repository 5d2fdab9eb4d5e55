/*
 * Receiving bytes of a connection as an object, for functions of Python.
 *
 * Theory of operation. How long an object must be is known only when something has come, so what comes lands on the
 * stack if it is short. If there is more than that, nothing is taken at first (LWIPY_WHOLE), and then as much as there
 * is, into an object of that size, without another copy.
 */
#include "way.h"

size_t
lwipy_few_of(size_t most, int *flags)
{
  *flags |= most > LWIPY_FEW ? LWIPY_WHOLE : 0;
  return most > LWIPY_FEW ? LWIPY_FEW : most;
}

/* `room` bytes are queued; it may be that another thread takes them. */
static PyObject *
receive_many(const struct way *way, lwipy_handle handle, size_t room, int flags)
{
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room), *fewer;
  int64_t got;
  if (bytes == NULL) {
    return NULL;
  }
  Py_BEGIN_ALLOW_THREADS
  got = lwipy_tcp_recv(way->core, handle, PyBytes_AsString(bytes), room, flags);
  Py_END_ALLOW_THREADS
  if (got == (int64_t)room) {
    return bytes;
  }
  fewer = got < 0 ? PyLong_FromLongLong(got) : PyBytes_FromStringAndSize(PyBytes_AsString(bytes), (Py_ssize_t)got);
  Py_DECREF(bytes);
  return fewer;
}

/* Of what lwipy_tcp_recv() gave for lwipy_few_of(): bytes, or a code as an int. */
PyObject *
lwipy_received(const struct way *way, lwipy_handle handle, const char *few, int64_t got, size_t most, int flags)
{
  if (got < 0) {
    return PyLong_FromLongLong(got);
  }
  if (got <= LWIPY_FEW) {
    return PyBytes_FromStringAndSize(few, (Py_ssize_t)got);
  }
  return receive_many(way, handle, (uint64_t)got < most ? (size_t)got : most, flags);
}

PyObject *
lwipy_received_now(const struct way *way, lwipy_handle handle, size_t most, int flags)
{
  char few[LWIPY_FEW];
  int all = flags;
  size_t room = lwipy_few_of(most, &all);
  int64_t got;
  Py_BEGIN_ALLOW_THREADS
  got = lwipy_tcp_recv(way->core, handle, few, room, all);
  Py_END_ALLOW_THREADS
  return lwipy_received(way, handle, few, got, most, flags);
}

/* recv(way, handle, most, flags): what lwipy_tcp_recv() gives as bytes, or its code. */
PyObject *
lwipy_calls_recv(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
  const struct way *way = lwipy_way_of(arguments, given, 4);
  lwipy_handle handle;
  size_t most;
  int flags;
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  handle = PyLong_AsUnsignedLongLong(arguments[1]);
  most = PyLong_AsSize_t(arguments[2]);
  flags = (int)PyLong_AsLong(arguments[3]);
  return PyErr_Occurred() ? NULL : lwipy_received_now(way, handle, most, flags);
}
