"""Other people's libraries, unmodified: client and server on two stacks that a wire joins. docs/libraries.md quotes
from here."""
