"""How an activation is laid out: which of its axes are places of the picture, and which are channels.

Networks lay out their activations in several ways, and mixing them up gives a map that is wrong without any error:

- "nchw": (N, C, h, w), most convolutional networks
- "nhwc": (N, h, w, C), Swin, and other networks that keep channels last
- "tokens": (N, P + h·w, C), transformers; the P prefix tokens (class token, registers) come first and have no place
- "vector": (N, C), (N, C, 1, 1), (N, 1, 1, C) or (N, 1, C): channels, and no places
- "custom": whatever a person's own function turns into (N, C, h, w)

`to_grid` brings all that have places to (N, C, h, w). What a shape suggests is a guess; `lsd.places` tries it.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lsd.errors import UndefinedError

_MOST_PREFIX = 8  # tokens before the grid, in a network that does not say how many it has


@dataclass(frozen=True)
class Layer:
    """One module's output.

    Attributes:
        name: the module's dotted name inside the timm network ("layer4.2.conv3"), or that of one of its runs ("layer4.2.act@1").
        layout: "nchw", "nhwc", "tokens", "vector", "custom", "heads" of an attention module whose heads are meant, or "other" where
            nothing is known (windows, attention matrices).
        channels: number of channels (0 for "other"), or of heads.
        height, width: of the grid of places (0 where there is none).
        prefix: tokens before the grid, 0 but for "tokens".
        order: of "tokens", for each place, row by row, the number of its token after the prefix; () where that is row by row
            as well.
        reshape: of "custom", the function.
        runs: how often the module runs in one pass; a name that says no run means what it puts out last.
        refused: why a shape that looks like a grid was not taken for one; "" otherwise.
    """

    name: str
    layout: str
    channels: int = 0
    height: int = 0
    width: int = 0
    prefix: int = 0
    order: tuple[int, ...] = ()
    reshape: Callable[[Tensor], Tensor] | None = None
    runs: int = 1
    refused: str = ""


def to_grid(layer: Layer, activation: Tensor) -> Tensor:
    """A layer's output for N pictures → (N, C, h, w), prefix tokens left out.

    Raises:
        UndefinedError: the layer has no grid of places.
    """
    if layer.layout == "nchw":
        return activation
    if layer.layout == "nhwc":
        return activation.permute(0, 3, 1, 2)
    if layer.layout == "tokens":
        patches = activation[:, layer.prefix :]
        if layer.order:
            patches = patches[:, tokens_of(layer.order, activation.device)]
        return patches.transpose(1, 2).unflatten(2, (layer.height, layer.width))
    if layer.reshape is not None:
        return layer.reshape(activation)
    why = f": {layer.refused}" if layer.refused else ""
    raise UndefinedError(
        f"The output of {layer.name} is not laid out over the picture{why}, so there is no map of it; choose another layer."
    )


@functools.lru_cache(64)
def tokens_of(order: tuple[int, ...], device: torch.device) -> Tensor:
    """A `Layer.order` on the device: sent there once, not at every step."""
    return torch.tensor(order, device=device)


def to_channels(layer: Layer, activation: Tensor) -> Tensor:
    """As `to_grid`, and of a vector (N, C, 1, 1).

    Raises:
        UndefinedError: the layer has no channels.
    """
    return activation.flatten(1)[..., None, None] if layer.layout == "vector" else to_grid(layer, activation)


def channel_axis(layer: Layer, activation: Tensor) -> int:
    """The axis of a layer's output (N, …) along which its channels lie.

    Raises:
        UndefinedError: nobody knows, or a person's own function turns it into channels.
    """
    if layer.layout == "nchw":
        return 1
    if layer.layout in ("nhwc", "tokens"):
        return activation.ndim - 1
    if layer.layout == "vector":
        return activation.shape.index(layer.channels, 1)
    raise UndefinedError(f"Which numbers of {layer.name} belong to one channel is not known; choose another layer.")


def to_flat(layer: Layer, activation: Tensor) -> Tensor:
    """A layer's output (N, …) → (N, C, P): its channels over all its places, prefix tokens among them; P = 1 of a vector.

    Raises:
        UndefinedError: as `channel_axis`.
    """
    return activation.movedim(channel_axis(layer, activation), 1).reshape(len(activation), layer.channels, -1)


def from_flat(layer: Layer, flat: Tensor, activation: Tensor) -> Tensor:
    """The inverse of `to_flat`: (N, C, P) → as the layer's output (N, …) is laid out."""
    axis = channel_axis(layer, activation)
    return flat.reshape(activation.movedim(axis, 1).shape).movedim(1, axis)


def flat_to_grid(layer: Layer, flat: Tensor) -> Tensor:
    """(N, C, P) as `to_flat` gives it, of any number of channels → (N, C, h, w), prefix tokens left out.

    Raises:
        UndefinedError: the layer has no grid of places.
    """
    if layer.layout == "tokens":
        return to_grid(layer, flat.movedim(1, 2))
    if not layer.height:
        raise UndefinedError(f"{layer.name} has no places; choose another layer.")
    return flat.unflatten(2, (layer.height, layer.width))


