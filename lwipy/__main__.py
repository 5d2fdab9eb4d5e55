"""``python -m lwipy``."""

from lwipy.cli import main

raise SystemExit(main())
