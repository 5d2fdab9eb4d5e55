"""CPython's own tests, as they ship with the interpreter, on a stack's sockets. ``__main__.py`` says how to run them."""
