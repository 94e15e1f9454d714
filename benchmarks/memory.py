"""The most that tensors take while something runs, from the log of torch's allocator: the same in every run.

The peak of the process would depend on what the system's allocator kept from before.
"""

import itertools
from collections.abc import Callable

import torch


def peak_bytes(work: Callable[..., object], *arguments) -> int:
    """Bytes that tensors take at the most while `work(*arguments)` runs, above what is there before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as recorded:
        work(*arguments)
    changes = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    return max(held, default=0)
