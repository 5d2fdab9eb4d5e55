/*
 * Notes: the objects whose memory a core sends from (held.c).
 *
 * Theory of operation. What is sent so are bytes, which can neither change nor move, and views of bytes. The object gets
 * a note with a reference to it, and the note's address is the token that the core is given. The core is asked for tokens
 * with every sixteenth of these sends, and when it reminds of it.
 *
 * Invariants:
 * 1. A note lives, and with it the object, as long as the core may read that: until its token was told, or the core is
 *    freed. Whoever frees the core owns the notes, and calls clear() then.
 * 2. The list is changed with its mutex held, under which no Python runs.
 */
#include "notes.h"

#include "platform.h"

#include <stdlib.h>

#define NOTES "lwipy.notes"
#define ASK   16                   /* held sends from one asking for tokens to the next */

struct note {
  struct note *next, *previous;
  PyObject *object;
};

struct notes {
  lwipy_mutex mutex;
  struct note ring;                /* its beginning, no note */
  Py_ssize_t count;
  unsigned sends;
};

struct notes *
lwipy_notes_of(PyObject *capsule)
{
  return PyCapsule_GetPointer(capsule, NOTES);
}

struct note *
lwipy_notes_hold(struct notes *notes, PyObject *object, int *ask)
{
  struct note *note = malloc(sizeof(*note));
  if (note == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  Py_INCREF(object);
  note->object = object;
  lwipy_mutex_lock(&notes->mutex);
  note->next = &notes->ring;
  note->previous = notes->ring.previous;
  note->previous->next = note;
  notes->ring.previous = note;
  notes->count++;
  *ask = ++notes->sends % ASK == 0;
  lwipy_mutex_unlock(&notes->mutex);
  return note;
}

void
lwipy_notes_drop(struct notes *notes, struct note *note)
{
  PyObject *object = note->object;
  lwipy_mutex_lock(&notes->mutex);
  note->next->previous = note->previous;
  note->previous->next = note->next;
  notes->count--;
  lwipy_mutex_unlock(&notes->mutex);
  free(note);
  Py_DECREF(object);
}

void
lwipy_notes_told(struct notes *notes, const uint64_t *tokens, int count)
{
  int i;
  for (i = 0; i < count; i++) {
    if (tokens[i] != 0) {          /* of memory that nobody has to keep: benchmarks/pair.c */
      lwipy_notes_drop(notes, (struct note *)(uintptr_t)tokens[i]);
    }
  }
}

static void
end_notes(PyObject *capsule)
{
  struct notes *notes = lwipy_notes_of(capsule);
  lwipy_mutex_destroy(&notes->mutex);
  free(notes);
}

/* notes(): an empty list of them. */
PyObject *
lwipy_notes_new(PyObject *module, PyObject *none)
{
  struct notes *notes = calloc(1, sizeof(*notes));
  PyObject *capsule;
  (void)module;
  (void)none;
  if (notes == NULL) {
    return PyErr_NoMemory();
  }
  notes->ring.next = notes->ring.previous = &notes->ring;
  lwipy_mutex_init(&notes->mutex);
  if ((capsule = PyCapsule_New(notes, NOTES, end_notes)) == NULL) {
    lwipy_mutex_destroy(&notes->mutex);
    free(notes);
  }
  return capsule;
}

/* clear(notes): the core is freed. */
PyObject *
lwipy_notes_clear(PyObject *module, PyObject *capsule)
{
  struct notes *notes = lwipy_notes_of(capsule);
  (void)module;
  if (notes == NULL) {
    return NULL;
  }
  while (notes->ring.next != &notes->ring) {
    lwipy_notes_drop(notes, notes->ring.next);
  }
  Py_RETURN_NONE;
}

/* held(notes): how many there are. */
PyObject *
lwipy_notes_count(PyObject *module, PyObject *capsule)
{
  const struct notes *notes = lwipy_notes_of(capsule);
  (void)module;
  return notes == NULL ? NULL : PyLong_FromSsize_t(notes->count);
}
