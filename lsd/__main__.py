"""`python -m lsd`."""

import os
import sys

# Threads that spin cost their neighbours dearly. It is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lsd.cli import main
from lsd.memory import keep_freed_memory
from lsd.process import print_anywhere


def _kept(model, units):
    """Pictures of units that the gallery has. Here, as this is where the program is put together, and late, for DuckDB."""
    from gallery.kept import kept_pictures

    return kept_pictures(model, units)


keep_freed_memory()
print_anywhere()
sys.exit(main(kept=_kept))
