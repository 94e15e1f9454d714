"""Views: what the network is shown of the picture at each step.

A picture that only works at one place, size and angle is noise to everybody else. So at every step each picture is
moved, turned, zoomed and mirrored by chance, and what survives that is what people recognise too. All geometry of a view
is one affine map, so each view is sampled once however much happens to it; where a view is coarser than the picture, at
several points for each of its pixels, which are averaged.

Lengths are fractions of the picture's side, so that a recipe means the same at every size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from lsd import precision
from lsd.errors import UndefinedError

FILLS = ("grey", "random", "reflect", "wrap")
_MOST_POINTS = 8  # a side, for each pixel of a view: where more were needed, the picture is shrunk beforehand
_NUMBERS = 15  # uniform numbers a view: angle, zoom, shift (2), blur, flip, fill (3), colour's scale (3) and shift (3)


@dataclass(frozen=True)
class Transforms:
    """How views are drawn; each for itself, from the picture's own generator.

    Attributes:
        views: how many a step; the objective is their mean.
        shift: uniform up to ± this fraction of the side, each way ("jitter").
        centre_sd: standard deviation of the view's centre around the picture's, as a fraction of the side.
        rotate: uniform up to ± this many degrees.
        zoom: (least, most), log-uniform: above 1 a view is a crop, enlarged; below 1 it shows the picture whole, smaller.
        flip: mirror half of the views.
        fill: what lies beyond the picture's edges: "grey", a "random" colour for each view, its reflection ("reflect"), or
            the picture again ("wrap"), so that no place is nearer to an edge than another.
        noise: standard deviation of Gaussian noise on each pixel.
        blur: standard deviation of a Gaussian blur, as a fraction of the side, uniform up to this.
        color_shift, color_scale: ColorShift (Ghiasi et al., 2021): colours become c · e^{U(±scale)} + U(±shift).

    Raises UndefinedError for values that have no meaning.
    """

    views: int = 1
    shift: float = 0.0
    centre_sd: float = 0.0
    rotate: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    fill: str = "grey"
    noise: float = 0.0
    blur: float = 0.0
    color_shift: float = 0.0
    color_scale: float = 0.0

    def __post_init__(self):
        for name in ("shift", "centre_sd", "rotate", "noise", "blur", "color_shift", "color_scale"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 0 and 0.0 are one recipe
        object.__setattr__(self, "zoom", tuple(float(z) for z in self.zoom))
        if self.fill not in FILLS:
            raise UndefinedError(f"There is no fill “{self.fill}”; choose one of {', '.join(FILLS)}.")
        if type(self.views) is not int or not 1 <= self.views <= 256:
            raise UndefinedError(f"The number of views lies between 1 and 256, not {self.views!r}.")
        if type(self.flip) is not bool:
            raise UndefinedError(f"flip is true or false, not {self.flip!r}.")
        if len(self.zoom) != 2 or not 0.02 <= self.zoom[0] <= self.zoom[1] <= 50:
            raise UndefinedError(f"zoom is (least, most), both between 0.02 and 50, not {self.zoom}.")
        for name in ("shift", "centre_sd", "rotate", "noise", "blur", "color_shift", "color_scale"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UndefinedError(f"{name} must not be negative, and is {getattr(self, name)}.")

    @property
    def moves(self) -> bool:
        """Whether views differ from the picture in geometry."""
        return bool(self.shift or self.centre_sd or self.rotate or self.flip or self.zoom != (1.0, 1.0))


def between(start: Transforms, end: Transforms, share: float) -> Transforms:
    """`start` at share 0, `end` at 1, every number in proportion between; counts, flips and fills stay the start's."""
    mixed = {}
    for field in fields(Transforms):
        a, b = getattr(start, field.name), getattr(end, field.name)
        if isinstance(a, tuple):
            mixed[field.name] = tuple(x + share * (y - x) for x, y in zip(a, b, strict=True))
        elif isinstance(a, float):
            mixed[field.name] = a + share * (b - a)
        else:
            mixed[field.name] = a
    return Transforms(**mixed)


