"""Handwritten methods against bare autograd and against Captum: time as ratios within one run, peak memory.

    python -m benchmarks.saliency_speed [--models resnet50 vit_tiny_patch16_224] [--rounds 9] [--threads 2]

Random weights, 224 × 224: the arithmetic is that of trained ones. The two sides of a ratio take turns, round by round,
so that a machine whose speed drifts slows both; the ratio is the median over rounds. Captum is called directly, not
through our wrapper, with chunks of 8 on both sides. Memory is the most that tensors take while a side runs, from the log
of torch's allocator: the peak of the process depends on what the allocator of the system kept, and differs run by run.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import timm
import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

from benchmarks.memory import peak_bytes
from lsd.models import ImageModel
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target

PASSES = 32
TARGETS = [Target(i, "logit") for i in range(8)]


def _bare(model: ImageModel, images: torch.Tensor) -> torch.Tensor:
    """What a gradient costs at the least: one forward and one backward pass to the pixels."""
    images = images.clone().requires_grad_(True)
    return torch.autograd.grad(model(images)[:, 0].sum(), images)[0]


def _captum_saliency(model: ImageModel, images: torch.Tensor, target: int = 0) -> torch.Tensor:
    return Saliency(model).attribute(images, target=target, abs=False)


def _captum_loop(model: ImageModel, images: torch.Tensor) -> list[torch.Tensor]:
    return [_captum_saliency(model, images, target.index) for target in TARGETS]


def _captum_smoothgrad(model: ImageModel, images: torch.Tensor) -> torch.Tensor:
    tunnel = NoiseTunnel(Saliency(model))
    return tunnel.attribute(images, nt_samples=PASSES, nt_samples_batch_size=8, stdevs=0.15, target=0, abs=False)


def _captum_integrated(model: ImageModel, images: torch.Tensor) -> torch.Tensor:
    """With its convergence delta, as ours comes with its completeness gap."""
    return IntegratedGradients(model).attribute(
        images, model.mean.expand_as(images), n_steps=PASSES, internal_batch_size=8, target=0,
        return_convergence_delta=True,
    )[0]  # fmt: skip


Side = Callable[[ImageModel, torch.Tensor], object]
LOGIT = TARGETS[0]
COMPARISONS: dict[str, tuple[Side, Side, float]] = {
    "gradient / bare autograd": (lambda m, x: attribute("gradient", m, x, LOGIT), _bare, 1.05),
    "gradient / Captum Saliency": (
        lambda m, x: attribute("gradient", m, x, LOGIT),
        _captum_saliency,
        1.0,
    ),
    "8 targets / Captum loop": (lambda m, x: attribute("gradient", m, x, TARGETS), _captum_loop, 0.5),
    "depth fusion, 3 targets / one after the other": (
        lambda m, x: attribute("depth_fusion", m, x, TARGETS[:3]),
        lambda m, x: [attribute("depth_fusion", m, x, target) for target in TARGETS[:3]],
        1.0,
    ),
    f"SmoothGrad, {PASSES} / Captum": (
        lambda m, x: attribute("smoothgrad", m, x, LOGIT, samples=PASSES),
        _captum_smoothgrad,
        1.0,
    ),
    f"integrated gradients, {PASSES} / Captum": (
        lambda m, x: attribute("integrated_gradients", m, x, LOGIT, steps=PASSES),
        _captum_integrated,
        1.0,
    ),
}


def _setup(name: str, threads: int) -> tuple[ImageModel, torch.Tensor]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = ImageModel(timm.create_model(name), name)
    return model, torch.rand(1, 3, model.spec.height, model.spec.width)


def _seconds(side: Side, model: ImageModel, images: torch.Tensor) -> float:
    start = time.perf_counter()
    side(model, images)
    return time.perf_counter() - start


def main() -> None:
    """Print one table a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_tiny_patch16_224", "mobilenetv2_100"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    for name in options.models:
        model, images = _setup(name, options.threads)
        print(f"\n{name}\n{'':42}{'ratio':>7}{'bar':>6}{'ours':>10}{'theirs':>10}{'memory, MiB':>20}")
        for title, (ours, theirs, bar) in COMPARISONS.items():
            _seconds(ours, model, images), _seconds(theirs, model, images)
            rounds = [(_seconds(ours, model, images), _seconds(theirs, model, images)) for _ in range(options.rounds)]
            ratio = statistics.median(a / b for a, b in rounds)
            a, b = (statistics.median(side) for side in zip(*rounds, strict=True))
            memory = [peak_bytes(side, model, images) / 2**20 for side in (ours, theirs)]
            print(
                f"{title:42}{ratio:7.2f}{bar:6.2f}{a * 1e3:8.0f}ms{b * 1e3:8.0f}ms{memory[0]:10.0f}{memory[1]:10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
