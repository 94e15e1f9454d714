"""What becomes of the probability's gradient where a network is sure: `python -m benchmarks.softmax_saturation`.

Each drawn picture's gradient in single precision is held, by the cosine, against the exact direction: the gradient of the
log-odds in double precision, to which that of the probability is proportional. The demo networks are modest; multiplied
logits make them as sure as others are. Needs nothing but what ships.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from lsd import markdown
from lsd.evaluation.labelled import open_set, true_indices
from lsd.images import prepare
from lsd.models import load_model
from lsd.saliency.gradients import differentiate
from lsd.saliency.targets import Target

MODELS = ("demo:resnet", "demo:vit", "demo:convnext")
PICTURES = 48
SURER = (1, 2, 4)  # the logits are multiplied by
EDGES = (0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4, 1)  # of 1 − p
KINDS = ("log_odds", "probability")


def cosines(name: str) -> Iterator[tuple[float, list[float]]]:
    """For each picture and sharpness: 1 − p of its class, and for each of `KINDS` the cosine with the exact direction."""
    single, double = load_model(name, device="cpu"), load_model(name, device="cpu").double()
    pictures = open_set("demo", limit=PICTURES)
    for item, index in zip(pictures, true_indices(pictures, single).tolist(), strict=True):
        image = torch.from_numpy(prepare(item.picture(), single.spec))[None]
        for times in SURER:

            def sharpened(x: torch.Tensor, times: int = times) -> torch.Tensor:
                return times * (double if x.dtype == torch.float64 else single)(x)

            (exact,), (log_odds,) = differentiate(sharpened, image.double(), [Target(index)])
            found, _ = differentiate(sharpened, image, [Target(index, kind) for kind in KINDS])
            yield torch.sigmoid(-log_odds).item(), [_cosine(own.double(), exact) for own in found]


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """0 for a gradient of zeros, which has no direction."""
    a, b = (v.flatten() / v.abs().amax().clamp(min=1e-300) for v in (a, b))  # so that no square is too small
    return torch.cosine_similarity(a, b, dim=0).item()


def table() -> Iterator[str]:
    """Lines of Markdown: bins of 1 − p, and the mean cosine of each of `KINDS`."""
    rows = [row for name in MODELS for row in cosines(name)]
    rest, told = np.array([r for r, _ in rows]), np.array([t for _, t in rows])
    bins = [(f"{low:g} to {high:g}", (rest >= low) & (rest < high)) for low, high in itertools.pairwise(EDGES)]
    yield from markdown.table(
        ["1 − p", "pictures", "log-odds", "probability"],
        ([name, f"{here.sum()}", *(f"{v:.3f}" for v in told[here].mean(0))] for name, here in bins if here.any()),
    )


if __name__ == "__main__":
    print("\n".join(table()))