def to_places(layer: Layer, grid: Tensor, activation: Tensor) -> Tensor:
    """Values of places (N, h, w), as wide as a layer's output (N, …) has places and 1 along its channels; 0 at prefix tokens.

    Raises:
        UndefinedError: the layer has no grid of places, or one by a person's own function.
    """
    if layer.layout == "nchw":
        return grid[:, None]
    if layer.layout == "nhwc":
        return grid[..., None]
    if layer.layout == "tokens":
        found = grid.new_zeros(len(grid), activation.shape[1], 1)
        tokens = tokens_of(layer.order, grid.device) if layer.order else slice(None)
        found[:, layer.prefix :][:, tokens] = grid.flatten(1)[..., None]
        return found
    raise UndefinedError(f"{layer.name} has no places of which some could be meant; choose another layer.")


def suggestions(
    name: str, shape: Sequence[int], picture: tuple[int, int], prefix: int | None = None
) -> Iterator[Layer]:
    """What a module's output of `shape` for one picture may be, most likely first; nothing where nothing fits.

    A grid is recognised by its aspect, which must be the picture's (one place for every r × r pixels, give or take the
    rounding of odd sizes).

    Args:
        picture: (height, width) of the network's input.
        prefix: tokens before the grid, if the network says.
    """
    if len(shape) not in (2, 3, 4) or shape[0] != 1:
        return
    if len(shape) == 2:
        yield Layer(name, "vector", shape[1])
    elif shape[1:-1].count(1) == len(shape) - 2:
        yield Layer(name, "vector", shape[-1])
    elif len(shape) == 4 and tuple(shape[2:]) == (1, 1):
        yield Layer(name, "vector", shape[1])
    elif len(shape) == 4:
        if _is_grid(picture, shape[1], shape[2]):
            yield Layer(name, "nhwc", shape[3], shape[1], shape[2])
        if _is_grid(picture, shape[2], shape[3]):
            yield Layer(name, "nchw", shape[1], shape[2], shape[3])
    else:
        for tokens in dict.fromkeys((*(() if prefix is None else (prefix,)), *range(_MOST_PREFIX + 1))):
            grid = _token_grid(picture, shape[1] - tokens)
            if grid:
                yield Layer(name, "tokens", shape[2], *grid, tokens)


def _is_grid(picture: tuple[int, int], height: int, width: int) -> bool:
    if not (1 < height <= picture[0] and 1 < width <= picture[1]):
        return False
    down, across = picture[0] / height, picture[1] / width
    if 1.1 < down < 1.8:  # no stride is that small: so many rows are the tokens of an attention matrix
        return False
    return abs(down - across) / max(down, across) < 0.5 / min(height, width) + 1e-9


def _token_grid(picture: tuple[int, int], count: int) -> tuple[int, int] | None:
    height = round((max(count, 0) * picture[0] / picture[1]) ** 0.5)
    if height < 2 or count % height:
        return None
    width = count // height
    return (height, width) if _is_grid(picture, height, width) else None


_SAID = re.compile(r"(nchw|nhwc)|tokens(?::(\d+)(?::(\d+)x(\d+))?)?")


def said(name: str, shape: Sequence[int], picture: tuple[int, int], text: str) -> Layer:
    """The layer of that name as a person says it is laid out, whatever its shape suggests.

    Args:
        shape: of its output for one picture.
        text: "nchw", "nhwc", "tokens", or "tokens:1" and "tokens:1:14x14" with the number of prefix tokens and the grid.

    Raises:
        UndefinedError: no such layout, or one that the shape does not allow.
    """
    match = _SAID.fullmatch(text.replace("×", "x"))
    if not match:
        raise UndefinedError(f"There is no layout “{text}”; write nchw, nhwc, tokens, tokens:1 or tokens:1:14x14.")
    layer = None
    if match[1] and len(shape) == 4:
        channels, height, width = shape[1:] if match[1] == "nchw" else (shape[3], shape[1], shape[2])
        layer = Layer(name, match[1], channels, height, width)
    elif not match[1] and len(shape) == 3:
        prefix = int(match[2] or 0)
        grid = (int(match[3]), int(match[4])) if match[3] else _token_grid(picture, shape[1] - prefix)
        if grid and grid[0] * grid[1] == shape[1] - prefix:
            layer = Layer(name, "tokens", shape[2], *grid, prefix)
    if layer is None:
        raise UndefinedError(
            f"{name} puts out {' × '.join(map(str, shape[1:]))} numbers, which cannot be laid out as {text}."
        )
    return layer


def custom(name: str, reshape: Callable[[Tensor], Tensor], example: Tensor) -> Layer:
    """The layer of that name under a person's own function to (N, C, h, w).

    Args:
        example: its output for one picture.

    Raises:
        UndefinedError: the function gives anything else.
    """
    grid = reshape(example)
    if not isinstance(grid, Tensor) or grid.ndim != 4 or len(grid) != 1:
        raise UndefinedError(f"The function for the layout of {name} must give a tensor of shape (N, C, h, w).")
    return Layer(name, "custom", *grid.shape[1:], reshape=reshape)


def resized(layer: Layer, shape: Sequence[int], picture: tuple[int, int]) -> Layer | None:
    """The same layer where the network takes pictures of another size; None if its shape there is not laid out alike."""
    alike = (
        one for one in suggestions(layer.name, shape, picture, layer.prefix)
        if (one.layout, one.channels, one.prefix) == (layer.layout, layer.channels, layer.prefix)
    )  # fmt: skip
    found = next(alike, None)
    return None if found is None or layer.order else replace(found, runs=layer.runs)
