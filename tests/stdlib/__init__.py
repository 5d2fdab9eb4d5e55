"""CPython's own tests, as they ship with the interpreter, on a stack's sockets. See ``__main__.py`` for how to run them."""
