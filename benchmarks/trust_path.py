"""Which similarity, over which part of a photo, tells photos that excite a unit from other photos, layer by layer.

    python -m benchmarks.trust_path --photos DIR [--models A B] [--gallery DIR] [--units 60]

Of each unit (classes and channels of a gallery, spread evenly) the 18 photos that excite it most are taken, in turn as exemplars
and as held-out photos, and 48 photos without choice. A good measure finds held-out photos more like the exemplars than others
are: the area under the curve is told (.5 is chance), over all layers up to the unit's; at how many layers the exemplars are
clearly more alike than others are to them; and where held-out photos and the gallery's picture lie on the scale of
`lsd.evaluation.trust_path`.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from gallery import pictures, shards
from gallery.index import find_shards
from gallery.source import SAMPLE
from lsd.errors import ImageError
from lsd.evaluation import trust_path
from lsd.features.exemplars import Strongest, answers, taps
from lsd.features.judge import to_batch
from lsd.features.units import parse
from lsd.images import find_images, open_image
from lsd.models import ImageModel, get_model
from lsd.saliency.explain import to_input
from lsd.tracing import Tap, run_to

_BATCH, _TOP, _OTHERS = 8, 18, 48
_PARTS = ("the area", "the whole")


def pearson(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation of (n, C) with (m, C): (n, m)."""
    return cosine(one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True))


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of (n, C) with (m, C): (n, m)."""
    a, b = (values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1e-12) for values in (one, other))
    return a @ b.T


_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Spearman": trust_path.similarity, "Pearson": pearson, "cosine": cosine,
}  # fmt: skip


class _Unit:
    """A unit, the picture of it, and what was kept of photos: for each part the channels' means, layer by layer."""

    def __init__(self, row: dict, model: ImageModel):
        self.unit, self.kind = parse(row["unit"]), row["kind"]
        self.taps, self.layers = taps(self.unit, model), trust_path.layers_to(self.unit, model)
        self.strongest, self.others = Strongest(_TOP), {}
        self.picture = self.paths(model, to_batch([pictures.pixels(row["picture"])], model))[0][1]()

    def paths(self, model: ImageModel, batch: torch.Tensor, seen=None) -> list[tuple[float, Callable]]:
        """Of each photo the answer, and what gives its paths."""
        seen = seen or _seen(model, batch, [self])
        found = answers(self.unit, model, seen, len(batch))
        return [
            (float(value), self._path(model, seen, n, part)) for n, (value, part) in enumerate(zip(*found, strict=True))
        ]

    def _path(self, model: ImageModel, seen, n: int, part) -> Callable:
        size = (model.spec.height, model.spec.width)
        parts = dict(zip(_PARTS, (part, (0, 0, size[1], size[0])), strict=True))

        def path() -> dict[str, trust_path.Path]:
            return {
                name: tuple(trust_path.means(one, seen[Tap(one.name)][n : n + 1], box, size) for one in self.layers)
                for name, box in parts.items()
            }

        return path


def _seen(model: ImageModel, batch: torch.Tensor, units: list[_Unit]) -> dict[Tap, torch.Tensor]:
    wanted = dict.fromkeys(tap for one in units for tap in (*one.taps, *(Tap(layer.name) for layer in one.layers)))
    with torch.no_grad():
        return run_to(model, batch, list(wanted))


def units_of(name: str, gallery: Path, count: int) -> Iterator[dict]:
    """Half classes and half channels, beyond the first layers; rows of a gallery, spread evenly."""
    rows = [
        row
        for path in find_shards(gallery)
        for row in shards.read_rows(path, ["model", "unit", "kind", "status", "seed", "picture"])
        if row["model"] == name and row["status"] == "ok" and row["seed"] == 0
    ]
    for kind in ("class", "channel"):
        some = [row for row in rows if row["kind"] == kind]
        yield from (some[i] for i in np.linspace(0, len(some) - 1, min(count // 2, len(some))).astype(int))


def look(model: ImageModel, units: list[_Unit], photos: Path) -> int:
    """Show all photos to all units; how many could be read."""
    files = find_images(photos)
    chosen = {*range(0, len(files), -(-len(files) // _OTHERS))}
    count = 0
    for start in range(0, len(files), _BATCH):
        images, numbers = [], []
        for number, file in enumerate(files[start : start + _BATCH], start):
            try:
                images.append(to_input(model, open_image(file)))
                numbers.append(number)
            except ImageError:
                continue
        if not images:
            continue
        batch = torch.cat(images)
        seen, count = _seen(model, batch, units), count + len(images)
        for one in units:
            for number, (value, path) in zip(numbers, one.paths(model, batch, seen), strict=True):
                one.strongest.offer(value, number, path)
                if number in chosen:
                    one.others[number] = path()
    return count


def judge(one: _Unit, part: str, measure: Callable) -> Iterator[tuple[float, float | None, float | None]]:
    """Of each layer the area under the curve, and where held-out photos and the picture lie; None if the layer tells nothing."""
    ranked = one.strongest.sorted()
    near = {number for _, number, _ in ranked}
    everything = [path[part] for *_, path in ranked], [path[part] for n, path in one.others.items() if n not in near]
    picture = one.picture[part]
    for place in range(len(one.layers)):
        top, others = (np.stack([path[place] for path in paths]) for paths in everything)
        exemplars, held_out = top[::2], top[1::2]
        among = measure(exemplars, exemplars)
        alike = (among.sum(1) - among.diagonal()) / (len(exemplars) - 1)
        held, apart = measure(held_out, exemplars).mean(1), measure(others, exemplars).mean(1)
        curve = float((held[:, None] > apart[None]).mean())
        found = measure(picture[place][None], exemplars).mean()
        yield curve, *(trust_path.likeness(value, alike, apart) for value in (held.mean(), found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["tf_efficientnet_lite0.in1k"])
    parser.add_argument("--gallery", type=Path, default=SAMPLE)
    parser.add_argument("--units", type=int, default=60, help="of each model (default: 60)")
    options = parser.parse_args()
    print("| network, units | over | measure | area under the curve | layers that tell | held-out photos | pictures |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        model = get_model(name)
        units = [_Unit(row, model) for row in units_of(name, options.gallery, options.units)]
        units = [one for one in units if len(one.layers) > 1]
        count = look(model, units, options.photos)
        for kind in ("class", "channel"):
            some = [one for one in units if one.kind == kind]
            for part in _PARTS[:1] if kind == "class" else _PARTS:
                for called, measure in _MEASURES.items():
                    found = defaultdict(list)
                    for one in some:
                        for curve, held, picture in judge(one, part, measure):
                            found["curve"].append(curve)
                            found["tells"].append(held is not None)
                            if held is not None:
                                found["held"].append(held)
                                found["picture"].append(picture)
                    numbers = " | ".join(f"{np.mean(found[key]):.2f}" for key in ("curve", "tells", "held", "picture"))
                    print(
                        f"| {name}, {len(some)} of kind {kind}, {count} photos | {part} | {called} | {numbers} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
