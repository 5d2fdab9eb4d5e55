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

#define WAY "lwipy.way"

struct way *
lwipy_way_in(PyObject *capsule)
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
  return expect(given, count) ? lwipy_way_in(arguments[0]) : NULL;
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

/* release(way): lets go what no core reads any more. The reminder was heard. */
static PyObject *
release(PyObject *module, PyObject *capsule)
{
  const struct way *way = lwipy_way_in(capsule);
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
  return lwipy_notes_new(((struct lwipy_calls *)PyModule_GetState(module))->desk);
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

/* ---- The way and the module ----------------------------------------------------------------------------------------- */

static void
end_way(PyObject *capsule)
{
  struct way *way = lwipy_way_in(capsule);
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
  {"recv", FAST(lwipy_calls_recv), NULL},
  {"wait_send", FAST(lwipy_calls_wait_send), NULL},
  {"wait_recv", FAST(lwipy_calls_wait_recv), NULL},
  {"wait_recv_into", FAST(lwipy_calls_wait_recv_into), NULL},
  {"deadline", lwipy_calls_deadline, METH_O, NULL},
  {"events", FAST(lwipy_calls_events), NULL},
  {"release", release, METH_O, NULL},
  {"collect", collect, METH_O, NULL},
  {"held", count_notes, METH_O, NULL},
  {NULL, NULL, 0, NULL}
};

static const char *const names[LWIPY_NAMES] = {
  [LWIPY_NAME_STACK] = "_stack", [LWIPY_NAME_HANDLE] = "_handle", [LWIPY_NAME_ON_EVENT] = "on_event",
  [LWIPY_NAME_CHECK] = "_check", [LWIPY_NAME_WAY] = "_way", [LWIPY_NAME_ENDPOINTS] = "_endpoints",
  [LWIPY_NAME_FIRST] = "_first", [LWIPY_NAME_BEGIN_TURN] = "_begin_turn", [LWIPY_NAME_END_TURN] = "_end_turn",
  [LWIPY_NAME_AFTER] = "_after"
};

/* A class of the module's, a new reference; NULL, and an exception: no memory. */
static PyObject *
open_class(PyObject *module, PyType_Spec *spec, PyObject *base)
{
  PyObject *type = PyType_FromModuleAndSpec(module, spec, base);
  if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) != 0) {
    Py_CLEAR(type);
  }
  return type;
}

static int
open_classes(PyObject *module, struct lwipy_calls *calls)
{
  PyObject *connection = NULL;
  if ((calls->driven = open_class(module, &lwipy_driven_type, NULL)) != NULL &&
      (calls->end = open_class(module, &lwipy_end_type, NULL)) != NULL) {
    connection = open_class(module, &lwipy_connection_type, calls->end);
  }
  Py_XDECREF(connection);
  return connection != NULL ? 0 : -1;
}

static int
open_module(PyObject *module)
{
  struct lwipy_calls *calls = PyModule_GetState(module);
  int i;
  for (i = 0; i < LWIPY_NAMES; i++) {
    if ((calls->names[i] = PyUnicode_InternFromString(names[i])) == NULL) {
      return -1;
    }
  }
  return (calls->desk = lwipy_desk_open()) != NULL ? open_classes(module, calls) : -1;
}

/* The classes refer to the module. */
static int
traverse_module(PyObject *module, visitproc visit, void *arg)
{
  const struct lwipy_calls *calls = PyModule_GetState(module);
  if (calls != NULL) {
    Py_VISIT(calls->end);
    Py_VISIT(calls->driven);
  }
  return 0;
}

static int
clear_module(PyObject *module)
{
  struct lwipy_calls *calls = PyModule_GetState(module);
  if (calls != NULL) {
    Py_CLEAR(calls->end);
    Py_CLEAR(calls->driven);
  }
  return 0;
}

static void
end_module(void *module)
{
  struct lwipy_calls *calls = PyModule_GetState(module);
  int i;
  if (calls == NULL) {
    return;
  }
  (void)clear_module(module);
  for (i = 0; i < LWIPY_NAMES; i++) {
    Py_XDECREF(calls->names[i]);
  }
  if (calls->desk != NULL) {
    lwipy_desk_leave(calls->desk);
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
  .m_size = sizeof(struct lwipy_calls), .m_traverse = traverse_module, .m_clear = clear_module, .m_free = end_module
};

PyMODINIT_FUNC PyInit__calls(void);

PyMODINIT_FUNC
PyInit__calls(void)
{
  return PyModuleDef_Init(&definition);
}
