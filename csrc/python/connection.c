/*
 * What TcpEndpoint does for every few kilobytes, as methods of C.
 *
 * Theory of operation. TcpEndpoint inherits these methods from lwipy._calls.Connection, which has no state of its own:
 * what they work on is an End (end.c). Nothing is interpreted, for what a call of the core takes is not much more than
 * what a function of Python does. What is rare is left to the latter: _check() makes exceptions of codes, and the
 * stack's _after() hears of news.
 *
 * Invariant: a method has references to the stack and the way until it returns, whoever closes what meanwhile.
 */
#include "way.h"
#include "notes.h"

#include "platform.h"

#include <string.h>

/* One method while it runs. */
struct call {
  const struct lwipy_calls *calls;
  PyObject *self, *stack, *capsule;
  const struct way *way;
  lwipy_handle handle;
};

static void
end(struct call *call)
{
  Py_XDECREF(call->capsule);
  Py_XDECREF(call->stack);
}

/* 0, and an exception: the stack is closed. */
static int
begin(struct call *call, PyObject *self, PyTypeObject *type)
{
  memset(call, 0, sizeof(*call));
  call->calls = PyType_GetModuleState(type);
  call->self = self;
  if ((call->stack = lwipy_end_stack(self, call->calls->names)) != NULL &&
      (call->capsule = lwipy_driven_way(call->stack, call->calls)) != NULL &&
      (call->way = lwipy_way_in(call->capsule)) != NULL &&
      lwipy_end_handle(self, call->calls->names, &call->handle) == 0) {
    return 1;
  }
  end(call);
  return 0;
}

/* What the core has left for Python is told; -1, and an exception: that failed. */
static int
settle(const struct call *call)
{
  PyObject *after, *done;
  if (lwipy_atomic_get(lwipy_attention(call->way->core)) == 0) {
    return 0;
  }
  after = PyObject_GetAttr(call->stack, call->calls->names[LWIPY_NAME_AFTER]);
  done = after != NULL ? PyObject_CallNoArgs(after) : NULL;
  Py_XDECREF(after);
  Py_XDECREF(done);
  return done != NULL ? 0 : -1;
}

/* The exception that a code stands for. */
static PyObject *
complain(const struct call *call, int64_t code, const char *what)
{
  PyObject *check = PyObject_GetAttr(call->self, call->calls->names[LWIPY_NAME_CHECK]);
  PyObject *result = check != NULL ? PyObject_CallFunction(check, "Ls", (long long)code, what) : NULL;
  Py_XDECREF(check);
  return result;
}

/* A number of bytes, or why there are none: in vain is `nothing`, with a new reference, or, for NULL, an exception. */
static PyObject *
answer(const struct call *call, int64_t result, PyObject *nothing, const char *why)
{
  if (result >= 0) {
    return PyLong_FromLongLong(result);
  }
  if (result == LWIPY_EWOULDBLOCK && nothing != NULL) {
    Py_INCREF(nothing);
    return nothing;
  }
  return complain(call, result, result == LWIPY_EWOULDBLOCK ? why : "");
}

/* ---- Arguments ------------------------------------------------------------------------------------------------------ */

static int
is_called(PyObject *name, const char *text)
{
  return PyUnicode_CompareWithASCIIString(name, text) == 0;
}

/* The only argument, which is `name`, maybe called so; NULL, and an exception: others were given, or none. */
static PyObject *
argument(PyObject *const *arguments, Py_ssize_t given, PyObject *keywords, const char *name)
{
  Py_ssize_t named = keywords != NULL ? PyTuple_Size(keywords) : 0;
  if (given + named == 1 && (named == 0 || is_called(PyTuple_GetItem(keywords, 0), name))) {
    return arguments[0];
  }
  return PyErr_Format(PyExc_TypeError, "expected one argument, %s", name);
}

/* Of (buffer, peek=False), where `most` may go without a name: the buffer, and the flags; NULL, and an exception. */
static PyObject *
buffer_of(PyObject *const *arguments, Py_ssize_t given, PyObject *keywords, Py_ssize_t most, int *flags)
{
  PyObject *buffer = given > 0 ? arguments[0] : NULL, *peek = given > 1 ? arguments[1] : NULL;
  Py_ssize_t i, named = keywords != NULL ? PyTuple_Size(keywords) : 0;
  int is_peeking, expected = given <= most;
  for (i = 0; i < named && expected; i++) {
    PyObject *name = PyTuple_GetItem(keywords, i);
    PyObject **place = is_called(name, "buffer") ? &buffer : is_called(name, "peek") ? &peek : NULL;
    if ((expected = place != NULL && *place == NULL)) {
      *place = arguments[given + i];
    }
  }
  if (!expected || buffer == NULL) {
    PyErr_SetString(PyExc_TypeError, "expected a buffer, and whether to peek");
    return NULL;
  }
  if ((is_peeking = peek != NULL ? PyObject_IsTrue(peek) : 0) < 0) {
    return NULL;
  }
  *flags = is_peeking ? LWIPY_PEEK : 0;
  return buffer;
}

/* ---- Sending -------------------------------------------------------------------------------------------------------- */

static int64_t
send_part(const struct call *call, const Py_buffer *view, lwipy_hold *hold)
{
  size_t length = (size_t)view->len;
  return hold != NULL ? lwipy_tcp_send_held(call->way->core, call->handle, view->buf, length, hold) :
                        lwipy_tcp_send(call->way->core, call->handle, view->buf, length);
}

