"""CPython's own tests, as they ship with the interpreter, on the sockets of a stack.

``tests/test_stdlib.py`` runs them and compares with the tables in ``results/``, one for each version of Python: what
has passed once must pass. ``python -m stdlib``, in the folder tests, runs them by hand and writes the tables.
"""
