"""Units: what is visualized, written as strings that parse and print back the same.

    class/207                       the class as the recipe differentiates it (log-odds by default)
    logit/207  log_odds/207  log_probability/207  probability/207
                                    the class, differentiated in this way whatever the recipe says
    contrast/207/208                logit 207 − logit 208: what tells one class from another
    layer3.5.conv2/channel/12       a channel, averaged over places (prefix tokens left out)
    layer3.5.conv2/neuron/12/7/7    a channel at one place: channel, row, column
    layer3/position/7/7             all channels at one place (mean of squares)
    layer3/direction/12:1,40:-0.5   a direction in channel space, averaged over places
    layer3/layer                    the whole layer (mean of squares): DeepDream
    blocks.5/token/0/12             a channel at a prefix token (0 is the class token)
    blocks.5.attn/head/2            an attention head's output (mean of squares over patches)
    similarity                      the cosine of the network's embedding with a photo's, or with any vector (`lsd.embedding`)
    layer3/inversion                the activations of a photo, as near as can be
    layer3/caricature               the activations of a photo, exaggerated

A layer is a module's dotted name in timm's network. Of a module that runs several times in one pass the last run is meant, or
the one that is named, counted from 1 in the order in which they run:

    layer1.0.act@1/channel/12       a channel of what `layer1.0.act` puts out first

Units add, subtract and multiply (with spaces around the operators),
also across models (`MODEL::UNIT`, for one picture that serves several):

    class/207 + 0.5 * layer3/channel/12
    resnet50.a1_in1k::class/207 + vit_tiny_patch16_224.augreg_in21k_ft_in1k::class/207
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lsd import labels
from lsd.errors import UndefinedError
from lsd.layers import attention_heads, curated_layers, find_layer
from lsd.layout import Layer
from lsd.models import ImageModel
from lsd.tracing import classifiers

CLASS_KINDS = ("class", "logit", "log_odds", "log_probability", "probability", "contrast")
SIMILARITY = "similarity"
PHOTO_KINDS = ("inversion", "caricature")
REFERENCE_KINDS = (SIMILARITY, *PHOTO_KINDS)  # held against something that the unit's text does not name
_LAYER_ARGUMENTS = {  # kind → what its numbers mean, in order
    "channel": ("channel",),
    "neuron": ("channel", "row", "column"),
    "position": ("row", "column"),
    "token": ("prefix token", "channel"),
    "head": ("head",),
    "layer": (),
    "inversion": (),
    "caricature": (),
}
LAYER_KINDS = (*_LAYER_ARGUMENTS, "direction")


class Unit:
    """An objective: one number a picture. Arithmetic makes new units and changes none."""

    def __add__(self, other: "Unit") -> "Unit":
        return Combined("+", self, _unit(other))

    def __sub__(self, other: "Unit") -> "Unit":
        return Combined("-", self, _unit(other))

    def __mul__(self, other: "Unit | float") -> "Unit":
        if not isinstance(other, int | float):
            return Combined("*", self, _unit(other))
        if not math.isfinite(other):
            raise UndefinedError(f"A unit can be multiplied by finite numbers only, not by {other}.")
        return Scaled(float(other), self)

    __rmul__ = __mul__

    def __neg__(self) -> "Unit":
        return Scaled(-1.0, self)

    def leaves(self) -> Iterator["Leaf"]:
        """The units without arithmetic that it is made of, from left to right."""
        raise NotImplementedError

    def value(self, leaf_values: Mapping["Leaf", object]):
        """Its value, given those of its leaves (numbers or tensors)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Leaf(Unit):
    """A unit without arithmetic.

    Attributes:
        kind: one of `CLASS_KINDS` or `LAYER_KINDS`, or `SIMILARITY`.
        arguments: its whole numbers, in the order in which they are written.
        layer: the module's dotted name; "" for classes and similarities.
        weights: (channel, weight) pairs of a direction; () otherwise.
        model: name of the model it belongs to; "" for the one that is asked.
    """

    kind: str
    arguments: tuple[int, ...] = ()
    layer: str = ""
    weights: tuple[tuple[int, float], ...] = ()
    model: str = ""

    def leaves(self) -> Iterator["Leaf"]:
        yield self

    def value(self, leaf_values):
        return leaf_values[self]

    def __str__(self) -> str:
        parts = [self.layer] if self.layer else []
        parts += [self.kind, *map(str, self.arguments)]
        if self.weights:
            parts.append(",".join(f"{channel}:{_number(weight)}" for channel, weight in self.weights))
        return (f"{self.model}::" if self.model else "") + "/".join(parts)


