/*
 * The way from Python's functions to a core: see calls.c.
 */
#ifndef LWIPY_PYTHON_WAY_H
#define LWIPY_PYTHON_WAY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "lwipy.h"

struct desk;
struct notes;

/* The module's own: the names by which its functions find what Python keeps, its classes, and the notes' desk. */
enum { LWIPY_NAME_STACK, LWIPY_NAME_HANDLE, LWIPY_NAME_ON_EVENT, LWIPY_NAME_CHECK, LWIPY_NAME_WAY, LWIPY_NAME_ENDPOINTS,
       LWIPY_NAME_FIRST, LWIPY_NAME_BEGIN_TURN, LWIPY_NAME_END_TURN, LWIPY_NAME_AFTER, LWIPY_NAMES };

struct lwipy_calls {
  PyObject *names[LWIPY_NAMES];
  PyObject *end, *driven;
  struct desk *desk;
};

struct way {
  lwipy_core *core;
  PyObject *owner, *capsule;       /* of the core, and of the notes */
  struct notes *notes;
  size_t least;                    /* bytes from which on a send is held */
};

/* The first of a function's `count` arguments; NULL, and an exception: it is none, or others were given. */
const struct way *lwipy_way_of(PyObject *const *arguments, Py_ssize_t given, Py_ssize_t count);

/* In a capsule that something has a reference to; NULL, and an exception: it is none. */
struct way *lwipy_way_in(PyObject *capsule);

/* The hold of a send that pays without a copy; NULL for others, or, with an exception, without memory. */
lwipy_hold *lwipy_hold_of(const struct way *way, PyObject *data, size_t length);

/* What lies `there` in an object of a class of ours, or what it has by that name. Here as below, what is given is a new
   reference, or NULL, and an exception; or 0, or -1 and an exception. */
PyObject *lwipy_found(PyObject *self, PyObject *there, PyObject *name);
void lwipy_dealloc(PyObject *self, inquiry clear);   /* of an object whose slots `clear` empties */

/* Of what is an End. */
PyObject *lwipy_end_stack(PyObject *self, PyObject *const *names);
int lwipy_end_handle(PyObject *self, PyObject *const *names, lwipy_handle *handle);

/* Of what should be an End, in a dictionary of Python's: 1 if it has an `on_event`. */
int lwipy_end_hears(PyObject *self, const struct lwipy_calls *calls);

/* Of what should be Driven: the way's capsule. */
PyObject *lwipy_driven_way(PyObject *self, const struct lwipy_calls *calls);

/* Functions and classes of Python's: see the files of these names. A Connection is an End. */
extern PyType_Spec lwipy_end_type, lwipy_connection_type, lwipy_driven_type;
PyObject *lwipy_calls_deadline(PyObject *module, PyObject *capsule);
PyObject *lwipy_calls_events(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_recv(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_wait_send(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_wait_recv(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_wait_recv_into(PyObject *module, PyObject *const *arguments, Py_ssize_t given);

/* A turn, and events of `endpoints` with it if nothing else is new and somebody hears of them: the list of those, an empty
   one if there is something to look at, or the deadline. None for the endpoints: nobody is told now. */
PyObject *lwipy_take_turn(const struct lwipy_calls *calls, const struct way *way, PyObject *endpoints);

/* What is received as an object: few bytes by way of the stack, many in memory of just that size. */
#define LWIPY_FEW  2048
#define LWIPY_MANY ((size_t)1 << 20)
size_t lwipy_few_of(size_t most, int *flags);          /* the room to ask for, and the flags to add */
PyObject *lwipy_received(const struct way *way, lwipy_handle handle, const char *few, int64_t got, size_t most, int flags);
PyObject *lwipy_received_now(const struct way *way, lwipy_handle handle, size_t most, int flags);

#endif /* LWIPY_PYTHON_WAY_H */
