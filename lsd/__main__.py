"""`python -m lsd`."""

import sys

from lsd.cli import main
from lsd.memory import keep_freed_memory

keep_freed_memory()
sys.exit(main())