@dataclass(frozen=True)
class Scaled(Unit):
    """A number times a unit."""

    factor: float
    unit: Unit

    def leaves(self) -> Iterator[Leaf]:
        yield from self.unit.leaves()

    def value(self, leaf_values):
        return self.factor * self.unit.value(leaf_values)

    def __str__(self) -> str:
        return f"{_number(self.factor)} * {_bracketed(self.unit, Combined, Scaled)}"


@dataclass(frozen=True)
class Combined(Unit):
    """Two units, added, subtracted or multiplied."""

    operator: str
    left: Unit
    right: Unit

    def leaves(self) -> Iterator[Leaf]:
        yield from self.left.leaves()
        yield from self.right.leaves()

    def value(self, leaf_values):
        left, right = self.left.value(leaf_values), self.right.value(leaf_values)
        return left + right if self.operator == "+" else left - right if self.operator == "-" else left * right

    def __str__(self) -> str:
        if self.operator == "*":
            chain = isinstance(self.left, Combined) and self.left.operator == "*"  # needs no brackets, however long
            left = str(self.left) if chain else _bracketed(self.left, Combined, Scaled)
            return f"{left} * {_bracketed(self.right, Combined, Scaled)}"
        right = _bracketed(self.right, Combined) if self.right_is_sum else str(self.right)
        return f"{self.left} {self.operator} {right}"

    @property
    def right_is_sum(self) -> bool:
        """Whether the right side needs brackets after a + or −."""
        return isinstance(self.right, Combined) and self.right.operator != "*"


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _unit(value: object) -> Unit:
    if not isinstance(value, Unit):
        raise TypeError(f"{value!r} is not a unit")
    return value


def _bracketed(unit: Unit, *kinds: type) -> str:
    return f"({unit})" if isinstance(unit, kinds) else str(unit)


