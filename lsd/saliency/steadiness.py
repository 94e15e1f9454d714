"""Is it sure? How far a map moves when its picture is moved by a few pixels, or gets a little grainy.

Four copies of the picture as the network takes it: two moved along the diagonal, there and back, what is uncovered being the
border drawn out; two with Gaussian noise. Each copy's map, of the same target, is moved back and held against the map of the
picture, both as they are drawn but for clipping and colours: Spearman's rank correlation over the pixels that both have. The
steadiness is the mean of the four: 1 for a map that stays where it is, about 0 for one that is drawn anew each time.

A steady map is not a right one: the picture's edges are steady, and have never seen the network. An unsteady map says little
about the picture, since another one as good says something else.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency.attribution import Attribution
from lsd.saliency.explain import Explanation, to_input
from lsd.saliency.likeness import rank_correlation
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import METHODS, attribute, find_method

COPIES = 4
NOISE = 0.03  # standard deviation, of a range of 1: grain that shows in flat parts only
_PART = (
    150  # of the shorter side: a shift of 3 pixels of 224, and always odd, so that no stride of a network divides it
)
_ENOUGH = 12  # maps, without which nobody knows what is usual
USUAL = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Steadiness:
    """How steady a map is.

    Attributes:
        shift: mean rank correlation with the maps of the two moved copies, in [-1, 1]; `noise` of the two grainy ones.
        passes: forward-and-backward passes that it took.
    """

    shift: float
    noise: float
    passes: int

    @property
    def value(self) -> float:
        """The mean of both, in [-1, 1]."""
        return (self.shift + self.noise) / 2

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return {"value": self.value} | asdict(self)


@dataclass(frozen=True)
class Usual:
    """What a method's maps of photos have, over the networks of the study that it is defined for.

    Attributes:
        low, middle, high: quartiles of the steadiness.
        other: mean rank correlation with the map of another photo.
    """

    low: float
    middle: float
    high: float
    other: float


def steadiness(
    model: ImageModel, image: Tensor, mine: Attribution, settings: Mapping[str, Any], *, seed: int = 0
) -> Steadiness:
    """How steady the map of a picture is; takes as many passes as four such maps, together where the method can.

    Args:
        image: (1, 3, H, W), [0, 1], as the model takes it.
        mine: the attribution of this picture; its target stays the question, whatever the copies' first choices are.
        settings: of the method, as they were asked for. A method that draws at random draws anew for the copies, so that
            what is left of chance in a map counts as unsteady.
        seed: of the grain.

    Raises:
        UndefinedError: a map that is zero everywhere, or what the method raises.

    Source: LSD; kin to the max-sensitivity of Yeh et al. (NeurIPS 2019), but free of the map's scale, and with shifts.
    """
    method = find_method(mine.method)
    asked = for_copies(method.parse(dict(settings)), mine)
    size = tuple(image.shape[-2:])
    (before,) = drawn(mine.values, method.name, size)
    if not before.any():
        raise UndefinedError("The map is zero everywhere, so there is nothing that could move.")
    steps, copies = changed(image, seed)
    found = attribute(method.name, model, copies, mine.target.of(0), **asked)
    after = drawn(found.values, method.name, size)
    alike = [rank_correlation(*aligned(before, one, step)) for one, step in zip(after, steps, strict=True)]
    return Steadiness(float(np.mean(alike[:2])), float(np.mean(alike[2:])), COPIES * found.passes)


def steadiness_of_explanation(
    model: ImageModel, picture: Image.Image, explanation: Explanation, settings: Mapping[str, Any]
) -> Steadiness:
    """`steadiness` of what `model` said of its view of `picture`, with the settings that its method was given."""
    return steadiness(model, to_input(model, picture, explanation.view), explanation.attribution, settings)


def steadiness_of_each(
    model: ImageModel,
    pictures: Sequence[Image.Image],
    explanations: Sequence[Explanation],
    settings: Mapping[str, Any],
) -> tuple[Steadiness | None, ...]:
    """`steadiness_of_explanation` of several answers to one question, each of a picture of `pictures`; None for a map that is zero
    everywhere beside others that are not.

    Raises:
        UndefinedError: all maps are zero everywhere, or what the method raises.
    """
    shown = [drawn(e.attribution.values, e.attribution.method, e.input_size).any() for e in explanations]
    return tuple(
        steadiness_of_explanation(model, picture, explanation, settings) if there or not any(shown) else None
        for picture, explanation, there in zip(pictures, explanations, shown, strict=True)
    )


def changed(image: Tensor, seed: int = 0) -> tuple[list[int], Tensor]:
    """By how many pixels each copy of a picture (1, 3, H, W) is moved, down and to the right; and the copies (4, 3, H, W)."""
    step = 2 * (min(image.shape[-2:]) // _PART) + 1
    generator = torch.Generator().manual_seed(seed)
    grain = [torch.randn(image.shape, generator=generator).to(image) * NOISE for _ in range(2)]
    moved = [_moved(image, step), _moved(image, -step)]
    return [step, -step, 0, 0], torch.cat([*moved, *((image + one).clamp(0, 1) for one in grain)])


def drawn(values: Tensor, method: str, size: tuple[int, int]) -> np.ndarray:
    """Maps (N, H, W) of a method's values, (N, C, h, w), as they are compared."""
    return to_map(values.cpu().numpy(), MapSettings(sign=find_method(method).sign, clip=100), size)


def for_copies(settings: Mapping[str, Any], mine: Attribution) -> dict[str, Any]:
    """A method's settings for the copies: chance draws anew, and the layer is the one that was chosen for the picture."""
    changes = {}
    if "seed" in settings:
        changes["seed"] = settings["seed"] ^ 1
    if settings.get("layer") == "":
        changes["layer"] = mine.settings["layer"]
    return {**settings, **changes}


def aligned(before: np.ndarray, after: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """A map (H, W), and that of the picture moved by `step` down and to the right, where both have the same of the picture."""
    height, width = before.shape
    here, there = max(0, -step), max(0, step)
    rows, columns = height - abs(step), width - abs(step)
    return before[here : here + rows, here : here + columns], after[there : there + rows, there : there + columns]


def _moved(image: Tensor, step: int) -> Tensor:
    before, after = max(0, step), max(0, -step)
    drawn_out = pad(image, (before, after, before, after), mode="replicate")
    height, width = image.shape[-2:]
    return drawn_out[..., after : after + height, after : after + width]


@functools.cache
def usual() -> dict[str, Usual]:
    """Method → what its maps of photos have; of those of which `python -m lsd.evaluation steadiness` has enough."""
    told = json.loads(USUAL.read_text("utf-8"))["methods"]
    return {name: Usual(**figures["pooled"]) for name, figures in told.items() if figures["maps"] >= _ENOUGH}


def told(found: Steadiness, method: str) -> str:
    """A steadiness in words, beside what it is to be held against."""
    return "; ".join(filter(None, (figures(found), usual_in_words(method))))


def figures(found: Steadiness) -> str:
    """A steadiness in words."""
    return f"steadiness {found.value:.2f} (moved {found.shift:.2f}, grainy {found.noise:.2f})"


def usual_in_words(method: str) -> str:
    """What a method's maps usually have, "" where that is not known; one by Captum is told of as the handwritten one."""
    own = next((m.name for m in METHODS.values() if m.counterpart == method), method)
    if own not in usual():
        return ""
    held = usual()[own]
    return (
        f"usual for this method: {held.low:.2f} to {held.high:.2f}, and {held.other:.2f} between the maps of two photos"
    )
