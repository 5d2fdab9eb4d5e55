"""How a stack is driven: by a thread, or by an event loop (lwipy.aio)."""
