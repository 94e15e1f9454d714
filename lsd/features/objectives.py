"""The value of units on activations: one number a picture, for many units at once.

A batch holds one unit a picture. Their leaves are grouped by kind and layer, so that a batch of a thousand channels of
one layer is one gather, and then combined picture by picture as each unit's arithmetic says.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.features.units import CLASS_KINDS, PHOTO_KINDS, Leaf, Unit
from lsd.layers import Layer, Tap, find_layer, to_grid
from lsd.models import ImageModel
from lsd.saliency.targets import Target


def tap(leaf: Leaf) -> Tap:
    """Where the activations that a leaf looks at are read."""
    if leaf.kind in CLASS_KINDS:
        return Tap("")
    if leaf.kind == "head":  # the heads' outputs stand side by side where they enter the projection
        return Tap(f"{leaf.layer}.proj", inside=True)
    return Tap(leaf.layer)


def evaluate(
    units: Sequence[Unit],
    models: Mapping[str, ImageModel],
    activations: Mapping[str, Mapping[Tap, Tensor]],
    output: str = "log_odds",
    photo: Mapping[Leaf, Tensor] | None = None,
) -> Tensor:
    """Values (N,) of N units, one a picture, larger the more the unit responds.

    Args:
        models: by the name that leaves carry; "" for the model of leaves without a name.
        activations: for each of them, what `lsd.layers.run_to` gave for the N pictures.
        output: how a plain `class` is differentiated: "logit", "log_odds", "log_probability" or "probability".
        photo: for inversions and caricatures, the activations (C, h, w) of the photo.

    Raises:
        UndefinedError: a layer without the places or channels that a unit asks for.
    """
    groups: dict[tuple[str, Tap, str], list[tuple[int, Leaf]]] = {}
    for i, unit in enumerate(units):
        for leaf in dict.fromkeys(unit.leaves()):
            groups.setdefault((leaf.model, tap(leaf), leaf.kind), []).append((i, leaf))
    found: list[dict[Leaf, Tensor]] = [{} for _ in units]
    whole = None
    for (name, where, kind), members in groups.items():
        rows, leaves = [i for i, _ in members], [leaf for _, leaf in members]
        activation = activations[name][where]
        if rows != list(range(len(units))):  # where attention goes by windows, a picture has several rows
            chosen = torch.tensor(rows, device=activation.device)
            activation = activation.unflatten(0, (len(units), -1))[chosen].flatten(0, 1)
        values = _group(models[name], kind, leaves, activation, output, photo or {})
        if len(groups) == 1 and all(isinstance(unit, Leaf) for unit in units):
            whole = values
        for i, leaf, value in zip(rows, leaves, values, strict=True):
            found[i][leaf] = value
    return whole if whole is not None else torch.stack([u.value(v) for u, v in zip(units, found, strict=True)])


def _group(
    model: ImageModel, kind: str, leaves: list[Leaf], activation: Tensor, output: str, photo: Mapping[Leaf, Tensor]
) -> Tensor:
    """Values (n,) of n leaves of one kind and layer, at activations whose rows belong to them."""
    if kind in CLASS_KINDS:
        indices = tuple(leaf.arguments[0] for leaf in leaves)
        if kind == "contrast":
            return Target(indices, kind, tuple(leaf.arguments[1] for leaf in leaves))(activation)
        kind = output if kind == "class" else kind
        if (
            kind == "log_probability"
        ):  # cross-entropy: it is content once the network is sure, and leaves the rest to others
            return Target(indices, "logit")(activation.log_softmax(1))
        return Target(indices, kind)(activation)
    if kind == "head":
        return _heads(model, leaves, activation)
    layer = find_layer(model, leaves[0].layer)
    if kind == "layer":
        return activation.reshape(len(leaves), -1).square().mean(1)
    n = torch.arange(len(leaves), device=activation.device)
    numbers = [
        torch.tensor(column, device=activation.device) for column in zip(*(f.arguments for f in leaves), strict=True)
    ]
    if kind == "token":
        return activation[n, numbers[0], numbers[1]]
    grid = _grid_of(layer, activation)
    if kind == "channel":
        return grid[n, numbers[0]].mean((1, 2))
    if kind == "neuron":
        return grid[n, numbers[0], numbers[1], numbers[2]]
    if kind == "position":
        return grid[n, :, numbers[0], numbers[1]].square().mean(1)
    if kind == "direction":
        return torch.stack([_direction(g, leaf.weights) for g, leaf in zip(grid, leaves, strict=True)])
    return torch.stack([_like_photo(kind, g, photo[leaf]) for g, leaf in zip(grid, leaves, strict=True)])


def _heads(model: ImageModel, leaves: list[Leaf], activation: Tensor) -> Tensor:
    """Mean square of a head's output over the patches; (B·windows, tokens, C) where attention goes by windows."""
    count = model.net.get_submodule(leaves[0].layer).num_heads
    tokens = activation.reshape(len(leaves), -1, activation.shape[-1])
    prefix = find_layer(model, tap(leaves[0]).name).prefix  # not the network's: its class token may come in later
    heads = tokens[:, prefix:].unflatten(2, (count, -1))
    n = torch.arange(len(leaves), device=activation.device)
    chosen = torch.tensor([leaf.arguments[0] for leaf in leaves], device=activation.device)
    return heads[n, :, chosen].square().mean((1, 2))


def _direction(grid: Tensor, weights: Sequence[tuple[int, float]]) -> Tensor:
    """Mean over places of the projection on the normalised direction; grid (C, h, w)."""
    channels = torch.tensor([c for c, _ in weights], device=grid.device)
    vector = torch.tensor([w for _, w in weights], dtype=grid.dtype, device=grid.device)
    norm = vector.norm()
    if not norm > 0:
        raise UndefinedError("A direction whose weights are all 0 points nowhere; give at least one other weight.")
    return (grid[channels].mean((1, 2)) * vector).sum() / norm


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
    """What inversions and caricatures among `units` are held against: activations (C, h, w) of one photo."""
    found = {}
    for unit in units:
        for leaf in unit.leaves():
            if leaf.kind in PHOTO_KINDS:
                layer = find_layer(models[leaf.model], leaf.layer)
                found[leaf] = _grid_of(layer, activations[leaf.model][tap(leaf)])[0].detach()
    return found


def _grid_of(layer: Layer, activation: Tensor) -> Tensor:
    return activation[..., None, None] if layer.layout == "vector" else to_grid(layer, activation)


def needs_photo(units: Sequence[Unit]) -> bool:
    """Whether any unit is an inversion or a caricature."""
    return any(leaf.kind in PHOTO_KINDS for unit in units for leaf in unit.leaves())


def diversity(activation: Tensor, groups: Sequence[int]) -> Tensor:
    """Minus the mean cosine similarity of each picture's Gram matrix with those of its group: (N,).

    Args:
        activation: (N, C, h, w).
        groups: which pictures belong together (the seeds of one unit).

    Olah, Mordvintsev & Schubert, 2017. Pictures that are alone in their group get 0.
    """
    flat = activation.flatten(2)
    gram = torch.nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
    member = torch.tensor(groups, device=activation.device)
    same = (member[:, None] == member[None]).to(gram.dtype).fill_diagonal_(0)
    return -((gram @ gram.T) * same).sum(1) / same.sum(1).clamp(min=1)
