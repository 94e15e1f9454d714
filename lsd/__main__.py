"""`python -m lsd`."""

import os
import sys

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # threads that spin cost their neighbours dearly; read when torch is loaded

from lsd.cli import main
from lsd.memory import keep_freed_memory

keep_freed_memory()
sys.exit(main())
