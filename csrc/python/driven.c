/*
 * What C needs to know of a stack, and its poll().
 *
 * Theory of operation. To Python lwipy._calls.Driven is a class with slots, which Stack inherits; C finds them where they
 * lie (end.c). poll() is one turn of the core (turns.c). What is rare is left to the stack: _begin_turn() where timers of
 * Python's run or the clock is the caller's, _end_turn() after those and where there is something to tell.
 *
 * Invariant: poll() has references to the way and to the endpoints until it returns, whoever closes the stack meanwhile.
 */
#include "way.h"

#include <stddef.h>
#include <structmember.h>

struct driven {
  PyObject_HEAD
  PyObject *way, *endpoints, *first;   /* NULL before they are set; the way, too, when the stack is closed */
  char telling;                    /* the dispatcher runs */
};

static struct driven *
driven_of(PyObject *self)
{
  return (struct driven *)(void *)self;
}

PyObject *
lwipy_driven_way(PyObject *self, const struct lwipy_calls *calls)
{
  PyObject *there = PyObject_TypeCheck(self, (PyTypeObject *)calls->driven) ? driven_of(self)->way : NULL;
  return lwipy_found(self, there, calls->names[LWIPY_NAME_WAY]);
}

/* ---- A turn --------------------------------------------------------------------------------------------------------- */

/* 1: something was done before it; -1, and an exception: that failed. */
static int
begin_turn(PyObject *self, PyObject *const *names)
{
  PyObject *first = lwipy_found(self, driven_of(self)->first, names[LWIPY_NAME_FIRST]), *begin, *done;
  int early = first != NULL ? PyObject_IsTrue(first) : -1;
  Py_XDECREF(first);
  if (early <= 0) {
    return early;
  }
  begin = PyObject_GetAttr(self, names[LWIPY_NAME_BEGIN_TURN]);
  done = begin != NULL ? PyObject_CallNoArgs(begin) : NULL;
  Py_XDECREF(begin);
  Py_XDECREF(done);
  return done != NULL ? 1 : -1;
}

static PyObject *
take_turn(PyObject *self, const struct lwipy_calls *calls)
{
  PyObject *capsule = lwipy_driven_way(self, calls), *endpoints = NULL, *found = NULL;
  const struct way *way = capsule != NULL ? lwipy_way_in(capsule) : NULL;
  if (way != NULL) {
    endpoints = lwipy_found(self, driven_of(self)->endpoints, calls->names[LWIPY_NAME_ENDPOINTS]);
  }
  if (endpoints != NULL) {
    found = lwipy_take_turn(calls, way, driven_of(self)->telling ? Py_None : endpoints);
  }
  Py_XDECREF(endpoints);
  Py_XDECREF(capsule);
  return found;
}

/* What poll() returns after that. */
static PyObject *
end_turn(PyObject *self, PyObject *const *names, PyObject *found)
{
  PyObject *end = PyObject_GetAttr(self, names[LWIPY_NAME_END_TURN]);
  PyObject *deadline = end != NULL ? PyObject_CallFunctionObjArgs(end, found, NULL) : NULL;
  Py_XDECREF(end);
  Py_DECREF(found);
  return deadline;
}

static PyObject *
poll(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
  const struct lwipy_calls *calls = PyType_GetModuleState(type);
  PyObject *found;
  int early;
  (void)arguments;
  if (given != 0 || keywords != NULL) {
    return PyErr_Format(PyExc_TypeError, "expected no arguments");
  }
  if ((early = begin_turn(self, calls->names)) < 0 || (found = take_turn(self, calls)) == NULL) {
    return NULL;
  }
  return early || PyList_Check(found) ? end_turn(self, calls->names, found) : found;
}

/* ---- The class ------------------------------------------------------------------------------------------------------ */

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
  const struct driven *driven = driven_of(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(driven->way);
  Py_VISIT(driven->endpoints);
  Py_VISIT(driven->first);
  return 0;
}

static int
clear(PyObject *self)
{
  struct driven *driven = driven_of(self);
  Py_CLEAR(driven->way);
  Py_CLEAR(driven->endpoints);
  Py_CLEAR(driven->first);
  return 0;
}

static void
dealloc(PyObject *self)
{
  lwipy_dealloc(self, clear);
}

static PyMethodDef methods[] = {
  {"poll", (PyCFunction)(void (*)(void))(poll), METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
   "poll($self)\n--\n\n"
   "Runs what is due, hands out events and frames; seconds until the next deadline, or None for none.\n\n"
   "StackError when lwIP failed. Call it again then, or sooner when a frame came."},
  {NULL, NULL, 0, NULL}
};

static PyMemberDef members[] = {
  {"_way", T_OBJECT_EX, offsetof(struct driven, way), 0, NULL},
  {"_endpoints", T_OBJECT_EX, offsetof(struct driven, endpoints), 0, NULL},
  {"_first", T_OBJECT_EX, offsetof(struct driven, first), 0, NULL},
  {"_telling", T_BOOL, offsetof(struct driven, telling), 0, NULL},
  {NULL, 0, 0, 0, NULL}
};

static PyType_Slot slots[] = {
  {Py_tp_methods, methods},
  {Py_tp_members, members},
  {Py_tp_traverse, (void *)(uintptr_t)traverse},
  {Py_tp_clear, (void *)(uintptr_t)clear},
  {Py_tp_dealloc, (void *)(uintptr_t)dealloc},
  {Py_tp_doc, (void *)(uintptr_t)"What C needs to know of a stack."},
  {0, NULL}
};

PyType_Spec lwipy_driven_type = {
  .name = "lwipy._calls.Driven", .basicsize = sizeof(struct driven),
  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, .slots = slots
};
