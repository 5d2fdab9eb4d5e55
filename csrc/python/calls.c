/*
 * The calls that run for every few kilobytes, as functions of Python: what cffi would convert and look up each time is
 * known here.
 *
 * Theory of operation. A second module, lwipy._calls, lies in the library of the first (_native.py loads it from there).
 * Its functions do what their namesakes in lwipy.h do, through the same border. Each takes a way: a capsule that leads to
 * a core, and to the notes of large sends that are not copied (notes.c).
 *
 * Invariant: a way has a reference to the object that frees the core when it dies, and who calls has one to the way; so
 * the core outlives the call.
 */
#include "notes.h"
#include "way.h"

#include "platform.h"

#include <stdlib.h>

#define WAY   "lwipy.way"
#define EVENTS 256

static struct way *
way_of(PyObject *capsule)
{
  return PyCapsule_GetPointer(capsule, WAY);
}

static int
expect(Py_ssize_t given, Py_ssize_t count)
{
  if (given == count) {
    return 1;
  }
  PyErr_Format(PyExc_TypeError, "expected %zd arguments, not %zd", count, given);
  return 0;
}

const struct way *
lwipy_way_of(PyObject *const *arguments, Py_ssize_t given, Py_ssize_t count)
{
  return expect(given, count) ? way_of(arguments[0]) : NULL;
}

/* ---- Bytes ---------------------------------------------------------------------------------------------------------- */

/* The object that a send of `data` may refer to, a new reference; NULL for what might change. */
static PyObject *
whole_of(PyObject *data)
{
  PyObject *whole;
  if (PyBytes_CheckExact(data)) {
    Py_INCREF(data);
    return data;
  }
  if (!PyMemoryView_Check(data)) {
    return NULL;
  }
  whole = PyObject_GetAttrString(data, "obj");
  if (whole != NULL && PyBytes_CheckExact(whole)) {
    return whole;
  }
  Py_XDECREF(whole);
  PyErr_Clear();
  return NULL;
}

lwipy_hold *
lwipy_hold_of(const struct way *way, PyObject *data, size_t length)
{
  PyObject *whole = length >= way->least ? whole_of(data) : NULL;
  lwipy_hold *hold = NULL;
  if (whole != NULL) {
    lwipy_notes_collect(way->notes);
    hold = lwipy_notes_hold(way->notes, whole);
    Py_DECREF(whole);
  }
  return hold;
}

static int64_t
send_part(const struct way *way, lwipy_handle handle, const Py_buffer *view, lwipy_hold *hold)
{
  size_t length = (size_t)view->len;
  return hold != NULL ? lwipy_tcp_send_held(way->core, handle, view->buf, length, hold) :
                        lwipy_tcp_send(way->core, handle, view->buf, length);
}

/* send(way, handle, data): lwipy_tcp_send(), or lwipy_tcp_send_held() where that pays. */
static PyObject *
send_bytes(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
  const struct way *way = lwipy_way_of(arguments, count, 3);
  lwipy_handle handle;
  lwipy_hold *hold;
  Py_buffer view;
  int64_t sent = 0;
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  handle = PyLong_AsUnsignedLongLong(arguments[1]);
  if (PyErr_Occurred() || PyObject_GetBuffer(arguments[2], &view, PyBUF_SIMPLE) != 0) {
    return NULL;
  }
  hold = lwipy_hold_of(way, arguments[2], (size_t)view.len);
  if (hold != NULL || !PyErr_Occurred()) {
    Py_BEGIN_ALLOW_THREADS
    sent = send_part(way, handle, &view, hold);
    Py_END_ALLOW_THREADS
  }
  if (hold != NULL && sent <= 0) {
    lwipy_notes_drop(hold);
  }
  PyBuffer_Release(&view);
  return PyErr_Occurred() ? NULL : PyLong_FromLongLong(sent);
}

/* release(way): lets go what no core reads any more. The reminder was heard. */
static PyObject *
release(PyObject *module, PyObject *capsule)
{
  const struct way *way = way_of(capsule);
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  lwipy_atomic_and(lwipy_attention(way->core), ~(uint32_t)LWIPY_HAS_RELEASED);
  lwipy_notes_collect(way->notes);
  Py_RETURN_NONE;
}

/* ---- Notes ---------------------------------------------------------------------------------------------------------- */

/* notes(): of a new stack, none yet. */
static PyObject *
new_notes(PyObject *module, PyObject *none)
{
  (void)none;
  return lwipy_notes_new(*(struct desk **)PyModule_GetState(module));
}

/* collect(notes): as release(), though there is no core any more. */
static PyObject *
collect(PyObject *module, PyObject *capsule)
{
  const struct notes *notes = lwipy_notes_of(capsule);
  (void)module;
  if (notes == NULL) {
    return NULL;
  }
  lwipy_notes_collect(notes);
  Py_RETURN_NONE;
}

