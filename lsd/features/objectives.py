"""The value of units on activations: one number a picture, for many units at once.

A batch holds one unit a picture. Their leaves are grouped by kind and layer, so that a batch of a thousand channels of
one layer is one gather, and then combined picture by picture as each unit's arithmetic says.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.features.units import CLASS_KINDS, PHOTO_KINDS, REFERENCE_KINDS, SIMILARITY, Leaf, Unit
from lsd.layers import attention_heads, find_layer
from lsd.layout import to_channels
from lsd.models import ImageModel
from lsd.saliency import targets
from lsd.tracing import EMBEDDING, Tap, of_run, split_run


def tap(leaf: Leaf) -> Tap:
    """Where the activations that a leaf looks at are read."""
    if leaf.kind in CLASS_KINDS:
        return Tap("")
    if leaf.kind == SIMILARITY:
        return EMBEDDING
    if leaf.kind == "head":  # the heads' outputs stand side by side where they enter the projection
        module, run = split_run(leaf.layer)
        return Tap(of_run(f"{module}.proj", run), inside=True)
    return Tap(leaf.layer)


class Objective:
    """Units, one a picture, ready for the activations of every step: (N,) values, larger the more a unit responds.

    Which rows are read where, and at which numbers, is put on the device once, so that a step neither sends anything to a
    GPU nor waits for one.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        models: Mapping[str, ImageModel],
        output: str = "log_odds",
        photo: Mapping[Leaf, Tensor] | None = None,
    ):
        """
        Args:
            models: by the name that leaves carry; "" for the model of leaves without a name. At the size of the pictures
                that they will be shown: where a layer has its places is read off them.
            output: how a plain `class` is differentiated: "logit", "log_odds", "log_probability" or "probability".
            photo: what `photo_activations` gives, where units are held against a photo.

        Raises:
            UndefinedError: a layer without the places or channels that a unit asks for.
        """
        self._units = tuple(units)
        groups: dict[tuple[str, Tap, str], list[tuple[int, Leaf]]] = {}
        for i, unit in enumerate(units):
            for leaf in dict.fromkeys(unit.leaves()):
                groups.setdefault((leaf.model, tap(leaf), leaf.kind), []).append((i, leaf))
        everybody = list(range(len(self._units)))
        self._groups = []
        for (name, where, kind), members in groups.items():
            rows, leaves = [i for i, _ in members], [leaf for _, leaf in members]
            chosen = None if rows == everybody else torch.tensor(rows, device=models[name].device)
            read = _reader(models[name], kind, leaves, output, photo or {})
            self._groups.append((name, where, rows, leaves, chosen, read))
        self._plain = len(groups) == 1 and all(isinstance(unit, Leaf) for unit in self._units)

    def __call__(self, activations: Mapping[str, Mapping[Tap, Tensor]]) -> Tensor:
        """Values (N,), given for each model what `lsd.layers.run_to` gave for the N pictures."""
        found: list[dict[Leaf, Tensor]] = [{} for _ in self._units]
        for name, where, rows, leaves, chosen, read in self._groups:
            activation = activations[name][where]
            if chosen is not None:  # where attention goes by windows, a picture has several rows
                activation = activation.unflatten(0, (len(self._units), -1))[chosen].flatten(0, 1)
            values = read(activation)
            if self._plain:
                return values
            for i, leaf, value in zip(rows, leaves, values, strict=True):
                found[i][leaf] = value
        return torch.stack([unit.value(values) for unit, values in zip(self._units, found, strict=True)])


def evaluate(
    units: Sequence[Unit],
    models: Mapping[str, ImageModel],
    activations: Mapping[str, Mapping[Tap, Tensor]],
    output: str = "log_odds",
    photo: Mapping[Leaf, Tensor] | None = None,
) -> Tensor:
    """An `Objective` that is asked once."""
    return Objective(units, models, output, photo)(activations)


def _reader(
    model: ImageModel, kind: str, leaves: Sequence[Leaf], output: str, photo: Mapping[Leaf, Tensor]
) -> Callable[[Tensor], Tensor]:
    """How the values (n,) of n leaves of one kind and layer are read off activations whose rows belong to them."""
    arguments = [torch.tensor(c, device=model.device) for c in zip(*(leaf.arguments for leaf in leaves), strict=True)]
    if kind in CLASS_KINDS:
        return _class_reader(model, output if kind == "class" else kind, arguments)
    n = torch.arange(len(leaves), device=model.device)
    if kind == "head":
        return _head_reader(model, leaves, n, arguments[0])
    if kind == SIMILARITY:  # all leaves of a model are the same one
        return lambda embeddings: targets.cosine(embeddings, photo[leaves[0]])
    layer = find_layer(model, leaves[0].layer)

    def grid(activation: Tensor) -> Tensor:
        return to_channels(layer, activation)

    if kind == "layer":
        return lambda activation: activation.reshape(len(leaves), -1).square().mean(1)
    if kind == "token":
        return lambda activation: activation[n, arguments[0], arguments[1]]
    if kind == "channel":
        return lambda activation: grid(activation)[n, arguments[0]].mean((1, 2))
    if kind == "neuron":
        return lambda activation: grid(activation)[n, arguments[0], arguments[1], arguments[2]]
    if kind == "position":
        return lambda activation: grid(activation)[n, :, arguments[0], arguments[1]].square().mean(1)
    if kind == "direction":
        directions = [_direction(leaf.weights, model) for leaf in leaves]
        return lambda activation: torch.stack([read(g) for g, read in zip(grid(activation), directions, strict=True)])
    references = [photo[leaf] for leaf in leaves]
    return lambda activation: torch.stack(
        [_like_photo(kind, g, reference) for g, reference in zip(grid(activation), references, strict=True)]
    )


