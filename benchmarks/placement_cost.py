"""What it costs to try where the places of all layers lie (`lsd.places`), in passes of the same network.

    python -m benchmarks.placement_cost [--models resnet50 …] [--rounds 7]

Random weights, the network's own size of picture, one thread. A pass and the check take turns; a ratio is the median over rounds.
The processor's time is counted, and not the clock's. Four pictures go through the network, so that about four is what is to be had.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch

from benchmarks.families import randomize
from lsd import markdown
from lsd.models import ImageModel
from lsd.places import placed
from lsd.tracing import trace

MODELS = ["resnet50", "vit_small_patch16_224", "davit_tiny", "hiera_tiny_224", "convnext_tiny", "efficientnet_b0"]


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


@torch.no_grad()
def row(name: str, rounds: int) -> list[str]:
    """Layers, milliseconds of a pass, passes that four pictures take and that the check takes."""
    model = ImageModel(randomize(timm.create_model(name, num_classes=10)), name)
    image = torch.rand(4, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(0))
    traced = trace(model)
    works = [lambda: model(image[:1]), lambda: model(image), lambda: placed(model, traced)]
    for work in works:
        work()
    one, four, tried = zip(*([seconds(work) for work in works] for _ in range(rounds)), strict=True)
    ratios = [statistics.median(a / b for a, b in zip(of, one, strict=True)) for of in (four, tried)]
    return [
        name,
        str(len(traced.shapes)),
        f"{1000 * statistics.median(one):.0f}",
        *(f"{ratio:.1f}" for ratio in ratios),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = ["network", "layers", "a pass, ms", "four pictures, passes", "the check, passes"]
    print("\n".join(markdown.table(head, (row(name, options.rounds) for name in options.models))))


if __name__ == "__main__":
    main()
