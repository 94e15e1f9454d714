"""What is shown of one mistake, without the page: what the models say, their maps, and the pictures of the probe."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from lsd import labels, render
from lsd.errors import UndefinedError
from lsd.evaluation.contrast_maps import mistake_maps, share_inside, strength
from lsd.evaluation.mistakes import Prediction, ScanResult
from lsd.evaluation.probe import CONTROLS, ProbeResult, removed
from lsd.images import crop_box, lay_on, prepare
from lsd.models import ImageModel
from lsd.saliency.maps import MapSettings, to_maps
from lsd.saliency.methods import METHODS
from lsd.ui.mistakes.request import Removal

MAPS = ("predicted", "true", "contrast")
CELL_SIDE = 320  # pixels of the longer edge of a picture on the page


@dataclass(frozen=True)
class Choice:
    """One picture and one model, by row and column of the scan; mostly the model is wrong about it."""

    row: int
    column: int


@dataclass(eq=False)
class Reading:
    """What one model says of one picture, and its maps, as arrays.

    Attributes:
        model: its name.
        true, wrong: the two classes that the maps are about, in the model's numbering; `names` are theirs in words.
        mistaken: whether the model itself answers wrongly.
        top: its most probable classes: index, name, probability.
        without: what it says when a known part of the picture is painted over: part → (name, probability).
        image: (3, H, W), what it saw; `box` is where that lies in the picture.
        values: (C, h, w) of each of `MAPS`; `strengths` (H, W), for the probe.
        doubt: why its class names are to be doubted (`ImageModel.names_note`); "" where they are not.
    """

    model: str
    true: int
    wrong: int
    names: dict[str, str]
    mistaken: bool
    top: list[tuple[int, str, float]]
    without: dict[str, tuple[str, float]]
    image: np.ndarray
    box: tuple[float, float, float, float]
    values: dict[str, np.ndarray]
    strengths: dict[str, np.ndarray]
    doubt: str


@dataclass(eq=False)
class Case:
    """One mistake with everything that was computed about it.

    Attributes:
        choice, said: which mistake.
        method: of the maps.
        picture: small, for the page; `size` is the (width, height) of the original.
        masks: known parts of the picture (H, W), by name.
        readings: what the models say, as far as they have been asked; `failures` why others say nothing.
        curves: of the probe, by (model, map, fill).
        probed: what the probe shows; None where it does not yet.
    """

    choice: Choice
    said: Prediction
    method: str
    picture: Image.Image
    size: tuple[int, int]
    masks: dict[str, np.ndarray]
    readings: list[Reading] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    curves: dict[tuple[str, str, str], ProbeResult] = field(default_factory=dict)
    probed: Removal | None = None

    def reading(self, model: str) -> Reading | None:
        """What `model` says; None if it was not asked, or could not answer."""
        return next((r for r in self.readings if r.model == model), None)

    @property
    def doubted(self) -> list[Reading]:
        """Of the models that are wrong; of all where none is."""
        return [r for r in self.readings if r.mistaken] or self.readings


def read(model: ImageModel, result: ScanResult, case: Case, original: Image.Image) -> Reading:
    """Classify a picture and explain it: the wrong class, the true one, and what decided between them.

    The wrong class is the model's own answer or, if that is right, the answer of the model whose mistake was chosen;
    where it has no such class, its runner-up.

    Raises:
        UndefinedError: a method that is not defined for the model.
    """
    row, column = case.choice.row, case.choice.column
    painted = [_painted(original, mask, model) for mask in case.masks.values()]
    inputs = torch.from_numpy(np.stack([prepare(one, model.spec) for one in [original, *painted]]))
    probabilities = model.probabilities(inputs).double().cpu()
    values, order = probabilities.sort(dim=1, descending=True, stable=True)
    tops = _named(model, order[:, :3], values[:, :3])
    first, second = order[0, :2].tolist()
    true = int(result.true[result.row(model.name), column])
    said = result.class_names[row][result.predicted[row, column]]
    wrong = first if first != true else _rival(model, said, true, second)
    maps = mistake_maps(model, inputs[:1].to(model.device, model.dtype), true, wrong, case.method)
    size = (model.spec.height, model.spec.width)
    return Reading(
        model=model.name,
        true=true,
        wrong=wrong,
        names={"true": labels.short(model.class_names[true]), "predicted": labels.short(model.class_names[wrong])},
        mistaken=first != true,
        top=tops[0],
        without={name: top[0][1:] for name, top in zip(case.masks, tops[1:], strict=True)},
        image=inputs[0].numpy(),
        box=crop_box(original.size, model.spec),
        values={name: a.values[0].detach().float().cpu().numpy() for name, a in maps.items()},
        strengths={name: strength(a, size) for name, a in maps.items()},
        doubt=model.names_note,
    )


def _painted(picture: Image.Image, mask: np.ndarray, model: ImageModel) -> Image.Image:
    """The picture with a part of it in the network's mean colour, which is its own “nothing there”."""
    pixels = np.array(picture)
    pixels[mask] = (model.mean.flatten().cpu().numpy() * 255).round()
    return Image.fromarray(pixels)


