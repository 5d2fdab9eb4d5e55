/*
 * See notes.c. The functions with a module are Python's: notes(), clear(notes), held(notes).
 */
#ifndef LWIPY_PYTHON_NOTES_H
#define LWIPY_PYTHON_NOTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "lwipy.h"

struct note;
struct notes;

struct notes *lwipy_notes_of(PyObject *capsule);       /* NULL, and an exception: it is none */
/* A note that is the core's if that takes the bytes. `ask`: it is time to ask for tokens. */
struct note *lwipy_notes_hold(struct notes *notes, PyObject *object, int *ask);
void lwipy_notes_drop(struct notes *notes, struct note *note);
void lwipy_notes_told(struct notes *notes, const uint64_t *tokens, int count);

PyObject *lwipy_notes_new(PyObject *module, PyObject *none);
PyObject *lwipy_notes_clear(PyObject *module, PyObject *capsule);
PyObject *lwipy_notes_count(PyObject *module, PyObject *capsule);

#endif /* LWIPY_PYTHON_NOTES_H */
