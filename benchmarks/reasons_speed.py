"""Shares of all channels for one picture and four targets against one gradient: time as ratios within one run.

    python -m benchmarks.reasons_speed [--models tf_efficientnet_lite0 resnet50 vit_tiny_patch16_224 mobilenetv2_100] [--rounds 9]

Random weights; the layer is the one that reasons are told of. The two sides of a ratio take turns, as in
`benchmarks.saliency_speed`; the ratio is the median over rounds, and the bar is 2.5.
"""

import argparse
import platform
import statistics

import torch

from benchmarks.saliency_speed import TARGETS, _bare, _seconds, _setup
from lsd.models import ImageModel
from lsd.reasons.defaults import default_layer
from lsd.reasons.shares import shares

BAR, METHODS = 2.5, ("gradient_x_activation", "joint")


def main() -> None:
    """Print a line for each network and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    networks = ["tf_efficientnet_lite0", "resnet50", "vit_tiny_patch16_224", "mobilenetv2_100"]
    parser.add_argument("--models", nargs="+", default=networks)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{'':58}{'ratio':>7}{'bar':>6}{'shares':>10}{'gradient':>10}")
    for name in options.models:
        model, images = _setup(name, options.threads)
        for module in model.net.modules():
            if isinstance(
                module, torch.nn.BatchNorm2d
            ):  # timm starts residual branches at zero: blocks that do nothing
                torch.nn.init.ones_(module.weight)
        layer = default_layer(model)
        for method in METHODS:

            def four(model: ImageModel, images: torch.Tensor, layer: str = layer, method: str = method) -> object:
                return shares(model, images, TARGETS[:4], [layer], method=method)

            _seconds(four, model, images), _seconds(_bare, model, images)
            rounds = [(_seconds(four, model, images), _seconds(_bare, model, images)) for _ in range(options.rounds)]
            ratio = statistics.median(a / b for a, b in rounds)
            a, b = (statistics.median(side) for side in zip(*rounds, strict=True))
            print(
                f"{f'{name}, {layer}, {method}':58}{ratio:7.2f}{BAR:6.2f}{a * 1e3:8.0f}ms{b * 1e3:8.0f}ms", flush=True
            )


if __name__ == "__main__":
    main()
