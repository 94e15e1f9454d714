"""Whether the places of an activation lie where its shape suggests: tried, not guessed.

A picture is shown to the network with its upper, lower, left or right half exchanged for another. A place in the upper half must
answer more to what happens above than to what happens below, and a place on the left more to the left. Not by how much, which
would flag networks that look everywhere at once, but in what order: of all ways to lay the same answers out, the suggested one must
come near the best (`RIGHT`). Answers that are strong (`LOCAL`) and lie elsewhere are those of another order; answers that are faint
and lie nowhere say nothing, and such a layer is believed if an earlier one on the same grid was right, or if timm names that grid.

Networks mix more and more on their way. So the question is asked anew at each layer that has answered well: its places in one
half are exchanged as the picture's were, and what follows is held against them. All of it is one pass of five pictures.

Whatever else the same numbers could be is held against what the shape suggests (`_fits_otherwise`): the grid mirrored, turned or
moved round, other axes as places (a token-mixing MLP's “channels”, where there are as many of them as tokens). And a place that
answers to one quarter of the picture and to nothing else, as many for each quarter as there should be, is one of another order
(windows). What fits clearly otherwise is refused, whatever is around it, and so is what follows it and answers faintly.

A layer inside a block that has answered well, and that looks as if it had the block's grid in the block's layout, has it: what
is added up lies alike. An attention with a mind of its own (random weights, say) may then look wherever it likes.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lsd.layout import Layer, suggestions, to_grid, tokens_of
from lsd.models import ImageModel
from lsd.tracing import Trace, of_run, split_run

RIGHT = 0.5  # of the agreement that the best order of the same answers would have
LOCAL = 0.2  # mean of |a − b| / (a + b), a and b the answers to both halves: above that, a place knows where it is
_CHANNELS = 16  # of a layer that are listened to, evenly spaced
SURE = 0.25  # of the places must be sharp, so that it is no attention that happens to look to the far side
SHARP = 0.9  # of a lean: from there on, a place answers to one half alone; and of the places: from there on, all do
CLEARLY = 0.1  # by how much another reading must fit better than the suggested one
_NOTHING = 1e-6  # of an activation: what moves less does not depend on the picture

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
        self._lost: set[tuple] = set()  # grids on which the last layer that told was laid out otherwise
        self._starts: dict[
            tuple[int, int], int
        ] = {}  # numbers of tokens and places → where the grid's begin, if not after all others
        noise = torch.rand(1, 3, *self._picture, generator=torch.Generator().manual_seed(0))
        self.pictures = noise.to(model.mean).repeat(5, 1, 1, 1)
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
            else:
                self._try(this, output, inputs, isinstance(module, nn.Conv2d))

        return hook

    def _try(self, name: str, output: Tensor, inputs: Sequence, convolves: bool) -> None:
        """Accept the layout that fits, and exchange the halves of what is put out."""
        possible = [self._placed_tokens(layer, output) for layer in self._possible[name]]
        answers = [(layer, _answers(to_grid(layer, output))) for layer in possible]
        if all(found is None for _, found in answers):
            self._refused[name] = _SAME
            return
        judged = [(layer, *_agreement(found)) for layer, found in answers if found is not None]
        chosen, right, _ = max(judged, key=lambda one: one[1])
        doubted = [chosen] if right >= RIGHT else [layer for layer, _, _ in judged]
        refuted = [one for one in doubted if self._is_refuted(one, output, () if right >= RIGHT else inputs)]
        self._possible[name] = [one for one in possible if one not in refuted]
        if len(refuted) == len(doubted):
            self._refused[name] = _OTHERWISE
            self._lost.update(_grid(layer) for layer, _, _ in judged)
            return
        if right < RIGHT:
            strong = any(elsewhere for _, _, elsewhere in judged)
            chosen = None if strong else next((layer for layer, _, _ in judged if self._is_believed(layer)), None)
            if not strong and chosen is None and convolves and self._lies_right(inputs[0]):
                chosen = next((layer for layer, _, _ in judged if layer.layout == "nchw"), None)
        if chosen is None:
            self._refused[name] = _ELSEWHERE
            return
        self._accepted[name] = chosen
        self._lost.discard(_grid(chosen))
        if 0 in output.stride():
            return  # several numbers in one place of memory cannot be exchanged one by one
        grid = to_grid(chosen, output)
        _exchange_halves(grid)
        if chosen.order:  # it was gathered, and is put back
            output[:, tokens_of(chosen.order, output.device) + chosen.prefix] = grid.flatten(2).transpose(1, 2)

    def _placed_tokens(self, layer: Layer, output: Tensor) -> Layer:
        """The layer with its grid where it begins among the tokens: mostly after all others, or (some of) the others follow it."""
        count, tokens = layer.height * layer.width, output.shape[1]
        if layer.layout != "tokens" or layer.order or not layer.prefix:
            return layer
        starts = [
            replace(layer, prefix=start, order=() if start == layer.prefix else tuple(range(count)))
            for start in dict.fromkeys((self._starts.get((tokens, count), layer.prefix), *range(layer.prefix, -1, -1)))
        ]
        usual = _answers(to_grid(starts[0], output))
        if usual is not None and _agreement(usual)[0] + CLEARLY >= 1:
            return starts[0]
        found = [usual, *(_answers(to_grid(one, output)) for one in starts[1:])]
        right = [-1.0 if answers is None else _agreement(answers)[0] for answers in found]
        best = max(range(len(starts)), key=lambda i: right[i])
        if best and right[best] >= RIGHT and right[best] > right[0] + CLEARLY and _is_local(found[best]):
            self._starts[tokens, count] = starts[best].prefix
            return starts[best]
        return starts[0]

    def _is_refuted(self, layer: Layer, output: Tensor, inputs: Sequence) -> bool:
        """Whether a layout is shown to be another, by what is put out or, where that answers faintly, by what led there."""
        if inputs and _grid(layer) in self._lost:
            return True
        tensors = [output, *(given for given in inputs if _alike(layer, given, output))]
        return any(self._fits_otherwise(layer, tensor) for tensor in tensors)

    def _fits_otherwise(self, layer: Layer, tensor: Tensor) -> bool:
        """Whether (5, …), laid out as the layer's output, is shown to lie in another order or along other axes."""
        answers = _answers(to_grid(layer, tensor))
        if answers is None:
            return False
        right = _agreement(answers)[0]
        if right + CLEARLY >= 1:
            return False  # nothing can fit clearly better
        if right < RIGHT and _is_permuted(answers):
            return True
        others = [(_moved(answers), answers)]
        others += [
            (_agreement(found)[0], found) for grid in self._other_axes(tensor) if (found := _answers(grid)) is not None
        ]
        # By chance, the agreement of n places has a standard deviation of about 1 / √n.
        return any(
            fit > right + CLEARLY and fit >= max(RIGHT, 3 / found[0].numel() ** 0.5) and _is_local(found)
            for fit, found in others
        )

    def _other_axes(self, tensor: Tensor) -> Iterator[Tensor]:
        """(5, C, h, w): other axes of it as places than those that shapes suggest, as far as they could be."""
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
        answers = _answers(given) if fits else None
        return answers is not None and _agreement(answers)[0] >= RIGHT

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


