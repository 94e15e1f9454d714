"""Whether the places of an activation lie where its shape suggests: tried, not guessed.

Four pictures are shown to the network: one, one with another upper half, one with another left half, and one that is other
everywhere. So the first two tell what answers to what happens above, the second and the last what answers to what happens below,
and so on. A place in the upper half must answer more to what happens above than to what happens below, and a place on the left
more to the left. Not by how much, which would flag networks that look everywhere at once, but in what order: of all ways to lay
the same answers out, the suggested one must come near the best (`RIGHT`, as all such numbers in `lsd.answers`). Answers that are
strong (`LOCAL`) and lie elsewhere are those of another order; answers that are faint and lie nowhere say nothing, and such a layer
is believed if an earlier one on the same grid was right, or if timm names that grid.

Networks mix more and more on their way. So the question is asked anew at each layer that has answered well, but no longer sharply:
its places in one half are exchanged as the picture's were, and what follows is held against them. All of it is one pass.

Whatever else the same numbers could be is held against what the shape suggests (`_fits_otherwise`): the grid mirrored, turned or
moved round, other axes as places (a token-mixing MLP's “channels”, where there are as many of them as tokens). And a place that
answers to one quarter of the picture and to nothing else, as many for each quarter as there should be, is one of another order
(windows). A grid that is moved by a place or two still agrees with most of itself, but not in the middle: there the answers
change from one half to the other, and that must be where the halves meet (`MOVED`). What fits clearly otherwise is refused,
whatever is around it, and so is what follows it and answers faintly.

A layer inside a block that has answered well, and that looks as if it had the block's grid in the block's layout, has it: what
is added up lies alike. An attention with a mind of its own (random weights, say) may then look wherever it likes.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lsd.answers import CLEARLY, MOVED, RIGHT, Answers, listen
from lsd.layout import Layer, suggestions, to_grid, tokens_of
from lsd.models import ImageModel
from lsd.tracing import Trace, of_run, split_run

LARGE = 64  # places: so many are exchanged only where that is needed, as it takes time; fewer always

_SAME = "whatever the picture shows, it stays the same"
_ELSEWHERE = "its places do not answer to what the picture shows there"
_OTHERWISE = "what its shape suggests as places lies in another order, or is something else"


@torch.no_grad()
def placed(model: ImageModel, trace: Trace) -> dict[str, Layer]:
    """Module name → how its output is laid out, of all that put out one tensor, in the order in which they finish.

    Of modules that run several times each run as well, under its own name.
    """
    attempt = _Attempt(model, trace)
    with model.lock:
        handles = [
            module.register_forward_hook(attempt.listen(name))
            for name, module in model.net.named_modules() if name in trace.shapes
        ]  # fmt: skip
        try:
            model(attempt.pictures)
        finally:
            for handle in handles:
                handle.remove()
    return {name: replace(attempt.verdict(name), runs=trace.runs[split_run(name)[0]]) for name in trace.shapes}


class _Attempt:
    """What is known so far, while the network runs."""

    def __init__(self, model: ImageModel, trace: Trace):
        self._picture = (model.spec.height, model.spec.width)
        self._orders = functools.cache(functools.partial(_orders_of_timm, model.net))
        self._possible = {name: list(self._suggest(model, name, shape)) for name, shape in trace.shapes.items()}
        self._known = set(_grids_of_timm(model.net, self._picture))
        self._shapes = trace.shapes
        # Each run is looked at as if it were a module; what is said of the last one is said of the module.
        self._last = {split_run(name)[0]: name for name in trace.shapes if split_run(name)[1]}
        self._accepted: dict[str, Layer] = {}
        self._refused: dict[str, str] = {}
        # What was accepted last, at which version, and how it is laid out.
        self._latest: tuple[Tensor, int, Layer] | None = None
        self._lost: set[tuple] = set()  # grids on which the last layer that told was laid out otherwise
        # Numbers of tokens and places → where the grid's begin, if not after all others.
        self._starts: dict[tuple[int, int], int] = {}
        noise = torch.rand(1, 3, *self._picture, generator=torch.Generator().manual_seed(0))
        self.pictures = noise.to(model.mean).repeat(4, 1, 1, 1)
        _exchange_halves(self.pictures)

    def _suggest(self, model: ImageModel, name: str, shape: Sequence[int]) -> Iterator[Layer]:
        prefix = model.num_prefix_tokens if hasattr(model.net, "num_prefix_tokens") else None
        for layer in suggestions(name, shape, self._picture, prefix):
            if layer.layout == "tokens":
                for order in self._orders(layer.height * layer.width):
                    yield replace(layer, order=order)
            yield layer

    def listen(self, name: str):
        """A hook for the module of that name."""
        done = 0

        def hook(module, inputs, output) -> None:
            nonlocal done
            done += 1
            this = of_run(name, done) if name in self._last else name
            possible = self._possible.get(this)
            if not isinstance(output, Tensor) or not possible or tuple(output.shape[1:]) != self._shapes[this][1:]:
                return
            if possible[0].layout == "vector":
                self._accepted[this] = possible[0]
            elif len(output) != len(self.pictures):
                self._refused[this] = _SAME if len(output) == 1 else _ELSEWHERE
            elif (layer := self._layout_of(output)) is not None:
                self._accepted[this] = replace(layer, name=this)
            else:
                self._try(this, output, inputs, isinstance(module, nn.Conv2d))

        return hook

    def _layout_of(self, output: Tensor) -> Layer | None:
        """How it is laid out, if it is the very tensor that was accepted last, as of what puts out what its last module does."""
        if self._latest is None:
            return None
        tensor, version, layer = self._latest
        return layer if output is tensor and output._version == version else None

    def _try(self, name: str, output: Tensor, inputs: Sequence, convolves: bool) -> None:
        """Accept the layout that fits, and exchange the halves of what is put out."""
        possible: list[Layer] = []
        judged: list[tuple[Layer, Answers]] = []
        for layer in self._possible[name]:
            layer, answers = self._heard(layer, output)
            possible.append(layer)
            if answers is not None:
                judged.append((layer, answers))
                if answers.is_sharp:
                    break  # nothing else can fit better
        if not judged:
            self._refused[name] = _SAME
            return
        chosen, answers = max(judged, key=lambda one: one[1].right)
        is_right = answers.right >= RIGHT
        doubted = [(chosen, answers)] if is_right else judged
        refuted = [layer for layer, own in doubted if self._is_refuted(layer, own, output, () if is_right else inputs)]
        self._possible[name] = [one for one in possible if one not in refuted]
        if len(refuted) == len(doubted):
            self._refused[name] = _OTHERWISE
            self._lost.update(_grid(layer) for layer, _ in judged)
            return
        if not is_right:
            strong = any(own.is_elsewhere for _, own in judged)
            chosen = None if strong else next((layer for layer, _ in judged if self._is_believed(layer)), None)
            if not strong and chosen is None and convolves and self._lies_right(inputs[0]):
                chosen = next((layer for layer, _ in judged if layer.layout == "nchw"), None)
        if chosen is None:
            self._refused[name] = _ELSEWHERE
            return
        self._accepted[name] = chosen
        self._lost.discard(_grid(chosen))
        # What follows sharp answers can be held against the same halves, and several numbers in one place of memory (a stride of 0)
        # cannot be exchanged one by one.
        if not (answers.is_sharp and chosen.height * chosen.width >= LARGE) and 0 not in output.stride():
            grid = to_grid(chosen, output)
            _exchange_halves(grid)
            if chosen.order:  # it was gathered, and is put back
                output[:, tokens_of(chosen.order, output.device) + chosen.prefix] = grid.flatten(2).transpose(1, 2)
        self._latest = output, output._version, chosen

    def _heard(self, layer: Layer, output: Tensor) -> tuple[Layer, Answers | None]:
        """What answers, and the layer with its grid where it begins among tokens: mostly after all others, or some follow it."""
        if layer.layout != "tokens" or layer.order or not layer.prefix:
            return layer, _listen_to(layer, output)
        count, tokens = layer.height * layer.width, output.shape[1]
        starts = [
            replace(layer, prefix=start, order=() if start == layer.prefix else tuple(range(count)))
            for start in dict.fromkeys((self._starts.get((tokens, count), layer.prefix), *range(layer.prefix, -1, -1)))
        ]
        usual = _listen_to(starts[0], output)
        if usual is not None and usual.right + CLEARLY >= 1:
            return starts[0], usual
        found = [usual, *(_listen_to(one, output) for one in starts[1:])]
        right = [-1.0 if answers is None else answers.right for answers in found]
        best = max(range(len(starts)), key=lambda i: right[i])
        if best and right[best] >= RIGHT and right[best] > right[0] + CLEARLY and found[best].is_local:
            self._starts[tokens, count] = starts[best].prefix
            return starts[best], found[best]
        return starts[0], usual

    def _is_refuted(self, layer: Layer, answers: Answers, output: Tensor, inputs: Sequence) -> bool:
        """Whether a layout is shown to be another, by what is put out or, where that answers faintly, by what led there."""
        if inputs and _grid(layer) in self._lost:
            return True
        if self._fits_otherwise(answers, output):
            return True
        alike = (given for given in inputs if _alike(layer, given, output))
        heard = ((_listen_to(layer, given), given) for given in alike)
        return any(own is not None and self._fits_otherwise(own, given) for own, given in heard)

    def _fits_otherwise(self, answers: Answers, tensor: Tensor) -> bool:
        """Whether (4, …), of which these are the answers, is shown to lie in another order or along other axes."""
        if answers.offset >= MOVED:
            return True
        if answers.right + CLEARLY >= 1:
            return False  # nothing can fit clearly better
        if answers.right < RIGHT and answers.is_permuted:
            return True
        # By chance, the agreement of n places has a standard deviation of about 1 / √n.
        others = [(answers.moved, answers)]
        others += [(found.right, found) for grid in self._other_axes(tensor) if (found := listen(grid)) is not None]
        return any(
            fit > answers.right + CLEARLY and fit >= max(RIGHT, 3 / found.leans.shape[1] ** 0.5) and found.is_local
            for fit, found in others
        )

    def _other_axes(self, tensor: Tensor) -> Iterator[Tensor]:
        """(4, C, h, w): other axes of it as places than those that shapes suggest, as far as they could be."""
        if tensor.ndim == 4:
            for h, w in ((1, 3), (3, 2), (2, 1), (3, 1)):
                shape = (1, 1, tensor.shape[h], tensor.shape[w])
                if any(one.layout == "nchw" for one in suggestions("", shape, self._picture)):
                    yield tensor.movedim((h, w), (2, 3))
        for axis in range(1 if tensor.ndim == 4 else 2, tensor.ndim):
            tokens = tensor.movedim(axis, 1).flatten(2)
            for layer in suggestions("", (1, *tokens.shape[1:]), self._picture):
                if layer.layout == "tokens":
                    yield to_grid(layer, tokens)

    def _lies_right(self, given: Tensor) -> bool:
        """Whether what a convolution was given is a grid that answers rightly: then what it puts out lies likewise."""
        fits = any(one.layout == "nchw" for one in suggestions("", (1, *given.shape[1:]), self._picture))
        answers = listen(given) if fits else None
        return answers is not None and answers.right >= RIGHT

    def _is_believed(self, layer: Layer) -> bool:
        """Of a layer whose places answer to everything alike."""
        accepted = self._accepted.values()
        if layer.height == layer.width and any(layer.height == one.height * one.width for one in accepted):
            return False  # as many rows and columns as there are places: a matrix of attention
        # Of tokens only their number speaks for a grid, so that their channels must be those that timm says, too.
        return any(
            known == [layer.height, layer.width] and (layer.layout != "tokens" or channels == layer.channels)
            for channels, *known in self._known
        )

    def verdict(self, name: str) -> Layer:
        """How the output of that module, or run, is laid out, after the pass."""
        if name in self._last:
            return replace(self.verdict(self._last[name]), name=name)
        if name in self._accepted:
            return self._accepted[name]
        if name not in self._refused:
            return Layer(name, "other")
        parts = name.split(".")
        holders = [".".join(parts[:i]) for i in range(1, len(parts))]
        around = [self._accepted.get(self._last.get(holder, holder)) for holder in holders]
        for layer in self._possible[name] if self._refused[name] == _ELSEWHERE else ():
            if any(one is not None and _grid(one) == _grid(layer) for one in around):
                return layer
        return Layer(name, "other", refused=self._refused[name])


def _grid(layer: Layer) -> tuple:
    return layer.layout, layer.height, layer.width, layer.prefix, layer.order


def _listen_to(layer: Layer, tensor: Tensor) -> Answers | None:
    """As `listen`, to what is laid out so."""
    return listen(tensor, 1 if layer.layout == "nchw" else -1, functools.partial(to_grid, layer))


def _exchange_halves(grid: Tensor) -> None:
    """Make of (4, C, h, w) the first picture, the same with another upper half, with another left half, and with all of it other.

    What is other is the quarter that lies opposite, one channel on. A middle row or column stays in all of them.
    """
    height, width = grid.shape[2:]
    base = grid[0].clone()
    other = base.roll((1, height // 2, width // 2), (0, 1, 2))
    torch.where(_others(height, width, grid.device), other, base, out=grid)


@functools.lru_cache(64)
def _others(height: int, width: int, device: torch.device) -> Tensor:
    """(4, 1, h, w): where each of the pictures is other than the first."""
    y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]
    above, left = y < height // 2, x < width // 2
    far = (above | (y >= height - height // 2)) & (left | (x >= width - width // 2))
    return torch.stack([torch.zeros_like(far), far & above, far & left, far])[:, None]


def _alike(layer: Layer, given: object, output: Tensor) -> bool:
    """Whether what a module was given may be laid out as what it puts out, but for its channels."""
    if not isinstance(given, Tensor) or given.ndim != output.ndim or len(given) != len(output):
        return False
    channels = 1 if layer.layout == "nchw" else output.ndim - 1
    return all(given.shape[i] == output.shape[i] for i in range(output.ndim) if i != channels)


def _grids_of_timm(net: nn.Module, picture: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """(channels, height, width) of the features that timm says the network has, in both ways of rounding."""
    for stage in getattr(net, "feature_info", None) or ():
        reduction = stage.get("reduction") if isinstance(stage, dict) else None
        if isinstance(reduction, int | float) and reduction > 0:
            for rounded in (math.floor, math.ceil):
                yield stage.get("num_chs"), rounded(picture[0] / reduction), rounded(picture[1] / reduction)


def _orders_of_timm(net: nn.Module, count: int) -> list[tuple[int, ...]]:
    """Orders other than row by row in which the network may keep `count` tokens: what its own `reroll` (Hiera's) would undo."""
    reroll = getattr(net, "reroll", None)
    orders = []
    for block, (_, size) in getattr(reroll, "schedule", {}).items():
        if math.prod(size) == count:
            tokens = torch.arange(count).view(1, count, 1)
            orders.append(tuple(reroll(tokens, block).flatten().tolist()))
    plain = tuple(range(count))
    return [order for order in dict.fromkeys(orders) if order != plain]
