/*
 * The way from Python's functions to a core: see calls.c.
 */
#ifndef LWIPY_PYTHON_WAY_H
#define LWIPY_PYTHON_WAY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "lwipy.h"

struct notes;

struct way {
  lwipy_core *core;
  PyObject *owner, *capsule;       /* of the core, and of the notes */
  struct notes *notes;
  size_t least;                    /* bytes from which on a send is held */
};

/* The first of a function's `count` arguments; NULL, and an exception: it is none, or others were given. */
const struct way *lwipy_way_of(PyObject *const *arguments, Py_ssize_t given, Py_ssize_t count);

/* The hold of a send that pays without a copy; NULL for others, or, with an exception, without memory. */
lwipy_hold *lwipy_hold_of(const struct way *way, PyObject *data, size_t length);

/* Functions of Python's: see receiving.c and waiting.c. */
PyObject *lwipy_calls_recv(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_recv_into(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_wait_send(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_wait_recv(PyObject *module, PyObject *const *arguments, Py_ssize_t given);
PyObject *lwipy_calls_wait_recv_into(PyObject *module, PyObject *const *arguments, Py_ssize_t given);

/* What is received as an object: few bytes by way of the stack, many in memory of just that size. */
#define LWIPY_FEW 2048
size_t lwipy_few_of(size_t most, int *flags);          /* the room to ask for, and the flags to add */
PyObject *lwipy_received(const struct way *way, lwipy_handle handle, const char *few, int64_t got, size_t most, int flags);

#endif /* LWIPY_PYTHON_WAY_H */
