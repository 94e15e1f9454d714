"""What things take in memory: the most that tensors take while something runs, and what was told beforehand held against it.

    python -m benchmarks.memory [--models resnet50 …]

Printed for networks of random weights, each case in a process of its own: the price (`memory_of_method`, `memory_of_ascent`), the
most that tensors took by the log of torch's allocator, the same in every run, and by how much the process itself grew.
"""

import argparse
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

MODELS = ("resnet50", "vit_base_patch16_224", "efficientnet_b0", "convnext_tiny")
_SMOOTH = "smoothgrad, batch "
WORKS = ("gradient", f"{_SMOOTH}8", f"{_SMOOTH}32", "depth_fusion", "ascent, 8 pictures", "ascent, 2 of 4 views")


def peak_bytes(work: Callable[..., object], *arguments) -> int:
    """Bytes that tensors take at the most while `work(*arguments)` runs, above what is there before: the same in every run.

    The peak of the process depends on what the system's allocator kept from before.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as recorded:
        work(*arguments)
    changes = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    return max(held, default=0)


def growth_bytes(work: Callable[[], object]) -> int:
    """By how much the process grows at the most while `work` runs; Linux."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def case(arch: str, work: str) -> tuple[int, Callable[[], object]]:
    """(the price, what it is the price of), of a fresh network."""
    import timm

    from lsd.features.ascent import ascend
    from lsd.features.price import memory_of_ascent
    from lsd.features.recipes import find_recipe
    from lsd.models import ImageModel
    from lsd.saliency.methods import attribute, find_method
    from lsd.saliency.price import memory_of_method
    from lsd.saliency.targets import of_class

    model = ImageModel(timm.create_model(arch), arch)
    if work.startswith("ascent"):
        count, views = (8, 1) if "8" in work else (2, 4)
        lsd = find_recipe("lsd")
        recipe = replace(lsd, steps=4, transforms=replace(lsd.transforms, views=views))
        run = lambda: list(ascend(model, ["class/0"], recipe, range(count)))  # noqa: E731
        return memory_of_ascent([model], recipe, count), run
    method, _, batch = work.partition(", batch ")
    settings = find_method(method).parse({"samples": int(batch), "batch_size": int(batch)} if batch else {})
    images, target = torch.rand(1, 3, model.spec.height, model.spec.width), of_class(model, 0, "log_odds", None)
    return memory_of_method(model, method, settings), lambda: attribute(method, model, images, target, **settings)


def one(arch: str, work: str, how: str) -> str:
    """The price and what was taken, as a line; in a process of its own."""
    price, run = case(arch, work)
    return f"{price} {peak_bytes(run) if how == 'tensors' else growth_bytes(run)}"


def _asked(arch: str, work: str, how: str) -> tuple[int, int]:
    command = [sys.executable, "-m", "benchmarks.memory", "--one", arch, work, how]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    price, taken = map(int, told.splitlines()[-1].split())
    return price, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(one(*options.one))
        return
    print(f"{'MB':24}{'':22}{'price':>8}{'tensors':>10}{'process':>10}{'price / process':>18}")
    for arch, work in itertools.product(options.models, WORKS):
        (price, tensors), (_, process) = (_asked(arch, work, how) for how in ("tensors", "process"))
        numbers = f"{price / 1e6:8.0f}{tensors / 1e6:10.0f}{process / 1e6:10.0f}{price / process:18.2f}"
        print(f"{arch:24}{work:22}{numbers}", flush=True)


if __name__ == "__main__":
    main()
