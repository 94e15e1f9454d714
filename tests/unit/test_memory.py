"""What is freed is kept: counted in page faults, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from lsd.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(16 << 20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(30)  # the first ones still find their places
print(faults(10))
"""


def faults(how: str) -> int:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    made = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True, env=env)
    return int(made.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_memory_comes_back_without_page_faults():
    pages = (64 << 20) // 4096
    assert faults("plain") > 9 * pages and faults("keep") < 2 * pages


def test_what_is_there_is_left_alone_by_the_garbage_collector():
    code = "import gc; from lsd.memory import settle; settle(); print(gc.get_freeze_count() > 1000)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