def draw(transforms: Transforms, generators: Sequence[torch.Generator]) -> Tensor:
    """Uniform numbers in [0, 1) and normal ones for every view: (N · views, 15 + 2), each picture's from its own.

    The same count whatever the settings, so that one setting does not change what chance gives the others.
    """
    shape = (transforms.views, _NUMBERS)
    rows = [
        torch.cat([torch.rand(shape, generator=g), torch.randn((transforms.views, 2), generator=g)], 1)
        for g in generators
    ]
    return torch.cat(rows)


def affine(transforms: Transforms, drawn: Tensor, size: tuple[int, int]) -> Tensor:
    """The maps (N · views, 2, 3) from a view's coordinates to the picture's, both in [−1, 1], for `affine_grid`.

    Args:
        size: (height, width) of the picture; turning and zooming keep shapes whatever its aspect.
    """
    t = transforms
    angle = (2 * drawn[:, 0] - 1) * math.radians(t.rotate)
    low, high = math.log(t.zoom[0]), math.log(t.zoom[1])
    zoom = torch.exp(low + drawn[:, 1] * (high - low))
    moved = 2 * ((2 * drawn[:, 2:4] - 1) * t.shift + drawn[:, _NUMBERS : _NUMBERS + 2] * t.centre_sd)
    mirror = torch.where(drawn[:, 5] < 0.5, -1.0, 1.0) if t.flip else torch.ones_like(angle)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    aspect = size[0] / size[1]  # a turn mixes rows and columns, which are of different length in [−1, 1]
    first = torch.stack([cos * mirror, -sin * aspect, moved[:, 0]], 1)
    second = torch.stack([sin * mirror / aspect, cos, moved[:, 1]], 1)
    return torch.stack([first, second], 1)


def apply(
    transforms: Transforms,
    drawn: Tensor,
    images: Tensor,
    size: tuple[int, int],
    noise: Tensor | None = None,
) -> Tensor:
    """Pictures (N, 3, h, w) in [0, 1] → views (N · views, 3, *size), the views of a picture side by side.

    Args:
        drawn: of `draw`, best on the pictures' device already.
        size: (height, width) that the network takes.
        noise: standard normal numbers for every pixel of the views, which are overwritten; needed where the settings have noise.
    """
    t = transforms
    views = images.repeat_interleave(t.views, 0) if t.views > 1 else images
    if t.moves:
        views = _sample(t, drawn.to(images), views, size)
    elif tuple(views.shape[2:]) != tuple(size):
        views = F.interpolate(views, size, mode="bilinear", antialias=True, align_corners=False)
    if t.blur:
        most = t.blur * size[0]
        views = gaussian_blur(views, drawn[:, 4].to(images) * most, most)
    if t.color_shift or t.color_scale:
        u = 2 * drawn[:, 9:15].to(images)[..., None, None] - 1
        views = views * torch.exp(u[:, :3] * t.color_scale) + u[:, 3:] * t.color_shift
    if t.noise:
        views = views + noise.mul_(t.noise)
    return views


