/*
 * Driving a core from Python: a turn, and what there is to be told after it.
 *
 * Theory of operation. Most turns leave nothing for Python but the time of the next one, or events of endpoints. The
 * latter come with the turn, for to ask for them costs as much as a small turn does; and where no endpoint has an
 * `on_event`, which is how Python hears of them, there is nothing to come back for.
 */
#include "way.h"

#include "platform.h"

#define EVENTS 256                 /* that one call fetches */

/* Of a deadline: seconds, None for never, or an int, which is a code. */
static PyObject *
seconds(int64_t microseconds)
{
  if (microseconds < -1) {
    return PyLong_FromLongLong(microseconds);
  }
  if (microseconds == -1) {
    Py_RETURN_NONE;
  }
  return PyFloat_FromDouble((double)microseconds / 1e6);
}

PyObject *
lwipy_calls_deadline(PyObject *module, PyObject *capsule)
{
  const struct way *way = lwipy_way_in(capsule);
  int64_t microseconds;
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  Py_BEGIN_ALLOW_THREADS
  microseconds = lwipy_deadline(way->core);
  Py_END_ALLOW_THREADS
  return seconds(microseconds);
}

static int
add_event(PyObject *list, PyObject *endpoints, const lwipy_event *event)
{
  PyObject *handle = PyLong_FromUnsignedLongLong(event->handle), *bits = PyLong_FromUnsignedLong(event->events);
  PyObject *endpoint = handle != NULL ? PyDict_GetItemWithError(endpoints, handle) : NULL;
  int failed = PyErr_Occurred() != NULL;
  if (endpoint != NULL && bits != NULL) {
    failed = PyList_Append(list, endpoint) != 0 || PyList_Append(list, bits) != 0;
  }
  Py_XDECREF(handle);
  Py_XDECREF(bits);
  return failed;
}

/* Those in the dictionary, by handle: a list of an endpoint, its bits, the next endpoint ... */
static PyObject *
list_of(PyObject *endpoints, const lwipy_event *told, int count)
{
  PyObject *list = PyList_New(0);
  int i;
  for (i = 0; i < count && list != NULL; i++) {
    if (add_event(list, endpoints, &told[i])) {
      Py_DECREF(list);
      list = NULL;
    }
  }
  return list;
}

/* 1: one of the endpoints that have events hears of them; -1, and an exception, for what is no endpoint. */
static int
is_heard(const struct lwipy_calls *calls, PyObject *endpoints, const lwipy_event *told, int count)
{
  int i, heard = 0;
  for (i = 0; i < count && heard == 0; i++) {
    PyObject *handle = PyLong_FromUnsignedLongLong(told[i].handle);
    PyObject *endpoint = handle != NULL ? PyDict_GetItemWithError(endpoints, handle) : NULL;
    heard = endpoint != NULL ? lwipy_end_hears(endpoint, calls) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(handle);
  }
  return heard;
}

/* events(way, endpoints): lwipy_events(), as a list_of() or a code. */
PyObject *
lwipy_calls_events(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
  const struct way *way = lwipy_way_of(arguments, given, 2);
  lwipy_event told[EVENTS];
  int count;
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  Py_BEGIN_ALLOW_THREADS
  count = lwipy_events(way->core, told, EVENTS);
  Py_END_ALLOW_THREADS
  return count < 0 ? PyLong_FromLong(count) : list_of(arguments[1], told, count);
}

/* Events that are the only news. Others, and what does not fit here, are news still. */
static int
fetch(const struct way *way, lwipy_event *told)
{
  uint32_t news = lwipy_atomic_get(lwipy_attention(way->core)) & LWIPY_NEWS;
  return news == LWIPY_HAS_EVENTS ? lwipy_events(way->core, told, EVENTS) : 0;
}

PyObject *
lwipy_take_turn(const struct lwipy_calls *calls, const struct way *way, PyObject *endpoints)
{
  lwipy_event told[EVENTS];
  int64_t microseconds;
  int count, news, heard;
  Py_BEGIN_ALLOW_THREADS
  microseconds = lwipy_poll(way->core);
  count = endpoints != Py_None ? fetch(way, told) : 0;
  news = (lwipy_atomic_get(lwipy_attention(way->core)) & LWIPY_NEWS) != 0;
  Py_END_ALLOW_THREADS
  if (count > 0 && (heard = is_heard(calls, endpoints, told, count)) != 0) {
    return heard > 0 ? list_of(endpoints, told, count) : NULL;
  }
  return news || microseconds < -1 ? PyList_New(0) : seconds(microseconds);
}