def _exchange_halves(grid: Tensor) -> None:
    """Make of (5, C, h, w) the first picture five times, the others with their upper, lower, left or right half exchanged for the
    half that lies opposite, one channel on. A middle row or column stays."""
    base = grid[0].clone()
    grid[1:] = base
    other, (y, x) = base.roll(1, 0), (n // 2 for n in base.shape[1:])
    grid[1, :, :y], grid[2, :, -y:] = other[:, -y:], other[:, :y]
    grid[3, :, :, :x], grid[4, :, :, -x:] = other[:, :, -x:], other[:, :, :x]


def _alike(layer: Layer, given: object, output: Tensor) -> bool:
    """Whether what a module was given may be laid out as what it puts out, but for its channels."""
    if not isinstance(given, Tensor) or given.ndim != output.ndim or len(given) != len(output):
        return False
    channels = 1 if layer.layout == "nchw" else output.ndim - 1
    return all(given.shape[i] == output.shape[i] for i in range(output.ndim) if i != channels)


@functools.lru_cache(64)
def _sides(height: int, width: int) -> Tensor:
    """(2, h · w): 1 above and −1 below, 1 left and −1 right, 0 in the middle."""
    down, across = ((n - 1 - torch.arange(n) * 2).sign().double() for n in (height, width))
    return torch.stack([down[:, None].expand(height, width), across[None].expand(height, width)]).flatten(1)


def _answers(grid: Tensor) -> Tensor | None:
    """How much each place of (5, C, h, w) answers to each half, (4, h, w); None where nothing does."""
    for channels in (grid[:, :: max(1, grid.shape[1] // _CHANNELS)], grid):  # all of them where those few are silent
        found = (channels[1:] - channels[:1]).square_().sum(1).sqrt_().double().cpu()
        if found.max() > _NOTHING * channels[0].abs().max().item():
            return found
    return None


def _agreement(answers: Tensor) -> tuple[float, bool]:
    """(how near the answers (4, h, w) come to the order that fits them best, whether they are strong and do not).

    Both of the axis that does worse.
    """
    found, elsewhere = [], False
    sides = _sides(*answers.shape[1:])
    for side, lean in zip(sides, _leans(answers), strict=True):
        lean = lean - lean.mean()
        best = (side.sort().values * lean.sort().values).sum()
        right = ((side * lean).sum() / best).item() if best > 0 else 0.0
        found.append(right)
        elsewhere |= right < RIGHT and lean.abs().mean().item() >= LOCAL
    return min(found), elsewhere


def _is_local(answers: Tensor) -> bool:
    """Whether some places answer to one half alone, wherever it is; what mixes much may lean to the far side, but not wholly."""
    return bool((_leans(answers).abs() > SHARP).double().mean(1).min() >= SURE)


def _is_permuted(answers: Tensor) -> bool:
    """Whether each place answers to one quarter of the picture alone, and to each quarter as many as on a grid."""
    leans = _leans(answers)
    sharp = (leans.abs() > SHARP).all(0)
    if sharp.double().mean() < SHARP:
        return False
    sides = _sides(*answers.shape[1:])
    found, expected = (
        torch.stack([((signs[0] == y) & (signs[1] == x)).double().mean() for y in (-1, 1) for x in (-1, 1)])
        for signs in (leans.sign(), sides)
    )
    return bool((found - expected).abs().max() < 1 - SHARP)


def _moved(answers: Tensor) -> float:
    """The best agreement of the same places mirrored, turned (where there are as many rows as columns) or moved round."""
    grid = answers.shape[1:]
    sides, leans = _sides(*grid), _leans(answers)
    leans = leans - leans.mean(1, keepdim=True)
    best = (sides.sort().values * leans.sort().values).sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    plain = leans.unflatten(1, grid)
    ways = [plain, plain.flip(1), plain.flip(2), plain.flip((1, 2))]
    if grid[0] == grid[1]:
        ways += [way.transpose(1, 2) for way in ways]
    turned = max(((sides * way.flatten(1)).sum(1) / best).min().item() for way in ways)
    round_ = []
    for axis, n in enumerate(grid):
        rolled = torch.stack([plain[axis].roll(by, axis).flatten() for by in range(n)])
        round_.append(((rolled @ sides[axis]) / best[axis]).max().item())
    return max(turned, min(round_))


def _leans(answers: Tensor) -> Tensor:
    """(2, h · w): how much more a place answers to above than to below, and to the left than to the right, from 1 to −1."""
    first, second = answers.flatten(1)[0::2], answers.flatten(1)[1::2]
    return (first - second) / (first + second).clamp(min=torch.finfo(torch.float64).tiny)


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
