/*
 * What C needs to know of an endpoint: its stack, its handle, and who hears of its events.
 *
 * Theory of operation. To Python lwipy._calls.End is a class with slots, which Endpoint inherits. C finds them where
 * they lie, without asking for them by name.
 *
 * Invariant: without the GIL, others may change what lies there while it is looked at; then it is asked for by name.
 */
#include "way.h"

#include <stddef.h>
#include <structmember.h>

struct end {
  PyObject_HEAD
  PyObject *stack, *handle, *on_event;   /* NULL before they are set */
};

PyObject *
lwipy_found(PyObject *self, PyObject *there, PyObject *name)
{
#ifndef Py_GIL_DISABLED
  if (there != NULL) {
    Py_INCREF(there);
    return there;
  }
#else
  (void)there;
#endif
  return PyObject_GetAttr(self, name);
}

PyObject *
lwipy_end_stack(PyObject *self, PyObject *const *names)
{
  return lwipy_found(self, ((struct end *)(void *)self)->stack, names[LWIPY_NAME_STACK]);
}

int
lwipy_end_handle(PyObject *self, PyObject *const *names, lwipy_handle *handle)
{
  PyObject *number = lwipy_found(self, ((struct end *)(void *)self)->handle, names[LWIPY_NAME_HANDLE]);
  if (number == NULL) {
    return -1;
  }
  /* The former is several times as fast. */
  *handle = sizeof(size_t) == sizeof(*handle) ? PyLong_AsSize_t(number) : PyLong_AsUnsignedLongLong(number);
  Py_DECREF(number);
  return PyErr_Occurred() ? -1 : 0;
}

int
lwipy_end_hears(PyObject *self, const struct lwipy_calls *calls)
{
  PyObject *there = PyObject_TypeCheck(self, (PyTypeObject *)calls->end) ? ((struct end *)(void *)self)->on_event : NULL;
  PyObject *callback = lwipy_found(self, there, calls->names[LWIPY_NAME_ON_EVENT]);
  int hears = callback == NULL ? -1 : callback != Py_None;
  Py_XDECREF(callback);
  return hears;
}

void
lwipy_dealloc(PyObject *self, inquiry clear)
{
  PyTypeObject *type = Py_TYPE(self);
  freefunc free_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
  PyObject_GC_UnTrack(self);
  (void)clear(self);
  free_memory(self);
  Py_DECREF(type);
}

/* ---- The class ------------------------------------------------------------------------------------------------------ */

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
  const struct end *end = (struct end *)(void *)self;
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(end->stack);
  Py_VISIT(end->handle);
  Py_VISIT(end->on_event);
  return 0;
}

static int
clear(PyObject *self)
{
  struct end *end = (struct end *)(void *)self;
  Py_CLEAR(end->stack);
  Py_CLEAR(end->handle);
  Py_CLEAR(end->on_event);
  return 0;
}

static void
dealloc(PyObject *self)
{
  lwipy_dealloc(self, clear);
}

static PyMemberDef members[] = {
  {"_stack", T_OBJECT_EX, offsetof(struct end, stack), 0, NULL},
  {"_handle", T_OBJECT_EX, offsetof(struct end, handle), 0, NULL},
  {"on_event", T_OBJECT_EX, offsetof(struct end, on_event), 0, NULL},
  {NULL, 0, 0, 0, NULL}
};

static PyType_Slot slots[] = {
  {Py_tp_members, members},
  {Py_tp_traverse, (void *)(uintptr_t)traverse},
  {Py_tp_clear, (void *)(uintptr_t)clear},
  {Py_tp_dealloc, (void *)(uintptr_t)dealloc},
  {Py_tp_doc, (void *)(uintptr_t)"What C needs to know of an endpoint."},
  {0, NULL}
};

PyType_Spec lwipy_end_type = {
  .name = "lwipy._calls.End", .basicsize = sizeof(struct end),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, .slots = slots
};
