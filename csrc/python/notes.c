/*
 * Notes: the objects whose memory cores send from (csrc/held.c).
 *
 * Theory of operation. What is sent so are bytes, which can neither change nor move, and views of bytes. The object gets
 * a note with a reference to it, and the core the note's hold, which comes home to the interpreter's desk when no core
 * refers to the memory any more: that may be long after the sending stack was closed, and from any thread. Notes on the
 * desk are let go by whoever comes by: a send of that kind by any stack, a stack that was reminded, one that is closed.
 *
 * Invariants:
 * 1. A note lives, and with it the object, as long as a core may read that.
 * 2. A stack's notes are counted; the count lives as long as one of them, and the desk as long as a count, or the module.
 * 3. References to objects are dropped by threads of their interpreter, which hold nothing else.
 */
#include "notes.h"

#include "platform.h"

#include <stdlib.h>

#define NOTES "lwipy.notes"

struct desk {
  lwipy_hold *home;                /* atomic, as are the numbers of references */
  uint32_t references;
};

struct notes {
  struct desk *desk;
  uint32_t references;             /* the notes, and the capsule */
};

struct note {
  lwipy_hold hold;                 /* first: all that cores see */
  struct notes *notes;
  PyObject *object;
};

/* ---- The desk ------------------------------------------------------------------------------------------------------- */

struct desk *
lwipy_desk_open(void)
{
  struct desk *desk = calloc(1, sizeof(*desk));
  if (desk == NULL) {
    PyErr_NoMemory();
  } else {
    desk->references = 1;
  }
  return desk;
}

void
lwipy_desk_leave(struct desk *desk)
{
  if (lwipy_atomic_add(&desk->references, -1) == 0) {
    free(desk);
  }
}

/* ---- Notes ---------------------------------------------------------------------------------------------------------- */

struct notes *
lwipy_notes_of(PyObject *capsule)
{
  return PyCapsule_GetPointer(capsule, NOTES);
}

Py_ssize_t
lwipy_notes_count(struct notes *notes)
{
  return (Py_ssize_t)lwipy_atomic_get(&notes->references) - 1;
}

static void
leave(struct notes *notes)
{
  if (lwipy_atomic_add(&notes->references, -1) == 0) {
    lwipy_desk_leave(notes->desk);
    free(notes);
  }
}

void
lwipy_notes_drop(lwipy_hold *hold)
{
  struct note *note = (struct note *)(void *)hold;
  PyObject *object = note->object;
  leave(note->notes);
  free(note);
  Py_DECREF(object);
}

void
lwipy_notes_collect(const struct notes *notes)
{
  struct desk *desk = notes->desk;
  lwipy_hold *hold;
  if (lwipy_atomic_get_pointer(&desk->home) == NULL) {
    return;
  }
  hold = lwipy_atomic_swap(&desk->home, NULL);
  while (hold != NULL) {
    lwipy_hold *next = hold->next;
    lwipy_notes_drop(hold);
    hold = next;
  }
}

lwipy_hold *
lwipy_notes_hold(struct notes *notes, PyObject *object)
{
  struct note *note = malloc(sizeof(*note));
  if (note == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  note->hold.home = &notes->desk->home;
  note->hold.references = 1;
  note->notes = notes;
  Py_INCREF(object);
  note->object = object;
  (void)lwipy_atomic_add(&notes->references, 1);
  return &note->hold;
}

static void
end_notes(PyObject *capsule)
{
  leave(lwipy_notes_of(capsule));
}

PyObject *
lwipy_notes_new(struct desk *desk)
{
  struct notes *notes = calloc(1, sizeof(*notes));
  PyObject *capsule;
  if (notes == NULL) {
    return PyErr_NoMemory();
  }
  notes->desk = desk;
  notes->references = 1;
  (void)lwipy_atomic_add(&desk->references, 1);
  if ((capsule = PyCapsule_New(notes, NOTES, end_notes)) == NULL) {
    leave(notes);
  }
  return capsule;
}