def _class_reader(model: ImageModel, kind: str, arguments: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    if kind == "contrast":
        return lambda logits: targets.contrast(logits, *arguments)
    if kind == "log_probability":
        # Cross-entropy: it is content once the network is sure, and leaves the rest to others.
        log = F.logsigmoid if model.outputs == "sigmoid" else functools.partial(F.log_softmax, dim=1)
        return lambda logits: targets.logit(log(logits), *arguments)
    function = targets.FUNCTIONS[model.outputs][kind]
    return lambda logits: function(logits, *arguments)


def _head_reader(model: ImageModel, leaves: Sequence[Leaf], n: Tensor, chosen: Tensor) -> Callable[[Tensor], Tensor]:
    """Mean square of a head's output over the patches; (B·windows, tokens, C) where attention goes by windows."""
    count = attention_heads(model, leaves[0].layer)
    prefix = find_layer(model, tap(leaves[0]).name).prefix  # not the network's: its class token may come in later

    def read(activation: Tensor) -> Tensor:
        tokens = activation.reshape(len(leaves), -1, activation.shape[-1])
        return tokens[:, prefix:].unflatten(2, (count, -1))[n, :, chosen].square().mean((1, 2))

    return read


def _direction(weights: Sequence[tuple[int, float]], model: ImageModel) -> Callable[[Tensor], Tensor]:
    """Mean over places of the projection on the normalised direction, of a grid (C, h, w)."""
    norm = math.hypot(*(weight for _, weight in weights))
    if not norm > 0:
        raise UndefinedError("A direction whose weights are all 0 points nowhere; give at least one other weight.")
    channels = torch.tensor([channel for channel, _ in weights], device=model.device)
    vector = torch.tensor([weight / norm for _, weight in weights], dtype=model.dtype, device=model.device)
    return lambda grid: (grid[channels].mean((1, 2)) * vector.to(grid.dtype)).sum()


def _like_photo(kind: str, grid: Tensor, reference: Tensor) -> Tensor:
    """How near the activations (C, h, w) are to a photo's, or how far beyond it in its direction."""
    if kind == "inversion":  # Mahendran & Vedaldi, 2015: relative squared distance
        return -(grid - reference).square().sum() / reference.square().sum().clamp(min=1e-12)
    # Lucid's caricature: the dot product, times the cosine, so that growth in other directions does not pay.
    dot = (grid * reference).sum() / reference.square().sum().clamp(min=1e-12)
    return dot * torch.cosine_similarity(grid.flatten(), reference.flatten(), 0).clamp(min=0.1)


def photo_activations(
    units: Sequence[Unit], models: Mapping[str, ImageModel], activations: Mapping[str, Mapping[Tap, Tensor]]
) -> dict[Leaf, Tensor]:
    """What inversions, caricatures and similarities among `units` are held against: activations (C, h, w), or the embedding
    (D,), of one photo."""
    found = {}
    for unit in units:
        for leaf in unit.leaves():
            if leaf.kind == SIMILARITY:
                found[leaf] = activations[leaf.model][EMBEDDING][0].detach()
            elif leaf.kind in PHOTO_KINDS:
                layer = find_layer(models[leaf.model], leaf.layer)
                found[leaf] = to_channels(layer, activations[leaf.model][tap(leaf)])[0].detach()
    return found


def has_place(unit: Unit) -> bool:
    """Whether a unit means one place of the picture, or all places each by itself, so that the grid must stay as it is."""
    return has_kind([unit], ("neuron", "position", *PHOTO_KINDS))


def needs_photo(units: Sequence[Unit], vector: bool = False) -> bool:
    """Whether any unit is held against a photo; with a `vector` there, similarities need none."""
    return has_kind(units, PHOTO_KINDS if vector else REFERENCE_KINDS)


def has_kind(units: Iterable[Unit], kinds: Collection[str]) -> bool:
    """Whether any unit, or a part of one, is of one of these kinds."""
    return any(leaf.kind in kinds for unit in units for leaf in unit.leaves())


def diversity(activation: Tensor, groups: Tensor, views: int = 1) -> Tensor:
    """Minus the mean cosine similarity of each view's Gram matrix with those of its group's other pictures: (N · views,).

    Args:
        activation: (N · views, C, h, w), the views of a picture side by side.
        groups: (N · views,) whole numbers, alike where pictures belong together (the seeds of one unit).

    Olah, Mordvintsev & Schubert, 2017. Views of one picture are not held against each other: they are to show the same.
    Pictures that are alone in their group get 0.
    """
    flat = activation.flatten(2)
    gram = torch.nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
    picture = torch.arange(len(groups), device=groups.device) // views
    same = (groups[:, None] == groups[None]) & (picture[:, None] != picture[None])
    same = same.to(gram.dtype)
    return -((gram @ gram.T) * same).sum(1) / same.sum(1).clamp(min=1)
