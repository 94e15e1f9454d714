"""What can be said of finished pictures: what networks take them for, how strong, how different, how noisy they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd import labels
from lsd.features import objectives
from lsd.features.units import Leaf, Unit
from lsd.layers import curated_layers
from lsd.models import ImageModel
from lsd.tracing import run_to

_FINE = 0.25  # cycles a pixel: what lies above is finer than two pixels a side


@dataclass(frozen=True)
class Verdict:
    """What one network takes a picture for: its most probable classes, (index, name, probability), best first.

    The note says why their names are to be doubted (`ImageModel.names_note`); "" where they are not.
    """

    model: str
    top: tuple[tuple[int, str, float], ...]
    note: str = ""


def to_batch(pixels: Sequence[np.ndarray], model: ImageModel) -> Tensor:
    """Pictures, uint8 (H, W, 3) → (N, 3, h, w) in [0, 1] as the network takes them: whole, resized."""
    images = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pixels]).float() / 255
    size = (model.spec.height, model.spec.width)
    if tuple(images.shape[2:]) != size:
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    return images.to(model.device, model.dtype)


def probabilities(pixels: Sequence[np.ndarray], model: ImageModel, batch_size: int = 16) -> Tensor:
    """(N, C) on the CPU, of pictures of one size."""
    parts = [to_batch(pixels[i : i + batch_size], model) for i in range(0, len(pixels), batch_size)]
    return torch.cat([model.probabilities(part).float().cpu() for part in parts])


def classify(pixels: Sequence[np.ndarray], model: ImageModel, top: int = 5) -> list[Verdict]:
    """What `model` takes each picture for."""
    return [verdict(p, model, top) for p in probabilities(pixels, model)]


def verdict(p: Tensor, model: ImageModel, top: int = 5) -> Verdict:
    """What probabilities (C,) of `model` say."""
    values, order = p.topk(min(top, len(p)))
    found = zip(order.tolist(), values.tolist(), strict=True)
    return Verdict(
        model.name, tuple((i, labels.short(model.class_names[i]), value) for i, value in found), model.names_note
    )


@torch.no_grad()
def answers(units: Sequence[Unit], model: ImageModel, photos: Iterable[Tensor], output: str = "log_odds") -> Tensor:
    """The value of each unit on each photo, (units, photos) on the CPU: what a picture's own score is held against.

    Args:
        photos: batches (n, 3, h, w) in [0, 1], of the size the network takes.
    """
    taps = list(dict.fromkeys(objectives.tap(leaf) for unit in units for leaf in unit.leaves()))
    found = []
    for batch in photos:
        seen = run_to(model, batch.to(model.device, model.dtype), taps)
        activations, models = {"": seen, model.name: seen}, {"": model, model.name: model}
        values = [objectives.evaluate([unit] * len(batch), models, activations, output) for unit in units]
        found.append(torch.stack(values).cpu())
    return torch.cat(found, 1)


def spread(pixels: Sequence[np.ndarray], model: ImageModel, layer: str) -> float:
    """Mean cosine distance, 0 to 2, of the pictures' activations at `layer`, place by place: how different a network finds them.

    nan for fewer than two pictures.
    """
    if len(pixels) < 2:
        return float("nan")
    tap = objectives.tap(Leaf("layer", layer=layer))
    with torch.no_grad():
        flat = (
            run_to(model, to_batch(pixels, model), [tap])[tap].flatten(1).cpu().double()
        )  # Apple's GPUs have no doubles
    flat = F.normalize(flat, dim=1)
    similar = flat @ flat.T
    n = len(flat)
    return 1 - ((similar.sum() - similar.diagonal().sum()) / (n * (n - 1))).item()


def spreads(made: Iterable[tuple[Unit, np.ndarray]], model: ImageModel) -> dict[Unit, float]:
    """Unit → `spread` of its pictures at the model's last block; units with a single picture are left out.

    Args:
        made: (unit, picture) of several units and seeds.
    """
    groups: dict[Unit, list[np.ndarray]] = {}
    for unit, pixels in made:
        groups.setdefault(unit, []).append(pixels)
    several = {unit: group for unit, group in groups.items() if len(group) > 1}
    blocks = curated_layers(model) if several else []  # a model is traced for them
    return {unit: spread(group, model, blocks[-1].name) for unit, group in several.items()} if blocks else {}


def fine_energy(pixels: np.ndarray) -> float:
    """Share of a picture's variance, uint8 (H, W, 3), in frequencies above a quarter of a cycle a pixel; photos: .01 to .05."""
    power = np.abs(np.fft.fft2(pixels.astype(np.float64).mean(2))) ** 2
    power[0, 0] = 0
    height, width = power.shape
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    total = power.sum()
    return float(power[radius > _FINE].sum() / total) if total else 0.0


def contrast(pixels: np.ndarray) -> float:
    """Standard deviation of a picture, uint8 (H, W, 3), over places and colours, as a fraction of white; photos: .15 to .32."""
    return float(pixels.std() / 255)


def clipped(pixels: np.ndarray) -> float:
    """Share of a picture's numbers, uint8 (H, W, 3), that are all but 0 or 255, three of 256 each; photos: 0 to .21."""
    return float(((pixels <= 2) | (pixels >= 253)).mean())


def edge_detail(pixels: np.ndarray) -> float:
    """Mean step between neighbouring pixels in the outer eighth of a picture (H, W, 3) over that in its middle.

    1 where no place is better than another, and less where a picture fades towards its edges, as if it had a frame; nan
    where the middle is flat.
    """
    image = pixels.astype(float).mean(-1)
    steps = (np.abs(np.diff(image, axis=0))[:, :-1] + np.abs(np.diff(image, axis=1))[:-1]) / 2
    rows, columns = (max(1, n // 8) for n in steps.shape)
    middle = np.zeros(steps.shape, bool)
    middle[rows:-rows, columns:-columns] = True
    inside, outside = steps[middle].mean(), steps[~middle].mean()
    return float(outside / inside) if inside > 0 else float("nan")


def flatness(pixels: np.ndarray) -> str:
    """ "grey" if hardly anything is there, "saturated" if most of it is black or white in some channel, else ""."""
    if pixels.std() < 4:
        return "grey"
    return "saturated" if np.isin(pixels, (0, 255)).mean() > 0.5 else ""