/* lwipy_tcp_send(), or lwipy_tcp_send_held() where that pays. */
static PyObject *
send_data(PyObject *self, PyTypeObject *type, PyObject *data, PyObject *nothing)
{
  struct call call;
  PyObject *result = NULL;
  lwipy_hold *hold;
  Py_buffer view;
  int64_t sent = 0;
  if (!begin(&call, self, type)) {
    return NULL;
  }
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) == 0) {
    hold = lwipy_hold_of(call.way, data, (size_t)view.len);
    if (hold != NULL || !PyErr_Occurred()) {
      Py_BEGIN_ALLOW_THREADS
      sent = send_part(&call, &view, hold);
      Py_END_ALLOW_THREADS
    }
    if (hold != NULL && sent <= 0) {
      lwipy_notes_drop(hold);
    }
    PyBuffer_Release(&view);
    if (!PyErr_Occurred() && settle(&call) == 0) {
      result = answer(&call, sent, nothing, "the send buffer is full");
    }
  }
  end(&call);
  return result;
}

static PyObject *
send_now(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
  PyObject *data = argument(arguments, given, keywords, "data");
  return data != NULL ? send_data(self, type, data, NULL) : NULL;
}

static PyObject *
send_if_room(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
  PyObject *data = argument(arguments, given, keywords, "data"), *result;
  PyObject *zero = data != NULL ? PyLong_FromLong(0) : NULL;
  if (zero == NULL) {
    return NULL;
  }
  result = send_data(self, type, data, zero);
  Py_DECREF(zero);
  return result;
}

/* ---- Receiving ------------------------------------------------------------------------------------------------------ */

static PyObject *
receive_into(PyObject *self, PyTypeObject *type, PyObject *buffer, int flags, PyObject *nothing)
{
  struct call call;
  PyObject *result = NULL;
  Py_buffer view;
  int64_t got;
  if (!begin(&call, self, type)) {
    return NULL;
  }
  if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) == 0) {
    Py_BEGIN_ALLOW_THREADS
    got = lwipy_tcp_recv(call.way->core, call.handle, view.buf, (size_t)view.len, flags);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    if (settle(&call) == 0) {
      result = answer(&call, got, nothing, "no data waits");
    }
  }
  end(&call);
  return result;
}

static PyObject *
recv_into(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
  int flags;
  PyObject *buffer = buffer_of(arguments, given, keywords, 1, &flags);
  return buffer != NULL ? receive_into(self, type, buffer, flags, NULL) : NULL;
}

static PyObject *
recv_into_if_any(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
  int flags;
  PyObject *buffer = buffer_of(arguments, given, keywords, 2, &flags);
  return buffer != NULL ? receive_into(self, type, buffer, flags, Py_None) : NULL;
}

/* However many are asked for, an object has at most LWIPY_MANY. */
static PyObject *
receive_object(const struct call *call, size_t most)
{
  PyObject *received = lwipy_received_now(call->way, call->handle, most < LWIPY_MANY ? most : LWIPY_MANY, 0);
  int64_t code;
  if (received == NULL || settle(call) != 0) {
    Py_XDECREF(received);
    return NULL;
  }
  if (!PyLong_Check(received)) {
    return received;
  }
  code = PyLong_AsLongLong(received);
  Py_DECREF(received);
  return answer(call, code, NULL, "no data waits");
}

static PyObject *
recv_bytes(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t given, PyObject *keywords)
{
  PyObject *size = argument(arguments, given, keywords, "size"), *result = NULL;
  Py_ssize_t most = size != NULL ? PyNumber_AsSsize_t(size, NULL) : 0;
  struct call call;
  if (PyErr_Occurred()) {
    return NULL;
  }
  if (most < 0) {
    return PyErr_Format(PyExc_ValueError, "size %S is negative", size);
  }
  if (begin(&call, self, type)) {
    result = receive_object(&call, (size_t)most);
    end(&call);
  }
  return result;
}

/* ---- The class ------------------------------------------------------------------------------------------------------ */

/* Their descriptions for who asks Python; lwipy/_calls.pyi has their types. */
#define METHOD(name, function, text) \
  {name, (PyCFunction)(void (*)(void))(function), METH_METHOD | METH_FASTCALL | METH_KEYWORDS, text}

static PyMethodDef methods[] = {
  METHOD("send", send_now,
         "send($self, data)\n--\n\n"
         "Queues what fits into the send buffer and says how many bytes that was; BlockingIOError when none.\n\n"
         "OSError: ECONNRESET, EPIPE (never connected, or after shutdown), ETIMEDOUT. tcp_write."),
  METHOD("send_if_room", send_if_room,
         "send_if_room($self, data)\n--\n\n"
         "As send(), but 0, cheaper than an exception, when nothing fits."),
  METHOD("recv", recv_bytes,
         "recv($self, size)\n--\n\n"
         "At most `size` bytes, and at most a megabyte; b\"\" at the end of the stream.\n\n"
         "BlockingIOError when nothing waits; ValueError for a negative size."),
  METHOD("recv_into", recv_into,
         "recv_into($self, buffer, *, peek=False)\n--\n\n"
         "Fills `buffer` with what has arrived; 0 at the end of the stream. BlockingIOError when nothing waits."),
  METHOD("recv_into_if_any", recv_into_if_any,
         "recv_into_if_any($self, buffer, peek=False)\n--\n\n"
         "As recv_into(), but None, cheaper than an exception, when nothing waits."),
  {NULL, NULL, 0, NULL}
};

static PyType_Slot slots[] = {
  {Py_tp_methods, methods},
  {Py_tp_doc, (void *)(uintptr_t)"What a connection does with bytes."},
  {0, NULL}
};

PyType_Spec lwipy_connection_type = {
  .name = "lwipy._calls.Connection", .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, .slots = slots
};
