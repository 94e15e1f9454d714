"""How long a visitor waits for the first picture that can be named: `python -m benchmarks.first_picture`.

Pictures are made one at a time, as the page makes them, at the effort it starts with. Each is looked at on its way, beside the
clock: from which step on do the judges, two networks that have no part in it, put its class first, one of them or both? The judges'
time is not counted.
"""

import argparse
import statistics
import time

import torch

from lsd.features.ascent import ascend
from lsd.features.judge import probabilities
from lsd.features.pictures import to_pixels
from lsd.features.recipes import DEFAULT, at_effort, find_recipe
from lsd.models import load_model

MODEL = "tf_efficientnet_lite0.in1k"
JUDGES = ("tf_efficientnet_lite1.in1k", "tf_efficientnet_lite2.in1k")


def first_named(model, judges, index: int, recipe, every: int) -> tuple[list[float], float, float]:
    """(seconds until one judge and until both name it, inf where they do not; seconds of all steps, seconds until the first)."""
    named, clock, first = [float("inf")] * 2, 0.0, 0.0
    steps = ascend(model, [f"class/{index}"], recipe, every=1)
    while True:
        started = time.perf_counter()
        snapshot = next(steps, None)
        if snapshot is None:
            return named, clock, first
        clock += time.perf_counter() - started
        first = first or clock
        if snapshot.step % every and not snapshot.finished:
            continue
        (pixels,) = to_pixels(snapshot.images)
        hits = sum(probabilities([pixels], judge)[0].argmax().item() == index for judge in judges)
        named = [
            min(seconds, clock) if hits >= wanted else seconds for seconds, wanted in zip(named, (1, 2), strict=True)
        ]


def main() -> None:
    """Print a line a class, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(7, 1000, 50)))
    parser.add_argument("--every", type=int, default=2, help="steps between two looks (default: 2)")
    options = parser.parse_args()
    recipe = at_effort(find_recipe(DEFAULT), "draft")
    model, *judges = map(load_model, (MODEL, *JUDGES))
    for _ in ascend(model, ["class/0"], recipe, every=100):  # the twin is made, and memory is there
        pass
    rows = [first_named(model, judges, index, recipe, options.every) for index in options.classes]
    for index, ((one, both), whole, first) in zip(options.classes, rows, strict=True):
        print(
            f"{index:4}  first step {first:.2f} s, one judge {one:.2f} s, both {both:.2f} s, {recipe.steps} steps {whole:.2f} s"
        )
    for i, who in enumerate(("one judge", "both judges")):
        times = [named[i] for named, *_ in rows]
        share = sum(t < float("inf") for t in times) / len(times)
        within = sum(t <= 1 for t in times) / len(times)
        print(f"{who}: median {statistics.median(times):.2f} s; within 1 s {within:.0%}; at all {share:.0%}")
    print(
        f"a draft: median {statistics.median(whole for _, whole, _ in rows):.2f} s; {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
