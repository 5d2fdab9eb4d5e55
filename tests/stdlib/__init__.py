"""CPython's own tests, as they ship with the interpreter, on a stack's sockets."""
