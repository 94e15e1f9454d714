"""What a step of ascent costs beside the bare passes that it cannot do without; what depth and batches save.

    python -m benchmarks.features_speed [--models resnet50 vit_tiny_patch16_224 mobilenetv2_100] [--rounds 9] [--batch 8]

Random weights at 224 × 224: the arithmetic is that of trained ones. The bare passes (forward and backward to the input of
the frozen network, at the same batch) are timed between the steps of a real ascent, so that a machine whose speed
drifts slows both; a ratio is the median over rounds. The whole step holds everything that `ascend` does: decoding the
picture, the view, both passes, the regularizers, the optimiser, and the bookkeeping.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import timm
import torch

from benchmarks.memory import peak_bytes
from lsd.features.ascent import ascend
from lsd.features.prepare import prepare
from lsd.features.recipes import FOURIER, LSD, LUCID, NONE, Recipe
from lsd.memory import keep_freed_memory
from lsd.models import ImageModel
from lsd.progress import listening


def _model(name: str) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(timm.create_model(name), name)


def _bare(net: torch.nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """One forward and one backward pass to the input of the logits of one class."""
    images = images.clone().requires_grad_(True)
    return lambda: torch.autograd.grad(net(images)[:, 0].sum(), images)[0]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def steps_beside(
    model: ImageModel, units: list[str], recipe: Recipe, beside: dict[str, Callable[[], object]], rounds: int
) -> tuple[float, dict[str, float], dict[str, float]]:
    """(seconds a step, seconds of each of `beside`, step / each), medians over rounds that take turns."""
    steps, others = [], {name: [] for name in beside}
    last = [0.0]

    def between(*_) -> None:
        steps.append(time.perf_counter() - last[0])
        for name, work in beside.items():
            others[name].append(_seconds(work))
        last[0] = time.perf_counter()

    recipe = replace(recipe, steps=rounds + 3, redirect_steps=0)
    with listening(between):
        for _ in ascend(model, units, recipe, batch_size=len(units), every=10**6):
            pass
    steps = steps[3:]  # the first ones warm up
    others = {name: times[3:] for name, times in others.items()}
    ratios = {n: statistics.median(a / b for a, b in zip(steps, t, strict=True)) for n, t in others.items()}
    return statistics.median(steps), {n: statistics.median(t) for n, t in others.items()}, ratios


def cost_of_a_step(model: ImageModel, batch: int, rounds: int) -> None:
    """Whole step / bare passes, for recipes of one view."""
    size = (batch, 3, model.spec.height, model.spec.width)
    images = torch.rand(size)
    twin = prepare(model)
    best = _bare(twin.net, images.contiguous(memory_format=torch.channels_last) if _last(twin) else images)
    beside = {"same network": best, "unfused NCHW": _bare(model.net, images)}
    for recipe in (NONE, FOURIER, LUCID, LSD):
        seconds, others, ratios = steps_beside(model, [f"class/{i}" for i in range(batch)], recipe, beside, rounds)
        times = "".join(f"{t / batch * 1e3:14.1f}" for t in others.values())
        print(
            f"{model.name:24}{recipe.name:10}{seconds / batch * 1e3:10.1f}{times}"
            f"{ratios['same network']:12.2f}{ratios['unfused NCHW']:12.2f}",
            flush=True,
        )


def _last(model: ImageModel) -> bool:
    weights = [m.weight for m in model.net.modules() if isinstance(m, torch.nn.Conv2d)]
    return any(w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous() for w in weights)


def _quietly(steps) -> None:
    """One step of another ascent, whose progress nobody hears."""
    with listening(lambda *_: None):
        next(steps)


DEPTHS = {
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "vit_tiny_patch16_224": ("blocks.0", "blocks.2", "blocks.5", "blocks.11"),
    "mobilenetv2_100": ("blocks.0", "blocks.2", "blocks.4", "blocks.6"),
}


def cost_of_depth(model: ImageModel, batch: int, rounds: int) -> None:
    """A step for a channel of each stage, in proportion to a step for a class."""
    for layer in DEPTHS.get(model.name, ()):
        classes = [f"class/{i}" for i in range(batch)]
        whole = ascend(model, classes, replace(LUCID, steps=10**5), every=1, batch_size=batch)
        beside = {"class": lambda whole=whole: _quietly(whole)}
        units = [f"{layer}/channel/{i}" for i in range(batch)]
        _, _, ratios = steps_beside(model, units, LUCID, beside, rounds)
        whole.close()
        print(f"{model.name:24}{layer:12}{ratios['class']:8.2f}", flush=True)


def many_in_a_batch(model: ImageModel, count: int, steps: int) -> None:
    """Pictures in batches of 8 against one by one: the same units, the same steps."""
    units = [f"class/{i}" for i in range(count)]
    recipe = replace(LUCID, steps=steps)
    together = _seconds(lambda: list(ascend(model, units, recipe, every=10**6)))
    alone = _seconds(lambda: [list(ascend(model, [unit], recipe, every=10**6)) for unit in units[: count // 4]]) * 4
    print(f"{model.name:24}{count} units, {steps} steps: together / alone {together / alone:.2f}", flush=True)


def memory(model: ImageModel, batch: int) -> None:
    """The most that tensors take during two steps, a picture of the batch; beside it the bare passes of the same network."""
    units, recipe = [f"class/{i}" for i in range(batch)], replace(LUCID, steps=2)
    twin = prepare(model)
    bare = _bare(twin.net, torch.rand(batch, 3, model.spec.height, model.spec.width))
    whole = peak_bytes(lambda: list(ascend(model, units, recipe, batch_size=batch, every=10**6)))
    print(f"{model.name:24}{whole / batch / 2**20:8.1f}{peak_bytes(bare) / batch / 2**20:8.1f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_tiny_patch16_224", "mobilenetv2_100"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("step", "depth", "batch", "memory"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the command lines do, for the bare passes too
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    models = [_model(name) for name in options.models]
    if options.only in (None, "step"):
        print(f"\nms an image-step, batch {options.batch}")
        heads = f"{'whole':>10}{'same network':>14}{'unfused NCHW':>14}{'/ same':>12}{'/ unfused':>12}"
        print(f"{'':24}{'recipe':10}{heads}")
        for model in models:
            cost_of_a_step(model, options.batch, options.rounds)
    if options.only in (None, "depth"):
        print("\na channel's step / a class unit's step")
        for model in models:
            cost_of_depth(model, options.batch, options.rounds)
    if options.only in (None, "batch"):
        print()
        for model in models:
            many_in_a_batch(model, 64, 2)
    if options.only in (None, "memory"):
        print("\nMiB a picture: whole step, bare passes")
        for model in models:
            memory(model, options.batch)


if __name__ == "__main__":
    main()