/* held(notes): how many there are. */
static PyObject *
count_notes(PyObject *module, PyObject *capsule)
{
  struct notes *notes = lwipy_notes_of(capsule);
  (void)module;
  return notes == NULL ? NULL : PyLong_FromSsize_t(lwipy_notes_count(notes));
}

/* ---- Turns ---------------------------------------------------------------------------------------------------------- */

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

/* poll(way): lwipy_poll(); an int if there is something to look at. */
static PyObject *
poll_core(PyObject *module, PyObject *capsule)
{
  const struct way *way = way_of(capsule);
  int64_t microseconds;
  uint32_t attention;
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  Py_BEGIN_ALLOW_THREADS
  microseconds = lwipy_poll(way->core);
  attention = lwipy_atomic_get(lwipy_attention(way->core));
  Py_END_ALLOW_THREADS
  return attention & LWIPY_NEWS ? PyLong_FromLongLong(microseconds) : seconds(microseconds);
}

static PyObject *
deadline(PyObject *module, PyObject *capsule)
{
  const struct way *way = way_of(capsule);
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

/* events(way, endpoints): lwipy_events() of those in the dictionary, by handle: a list of an endpoint, its bits, the next
   endpoint ... or a code. */
static PyObject *
events(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
  const struct way *way = lwipy_way_of(arguments, given, 2);
  lwipy_event told[EVENTS];
  PyObject *list;
  int i, count;
  (void)module;
  if (way == NULL) {
    return NULL;
  }
  Py_BEGIN_ALLOW_THREADS
  count = lwipy_events(way->core, told, EVENTS);
  Py_END_ALLOW_THREADS
  if (count < 0) {
    return PyLong_FromLong(count);
  }
  list = PyList_New(0);
  for (i = 0; i < count && list != NULL; i++) {
    if (add_event(list, arguments[1], &told[i])) {
      Py_DECREF(list);
      list = NULL;
    }
  }
  return list;
}

/* ---- The way and the module ----------------------------------------------------------------------------------------- */

static void
end_way(PyObject *capsule)
{
  struct way *way = way_of(capsule);
  Py_DECREF(way->owner);
  Py_DECREF(way->capsule);
  free(way);
}

/* way(core, owner, notes, least): to the core at this address, for sends without a copy from `least` bytes on. */
static PyObject *
new_way(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
  struct notes *notes = expect(count, 4) ? lwipy_notes_of(arguments[2]) : NULL;
  lwipy_core *core = notes != NULL ? PyLong_AsVoidPtr(arguments[0]) : NULL;
  size_t least = core != NULL ? PyLong_AsSize_t(arguments[3]) : 0;
  struct way *way;
  PyObject *capsule;
  (void)module;
  if (PyErr_Occurred() || (way = calloc(1, sizeof(*way))) == NULL) {
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
  }
  if ((capsule = PyCapsule_New(way, WAY, end_way)) == NULL) {
    free(way);
    return NULL;
  }
  way->core = core;
  way->notes = notes;
  way->least = least;
  Py_INCREF(way->owner = arguments[1]);
  Py_INCREF(way->capsule = arguments[2]);
  return capsule;
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef functions[] = {
  {"way", FAST(new_way), NULL},
  {"notes", new_notes, METH_NOARGS, NULL},
  {"send", FAST(send_bytes), NULL},
  {"recv", FAST(lwipy_calls_recv), NULL},
  {"recv_into", FAST(lwipy_calls_recv_into), NULL},
  {"wait_send", FAST(lwipy_calls_wait_send), NULL},
  {"wait_recv", FAST(lwipy_calls_wait_recv), NULL},
  {"wait_recv_into", FAST(lwipy_calls_wait_recv_into), NULL},
  {"poll", poll_core, METH_O, NULL},
  {"deadline", deadline, METH_O, NULL},
  {"events", FAST(events), NULL},
  {"release", release, METH_O, NULL},
  {"collect", collect, METH_O, NULL},
  {"held", count_notes, METH_O, NULL},
  {NULL, NULL, 0, NULL}
};

/* The module's state is its desk. */
static int
open_module(PyObject *module)
{
  struct desk **desk = PyModule_GetState(module);
  return (*desk = lwipy_desk_open()) != NULL ? 0 : -1;
}

static void
end_module(void *module)
{
  struct desk **desk = PyModule_GetState(module);
  if (desk != NULL && *desk != NULL) {
    lwipy_desk_leave(*desk);
  }
}

static PyModuleDef_Slot slots[] = {
  {Py_mod_exec, (void *)(uintptr_t)open_module},
#ifdef Py_GIL_DISABLED
  {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
  {0, NULL}
};

static struct PyModuleDef definition = {
  .m_base = PyModuleDef_HEAD_INIT, .m_name = "lwipy._calls", .m_methods = functions, .m_slots = slots,
  .m_size = sizeof(struct desk *), .m_free = end_module
};

PyMODINIT_FUNC PyInit__calls(void);

PyMODINIT_FUNC
PyInit__calls(void)
{
  return PyModuleDef_Init(&definition);
}