def _rival(model: ImageModel, said: str, true: int, runner_up: int) -> int:
    try:
        found = labels.find_class(model.class_names, said)
    except UndefinedError:
        return runner_up
    return runner_up if found == true else found


def enlarged(picture: Image.Image, smooth: bool = True) -> Image.Image:
    """The picture with its longer edge at `CELL_SIDE`; small ones grow."""
    factor = CELL_SIDE / max(picture.size)
    size = tuple(max(1, round(edge * factor)) for edge in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)


def overlays(case: Case, scale: str, style: str) -> list[dict[str, Image.Image]]:
    """The three maps of every model laid over the picture.

    Args:
        scale: "model", one unit for the maps of each model; "all", one for all maps; "rank", ranks instead.
        style: one of `render.STYLES`.
    """
    finished = _finished(case, scale)
    base = np.asarray(enlarged(case.picture))
    # The contrast lies on a grey picture, whose own reds and blues would else be taken for the map's.
    grey = np.asarray(enlarged(case.picture.convert("L").convert("RGB")))
    size = (base.shape[1], base.shape[0])
    factor = size[0] / case.size[0], size[1] / case.size[1]
    shown = []
    for reading, maps in zip(case.readings, finished, strict=True):
        box = tuple(edge * factor[i % 2] for i, edge in enumerate(reading.box))
        frame = None if _covers(box, size) else box
        shown.append({})
        for name, one in maps.items():
            signed = name == "contrast" and has_sign(case.method)
            picture = grey if signed else base
            laid = lay_on(one, box, size)
            shown[-1][name] = Image.fromarray(
                render.overlay(picture, laid, style, signed=signed, opacity=0.8, box=frame)
            )
    return shown


def has_sign(method: str) -> bool:
    """Whether a method's contrast says in which direction a pixel pulls."""
    return METHODS[method].values == "signed"


def _covers(box: Sequence[float], size: tuple[int, int]) -> bool:
    return max(abs(box[0]), abs(box[1]), abs(box[2] - size[0]), abs(box[3] - size[1])) < 1


def _finished(case: Case, scale: str) -> list[dict[str, np.ndarray]]:
    """Maps in [0, 1], the contrast in [−1, 1]: scaled with their signs, so that one unit serves both kinds."""
    # Not smoothed: what pulls one pixel to one class and the next to the other would cancel, signed as it is here.
    settings = MapSettings(sign="signed", blur=0, scale="rank" if scale == "rank" else "shared")
    groups = [case.readings] if scale == "all" else [[reading] for reading in case.readings]
    sign = METHODS[case.method].sign
    finished = []
    for group in groups:
        values = [reading.values[name] for reading in group for name in MAPS]
        sizes = [reading.image.shape[1:] for reading in group for _ in MAPS]
        maps = iter(to_maps(values, settings, sizes))
        finished += [{name: _part(next(maps), name, sign, case.method) for name in MAPS} for _ in group]
    return finished


def _part(one: np.ndarray, name: str, sign: str, method: str) -> np.ndarray:
    if name == "contrast" and has_sign(method):
        return one
    return np.abs(one) if sign == "abs" else np.maximum(one, 0)


def shares(case: Case, reading: Reading, which: str) -> dict[str, tuple[float, float]]:
    """Name of a known part of the picture → (the share of the map on it, its share of the area)."""
    if not case.masks or not reading.strengths[which].any():
        return {}
    laid = lay_on(reading.strengths[which], reading.box, case.size)
    return {name: (share_inside(laid, mask), float(mask.mean())) for name, mask in case.masks.items()}


def removals(model: ImageModel, reading: Reading, which: str, fraction: float, fill: str) -> torch.Tensor:
    """What the model would see with the most salient pixels gone, and with as many by each random control: (3, 3, H, W).

    No model runs. The random maps are the first of those that `probe` draws.
    """
    inputs = torch.from_numpy(reading.image)[None].to(model.device, model.dtype)
    saliency = reading.strengths[which].astype(np.float64)
    maps = [saliency, *(draw(saliency, np.random.default_rng([0, k, 0])) for k, draw in enumerate(CONTROLS.values()))]
    return torch.cat([removed(model, inputs, one, fraction, fill) for one in maps])


def answers(model: ImageModel, batch: torch.Tensor) -> list[list[tuple[int, str, float]]]:
    """The most probable classes of each picture of a batch: index, name, probability; one forward pass."""
    values, order = model.probabilities(batch).double().cpu().topk(min(3, model.num_classes))
    return _named(model, order, values)


def _named(model: ImageModel, order: torch.Tensor, values: torch.Tensor) -> list[list[tuple[int, str, float]]]:
    return [
        [(i, labels.short(model.class_names[i]), p) for i, p in zip(indices, row, strict=True)]
        for indices, row in zip(order.tolist(), values.tolist(), strict=True)
    ]


def pictures(batch: torch.Tensor) -> list[Image.Image]:
    """A batch's pictures, for the page."""
    pixels = (batch.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [enlarged(Image.fromarray(one), smooth=max(one.shape) > CELL_SIDE) for one in pixels]
