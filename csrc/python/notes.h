/*
 * See notes.c.
 */
#ifndef LWIPY_PYTHON_NOTES_H
#define LWIPY_PYTHON_NOTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "lwipy.h"

struct desk;                                           /* of an interpreter, where holds come home to */
struct note;
struct notes;                                          /* of a stack */

struct desk *lwipy_desk_open(void);                    /* NULL, and an exception: no memory */
void lwipy_desk_leave(struct desk *desk);

PyObject *lwipy_notes_new(struct desk *desk);          /* a capsule of them, which holds the desk */
struct notes *lwipy_notes_of(PyObject *capsule);       /* NULL, and an exception: it is none */
Py_ssize_t lwipy_notes_count(struct notes *notes);
void lwipy_notes_collect(const struct notes *notes);   /* lets go what nobody reads any more, of any stack */
lwipy_hold *lwipy_notes_hold(struct notes *notes, PyObject *object);   /* NULL, and an exception: no memory */
void lwipy_notes_drop(lwipy_hold *hold);               /* which no core was given */

#endif /* LWIPY_PYTHON_NOTES_H */