_TOKEN = re.compile(r"[()]|[^\s()]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS = 200  # a sum nests as deeply as it is long, and Python's stack is not endless


def parse(text: str) -> Unit:
    """The unit that `text` stands for; `str()` of it gives `text` back, but for spaces and superfluous brackets.

    Raises:
        UndefinedError: not a unit, and what is wrong with it.
    """
    tokens = _TOKEN.findall(str(text))
    if not tokens:
        raise UndefinedError("An empty text is no unit; write for example class/207 or layer3/channel/12.")
    if len(tokens) > _WORDS:
        raise UndefinedError(f"This unit is too long: at most {_WORDS} words.")
    unit, rest = _sum(tokens, text, 0)
    if rest:
        raise UndefinedError(f"“{_cut(text)}” is not a unit: “{rest[0]}” was not expected there.")
    if not isinstance(unit, Unit):
        raise UndefinedError(f"“{_cut(text)}” is a number, not a unit.")
    return unit


def _sum(tokens: list[str], text: str, depth: int):
    left, tokens = _product(tokens, text, depth)
    while tokens and tokens[0] in ("+", "-"):
        operator = tokens[0]
        right, tokens = _product(tokens[1:], text, depth)
        if not (isinstance(left, Unit) and isinstance(right, Unit)):
            raise UndefinedError(f"“{_cut(text)}”: a number alone cannot be added to a unit; multiply a unit by it.")
        left = Combined(operator, left, right)
    return left, tokens


def _product(tokens: list[str], text: str, depth: int):
    left, tokens = _atom(tokens, text, depth)
    while tokens and tokens[0] == "*":
        right, tokens = _atom(tokens[1:], text, depth)
        if isinstance(left, float) and isinstance(right, float):
            left = left * right
        elif isinstance(left, float) or isinstance(right, float):
            left = left * right if isinstance(right, Unit) else right * left
        else:
            left = Combined("*", left, right)
    return left, tokens


def _atom(tokens: list[str], text: str, depth: int):
    if not tokens:
        raise UndefinedError(f"“{_cut(text)}” is not a unit: it ends too early.")
    if depth > 50:
        raise UndefinedError(f"“{text[:60]}…” is nested too deeply.")
    token, *rest = tokens
    if token == "(":
        inner, rest = _sum(rest, text, depth + 1)
        if not rest or rest[0] != ")":
            raise UndefinedError(f"“{_cut(text)}” is not a unit: a bracket is not closed.")
        return inner, rest[1:]
    if _NUMBER.fullmatch(token):
        return float(token), rest
    return _leaf(token), rest


def _leaf(token: str) -> Leaf:
    model, colons, rest = token.rpartition("::")
    if colons and not model:
        raise UndefinedError(f"“{token}” names no model before “::”.")
    parts = rest.split("/")
    try:
        if parts[0] in CLASS_KINDS:
            numbers = tuple(int(p) for p in parts[1:])
            if len(numbers) != (2 if parts[0] == "contrast" else 1):
                raise ValueError
            return Leaf(parts[0], numbers, model=model)
        if parts == [SIMILARITY]:
            return Leaf(SIMILARITY, model=model)
        layer, kind, *numbers = parts
        if kind == "direction":
            pairs = [pair.split(":") for pair in "/".join(numbers).split(",")]
            weights = tuple((int(c), float(w)) for c, w in pairs)
            if len(dict(weights)) < len(weights) or not all(math.isfinite(w) for _, w in weights):
                raise ValueError
            return Leaf(kind, layer=layer, weights=weights, model=model)
        if kind not in _LAYER_ARGUMENTS or len(numbers) != len(_LAYER_ARGUMENTS[kind]) or not layer:
            raise ValueError
        return Leaf(kind, tuple(int(n) for n in numbers), layer, model=model)
    except ValueError:
        raise UndefinedError(
            f"“{_cut(token)}” is not a unit; write for example class/207, contrast/207/208, layer3/channel/12, "
            "layer3/neuron/12/7/7, layer3/direction/12:1,40:-0.5, layer3/layer or blocks.5.attn/head/2."
        ) from None


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def check(unit: Unit, model: ImageModel) -> Unit:
    """`unit` unchanged, if the parts of it that belong to `model` are there.

    Raises:
        UndefinedError: no such class, layer, channel, place, token or head, naming what there is.
    """
    for leaf in unit.leaves():
        if leaf.model in ("", model.name):
            _check_leaf(leaf, model)
    return unit


def _check_leaf(leaf: Leaf, model: ImageModel) -> None:
    if leaf.kind in CLASS_KINDS:
        if not model.num_classes:
            raise UndefinedError(f"{model.name} has no classifier, so it has no unit {leaf}; choose a layer's channel.")
        for index in leaf.arguments:
            _in_range(index, model.num_classes, "class", "classes", model.name)
        if leaf.kind == "contrast" and leaf.arguments[0] == leaf.arguments[1]:
            raise UndefinedError("A contrast of a class with itself is zero everywhere; choose two different classes.")
        return
    if leaf.kind == SIMILARITY:
        classifiers(model)  # which says so where no embedding is known
        return
    if leaf.kind == "head":
        count = attention_heads(model, leaf.layer)
        return _in_range(leaf.arguments[0], count, "head", "heads", leaf.layer)
    layer = find_layer(model, leaf.layer)
    if leaf.kind in ("layer", *PHOTO_KINDS):
        return
    where = f"{leaf.layer} of {model.name}"
    if leaf.kind == "token":
        if not layer.prefix:
            raise UndefinedError(f"{where} has no prefix tokens; its channels are {leaf.layer}/channel/….")
        _in_range(leaf.arguments[0], layer.prefix, "prefix token", "prefix tokens", where)
        return _in_range(leaf.arguments[1], layer.channels, "channel", "channels", where)
    if not layer.channels:
        raise UndefinedError(f"The output of {where} is not laid out in channels; choose a layer inside or around it.")
    if leaf.kind in ("neuron", "position"):
        if not layer.height:
            raise UndefinedError(f"{where} has no places, only channels: {leaf.layer}/channel/….")
        row, column = leaf.arguments[-2:]
        _in_range(row, layer.height, "row", "rows", where)
        _in_range(column, layer.width, "column", "columns", where)
    channels = [c for c, _ in leaf.weights] if leaf.kind == "direction" else leaf.arguments[:1]
    for channel in () if leaf.kind == "position" else channels:
        _in_range(channel, layer.channels, "channel", "channels", where)


def _in_range(index: int, count: int, one: str, many: str, where: str) -> None:
    if not 0 <= index < count:
        raise UndefinedError(
            f"{one.capitalize()} {index} is out of range: {where} has {count} {many}, 0 to {count - 1}."
        )


def class_of(unit: Unit, model_name: str) -> int | None:
    """The class that a unit is, if it is a single one of this model."""
    plain = isinstance(unit, Leaf) and unit.kind in CLASS_KINDS and unit.kind != "contrast"
    return unit.arguments[0] if plain and unit.model in ("", model_name) else None


def other_models(units: Iterable[Unit], model_name: str) -> list[str]:
    """The further models that units name, each once, in the order in which they come."""
    names = dict.fromkeys(leaf.model for unit in units for leaf in unit.leaves())
    return [name for name in names if name not in ("", model_name)]


def title(unit: Unit, model: ImageModel) -> str:
    """A caption for people: a class by its name, anything else as it is written."""
    if isinstance(unit, Leaf) and unit.kind in CLASS_KINDS and unit.model in ("", model.name):
        names = [labels.short(model.class_names[i]) for i in unit.arguments]
        return " − ".join(names) if unit.kind == "contrast" else names[0]
    return str(unit)


def resolve(text: str, model: ImageModel) -> Unit:
    """Like `parse` and `check`, and a class may be given by its name (“class/tabby”, “class/Egyptian cat”).

    Raises:
        UndefinedError: as `parse` and `check`, or no such class, or several of that name.
    """
    head, slash, name = text.strip().partition("/")
    named = head in CLASS_KINDS and head != "contrast" and name and not name.lstrip("-").isdecimal()
    if slash and named and not any(operator in name.split() for operator in "+-*"):
        return Leaf(head, (labels.find_class(model.class_names, name),))
    return check(parse(text), model)


def expand(pattern: str, model: ImageModel) -> list[Unit]:
    """Many units at once.

    `class:all`, `class:7,27,40-49`; `LAYER:channels`, `LAYER:channels:16` (sixteen, evenly spread), `LAYER:heads`;
    `layer:curated:16` (sixteen channels of each of the model's stages and blocks), `layer:curated:16:6` (of six of them,
    from the first to the last). Anything else is one unit, as `resolve`.

    Raises:
        UndefinedError: no such pattern, class or layer.
    """
    head, colon, rest = pattern.strip().partition(":")
    if not colon or rest.startswith(":") or "/" in pattern:
        return [resolve(pattern, model)]
    if head == "class":
        numbers = range(model.num_classes) if rest == "all" else _numbers(rest)
        return [check(Leaf("class", (i,)), model) for i in numbers]
    what, _, count = rest.partition(":")
    if head == "layer" and what == "curated":
        channels, _, layers = count.partition(":")
        chosen = _spread(curated_layers(model), _count(layers)) if layers else curated_layers(model)
        return [u for layer in chosen for u in _channels(layer, _count(channels))]
    if what == "channels":
        return _channels(find_layer(model, head), _count(count) if count else None)
    if what == "heads":
        return [Leaf("head", (i,), head) for i in range(attention_heads(model, head))]
    raise UndefinedError(f"“{pattern}” stands for no units; write class:all, layer3:channels:16 or layer:curated:16.")


def _spread(layers: list[Layer], count: int) -> list[Layer]:
    """At most `count` of them, evenly spread, from the first to the last; of one, the last."""
    count = min(count, len(layers))
    at = [len(layers) - 1] if count == 1 else [round(i * (len(layers) - 1) / (count - 1)) for i in range(count)]
    return [layers[i] for i in at]


def _channels(layer: Layer, count: int | None) -> list[Unit]:
    if not layer.channels:
        raise UndefinedError(
            f"The output of {layer.name} is not laid out in channels; choose a layer inside or around it."
        )
    count = min(count or layer.channels, layer.channels)
    return [Leaf("channel", (i * layer.channels // count,), layer.name) for i in range(count)]


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not int(text):
        raise UndefinedError(f"“{_cut(text)}” is not a number of channels.")
    return int(text)


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        readable = first.isdecimal() and last.isdecimal() and len(first) < 10 and len(last) < 10
        if not readable or not 0 <= int(last) - int(first) <= 100_000 or len(numbers) > 100_000:
            raise UndefinedError(f"“{_cut(text)}” is not a list of classes; write for example class:7,27,40-49.")
        numbers.extend(range(int(first), int(last) + 1))
    return numbers


def without_model(unit: Leaf) -> Leaf:
    """The same unit, of the model that is asked."""
    return replace(unit, model="")