def _grid(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """What `affine_grid` gives for (N, 3, *size), (N, height, width, 2), in a small part of its time on a CPU.

    Laid out as two planes, which are quicker to fill and to sample at than pairs.
    """
    rows, columns = ((torch.arange(n, device=maps.device, dtype=maps.dtype) * 2 + 1) / n - 1 for n in size)
    maps = maps[..., None, None]
    planes = maps[:, :, 0] * columns[None, None, None, :] + (maps[:, :, 1] * rows[None, None, :, None] + maps[:, :, 2])
    return planes.permute(0, 2, 3, 1)


def _wrapped(grid: Tensor, size: Sequence[int]) -> Tensor:
    """`grid` brought back into the picture, as coordinates of the picture with one more pixel of itself at each side."""
    inside = torch.remainder(grid + 1, 2) - 1
    height, width = size
    return torch.stack([inside[..., 0] * (width / (width + 2)), inside[..., 1] * (height / (height + 2))], -1)


def _points(t: Transforms, picture: Sequence[int], size: Sequence[int]) -> float:
    """How many points a side each pixel of a view needs, so that none of the picture's pixels is passed over.

    As many as the view that shows most has pixels of the picture beneath one of its own. A single point averages up to two
    by two already: that does for pictures no larger than what the network takes, which a zoom shrinks to half its size.

    Args:
        picture, size: (height, width) of the picture and of the view.
    """
    larger = max(have / shown for have, shown in zip(picture, size, strict=True))
    beneath = larger / t.zoom[0]
    return 1 if larger <= 1 and beneath <= 2 else max(beneath, 1)


def _sample(t: Transforms, drawn: Tensor, views: Tensor, size: tuple[int, int]) -> Tensor:
    maps = affine(t, drawn.float(), tuple(views.shape[2:])).to(views)
    points = _points(t, views.shape[2:], size)
    if points > _MOST_POINTS:
        less = [max(1, round(n * _MOST_POINTS / points)) for n in views.shape[2:]]
        views = F.interpolate(views, less, mode="bilinear", antialias=True, align_corners=False)
    count = min(math.ceil(points), _MOST_POINTS)
    if count == 1:
        return _at(t, drawn, views, _grid(maps, size))
    return F.avg_pool2d(_at(t, drawn, views, _grid(maps, (size[0] * count, size[1] * count))), count)


def _at(t: Transforms, drawn: Tensor, views: Tensor, grid: Tensor) -> Tensor:
    sample = gathered if views.is_cuda and precision.is_deterministic() else F.grid_sample
    if t.fill == "wrap":
        padded = F.pad(views, [1] * 4, mode="circular")
        return sample(padded, _wrapped(grid, views.shape[2:]), padding_mode="zeros", align_corners=False)
    if t.fill == "reflect":
        return sample(views, grid, padding_mode="reflection", align_corners=False)
    fill = drawn[:, 6:9, None, None].to(views) if t.fill == "random" else 0.5
    return sample(views - fill, grid, padding_mode="zeros", align_corners=False).add_(fill)


def gathered(images: Tensor, grid: Tensor, *, padding_mode: str, align_corners: bool = False) -> Tensor:
    """What `F.grid_sample` gives, by four gathers: slower, but with a backward pass that CUDA has a deterministic kernel for.

    Args:
        images: (N, C, H, W).
        grid: (N, h, w, 2) of (x, y) in [−1, 1], as `align_corners=False` means them.
        padding_mode: "zeros" or "reflection".
    """
    height, width = images.shape[2:]
    x, y = (((grid[..., i] + 1) * n - 1) / 2 for i, n in ((0, width), (1, height)))
    if padding_mode == "reflection":
        x, y = _reflected(x, width), _reflected(y, height)
    flat, total = images.flatten(2), None
    left, top = x.floor(), y.floor()
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        at = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
        values = flat.gather(2, at.flatten(1)[:, None].expand(-1, flat.shape[1], -1)).unflatten(2, at.shape[1:])
        part = values * (weight * inside)[:, None]
        total = part if total is None else total + part
    return total


def _reflected(at: Tensor, count: int) -> Tensor:
    """Places beyond the outer edges of the first and last of `count` pixels, mirrored there, and kept among their centres."""
    turned = torch.remainder(at + 0.5, 2 * count)
    return (torch.minimum(turned, 2 * count - turned) - 0.5).clamp(0, count - 1)


def gaussian_blur(views: Tensor, sigmas: Tensor, most: float) -> Tensor:
    """A Gaussian of its own standard deviation, in pixels, over each view (N, 3, h, w); edges are reflected.

    Args:
        sigmas: (N,) standard deviations.
        most: what none of them exceeds; the kernel is as wide as that, so that nobody has to ask a GPU.
    """
    radius = min(max(1, math.ceil(3 * most)), min(views.shape[2:]) - 1)
    at = torch.arange(-radius, radius + 1, device=views.device, dtype=views.dtype)
    kernel = torch.exp(-0.5 * (at / sigmas.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel * (
        at.abs() <= (3 * sigmas[:, None]).ceil().clamp(min=1)
    )  # each its own, whoever its neighbours are
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(views.shape[1], 0)
    flat = F.pad(views, [radius] * 4, mode="reflect").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=flat.shape[1])
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=flat.shape[1])
    return flat[0].unflatten(0, views.shape[:2])
