"""From attributions to maps that can be looked at. Pure numpy: pass `tensor.numpy()` for a torch tensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from lsd.errors import LSDError, UndefinedError
from lsd.images import ENLARGING, resample

SIGNS = ("abs", "positive", "negative", "signed")
CHANNELS = ("max", "l2", "sum_abs", "sum")
SCALES = ("image", "shared", "rank")


@dataclass(frozen=True)
class MapSettings:
    """How an attribution becomes a map.

    sign: which part is shown: its magnitude ("abs"), only what is above 0 ("positive"), only what is below, turned
        positive ("negative"), or both with their sign ("signed").
    channels: how the colour channels become one. "max" (Simonyan et al. 2014), "l2" (root of the sum of squares) and
        "sum_abs" combine the parts that `sign` selects in each channel. "sum" adds the channels first, so that they
        may cancel, and selects afterwards, the order of `captum.attr.visualization`. With "signed", "max" is the
        channel value of largest magnitude. With one channel all four agree.
    clip: percentile of magnitudes, in (50, 100], that is shown at full strength; what exceeds it is cut.
        Unused when `scale` is "rank".
    blur: standard deviation of a Gaussian, in pixels of the finished map; 0 for none.
    upsampling: how a map that is coarser than the picture is enlarged, one of `lsd.images.ENLARGING`. "bicubic" is
        cut off at 0 where it falls below, unless the map is signed.
    scale: what full strength means: each map's own percentile ("image"), one percentile over all maps of the call, so
        that their strengths compare ("shared"), or no strength at all but the rank among the map's pixels ("rank").

    Raises `UndefinedError` for signed "l2" or "sum_abs", which have no sign, and `LSDError` for any other bad value.
    """

    sign: str = "abs"
    channels: str = "sum"
    clip: float = 95.0
    blur: float = 1.0
    scale: str = "image"
    upsampling: str = "bicubic"

    def __post_init__(self):
        for name, allowed in (("sign", SIGNS), ("channels", CHANNELS), ("scale", SCALES), ("upsampling", ENLARGING)):
            if getattr(self, name) not in allowed:
                raise LSDError(f"{name} '{getattr(self, name)}' is unknown: choose one of {', '.join(allowed)}.")
        if not (_is_number(self.clip) and 50 < self.clip <= 100):
            raise LSDError(f"clip is {self.clip!r}: give a percentile above 50 and up to 100.")
        if not (_is_number(self.blur) and 0 <= self.blur < math.inf):
            raise LSDError(f"blur is {self.blur!r}: give a number of pixels, 0 or more.")
        if self.sign == "signed" and self.channels in ("l2", "sum_abs"):
            raise UndefinedError(
                f"channels '{self.channels}' adds magnitudes, which leaves no sign to show: "
                "choose channels 'max' or 'sum', or another sign than 'signed'."
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MapSettings":
        """The inverse of `to_dict`; missing keys take their default. Raises `LSDError` for an unknown key."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise LSDError(f"'{key}' is not a map setting: choose among {', '.join(known)}.")
        return cls(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_map(values: np.ndarray, settings: MapSettings, size: tuple[int, int] | None = None) -> np.ndarray:
    """Attributions (N, C, h, w) to maps (N, H, W), float32 in [0, 1], or in [-1, 1] when the sign is "signed".

    In this order: channels are reduced, the result is resized to `size` (height, width) if given, blurred, and scaled. A map
    of zeros stays zero.

    Raises `LSDError` when a value is not finite.
    """
    return np.stack(to_maps(values, settings, [size] * len(values)))


def to_maps(
    values: Sequence[np.ndarray], settings: MapSettings, sizes: Sequence[tuple[int, int] | None]
) -> list[np.ndarray]:
    """Like `to_map`, for attributions (C, h, w) and sizes that differ, as those of several models do."""
    finished = [_unscaled(v, settings, size) for v, size in zip(values, sizes, strict=True)]
    if settings.scale == "rank":
        return [_ranks(m).astype(np.float32) for m in finished]
    if settings.scale == "shared" and finished:
        units = [_unit(np.concatenate([m.ravel() for m in finished]), settings.clip)] * len(finished)
    else:
        units = [_unit(m, settings.clip) for m in finished]
    return [np.clip(m / unit, -1, 1).astype(np.float32) for m, unit in zip(finished, units, strict=True)]


def sign_instead(values: np.ndarray, settings: MapSettings) -> str:
    """Of attributions (C, h, w) whose `settings.sign` leaves no part to show, the sign that does show something.

    "" where there is something to show, or nothing under any sign.
    """
    opposite = {"positive": "negative", "negative": "positive"}.get(settings.sign, "")
    if not opposite or _reduce(values[None], settings).any():
        return ""
    return opposite if _reduce(values[None], replace(settings, sign=opposite)).any() else ""


def _unscaled(values: np.ndarray, settings: MapSettings, size: tuple[int, int] | None) -> np.ndarray:
    """(C, h, w) to float64 (H, W), in the attribution's own unit."""
    if not np.isfinite(values).all():
        raise LSDError("the attribution holds values that are not finite: choose another method, layer or model.")
    # In double precision because the squares of faint gradients underflow in single.
    finished = _reduce(np.asarray(values, dtype=np.float64)[None], settings)
    if size is not None:
        finished = resample(finished, size, settings.upsampling)
        if settings.sign != "signed":
            finished = np.maximum(finished, 0)
    if settings.blur > 0:
        from scipy.ndimage import gaussian_filter

        finished = gaussian_filter(finished, settings.blur, axes=(1, 2))
    return finished[0]


def _reduce(values: np.ndarray, settings: MapSettings) -> np.ndarray:
    """(N, C, h, w) to (N, h, w)."""
    if settings.channels == "sum":
        return _select(values.sum(axis=1), settings.sign)
    if settings.sign == "signed":
        # Of equal ones the first, whatever its sign, so that what is turned round gives the map turned round.
        largest = np.abs(values).argmax(axis=1)[:, None]
        return np.take_along_axis(values, largest, axis=1)[:, 0]
    parts = _select(values, settings.sign)
    if settings.channels == "max":
        return parts.max(axis=1)
    if settings.channels == "l2":
        return np.sqrt((parts**2).sum(axis=1))
    return parts.sum(axis=1)


def _select(values: np.ndarray, sign: str) -> np.ndarray:
    if sign == "abs":
        return np.abs(values)
    if sign == "positive":
        return np.maximum(values, 0)
    if sign == "negative":
        return np.maximum(-values, 0)
    return values


def _unit(values: np.ndarray, clip: float) -> float:
    """The magnitude that is shown at full strength."""
    magnitudes = np.abs(values)
    # Where fewer pixels than the percentile leaves out are not 0, the percentile is 0 and the largest takes its place.
    return np.percentile(magnitudes, clip) or magnitudes.max() or 1.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of magnitudes in (0, 1], ties averaged, with the sign of the value; 0 stays 0.

    Equal to `scipy.stats.rankdata(abs(values)) / values.size`, without the second that importing it takes.
    """
    _, inverse, counts = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.sign(values) * ranks[inverse].reshape(values.shape) / values.size
