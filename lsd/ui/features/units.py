"""What is visualized, as the page says it: a class by name, a unit of a layer by its numbers, or an expression. No Gradio here."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lsd.errors import LSDError
from lsd.features.units import CLASS_KINDS, REFERENCE_KINDS, SIMILARITY
from lsd.layers import attention_layers, curated_layers, list_layers
from lsd.models import ImageModel
from lsd.ui.shared import controls

CLASS, LAYER, SIMILAR, EXPRESSION = "Class", "Inside the network", "Like a picture", "Expression"

KINDS = {  # kind → (what it is called, the numbers it takes)
    "channel": ("a channel, averaged over places", ("channel",)),
    "neuron": ("a neuron: a channel at one place", ("channel", "row", "column")),
    "position": ("a position: all channels at one place", ("row", "column")),
    "layer": ("the whole layer (DeepDream)", ()),
    "head": ("an attention head", ("head",)),
    "token": ("a channel at a prefix token", ("prefix token", "channel")),
    "inversion": ("inversion: a picture with the same activations", ()),
    "caricature": ("caricature: your picture's activations, exaggerated", ()),
}
NUMBERS = ("prefix token", "channel", "row", "column", "head")
PARTS = ("what", "of", "layer", "kind", *NUMBERS, "expression")  # the controls that say a unit


def describe_layers(model: ImageModel) -> dict[str, dict]:
    """Name → what units it has, as plain values: the stages and blocks first, then every other layer."""
    heads = attention_layers(model)
    first = [layer.name for layer in curated_layers(model)]
    known = {layer.name: layer for layer in list_layers(model)}
    found = {}
    for name in dict.fromkeys([*first, *heads, *known]):
        layer = known.get(name)
        if (layer is None or layer.layout == "other") and name not in heads:
            continue
        sizes = {"channel": 0, "row": 0, "column": 0, "prefix token": 0}
        if layer is not None:
            sizes = {
                "channel": layer.channels, "row": layer.height, "column": layer.width, "prefix token": layer.prefix
            }  # fmt: skip
        found[name] = sizes | {"head": heads.get(name, 0)}
    return found


def first_layer(model: ImageModel, layers: Mapping[str, dict]) -> str | None:
    """Two thirds of the way through the network: beyond edges and textures, and not yet whole scenes."""
    first = curated_layers(model)
    return first[len(first) * 2 // 3].name if first else next(iter(layers), None)


def layer_choices(layers: Mapping[str, dict]) -> list[tuple[str, str]]:
    """(text, name) of every layer."""
    choices = []
    for name, sizes in layers.items():
        parts = [f"{sizes['channel']} channels"] if sizes["channel"] else []
        parts += [f"{sizes['row']} × {sizes['column']}"] if sizes["row"] else []
        parts += [f"{sizes['head']} heads"] if sizes["head"] else []
        choices.append((f"{name}  ·  {', '.join(parts)}", name))
    return choices


def kinds_of(sizes: Mapping[str, int]) -> list[str]:
    """The kinds of units that a layer of these sizes has."""
    kinds = ["channel"] if sizes["channel"] else []
    kinds += ["neuron", "position"] if sizes["row"] else []
    kinds += ["layer"] if sizes["channel"] else []
    kinds += ["head"] if sizes["head"] else []
    kinds += ["token"] if sizes["prefix token"] else []
    return kinds + (["inversion", "caricature"] if sizes["channel"] else [])


def default_class(models: Sequence[str]) -> str | None:
    """A class to start with that these models have."""
    values = [value for _, value in controls.class_choices(models)]
    for wanted in ("golden retriever", "striped star"):
        for value in values:
            if value.startswith(wanted):
                return value
    return values[0] if values else None


def read(values: Mapping[str, Any]) -> str:
    """The unit's text as `lsd.features.units.resolve` takes it.

    Args:
        values: of the controls `PARTS`.

    Raises:
        LSDError: something is not chosen yet.
    """
    what, of, expression = values["what"], values["of"], str(values["expression"] or "").strip()
    if what == EXPRESSION:
        if not expression:
            raise LSDError("The expression is empty; write for example class/207 or layer3/channel/12.")
        return expression
    if what == SIMILAR:
        return SIMILARITY
    if what == CLASS:
        if not str(of if of is not None else "").strip():
            raise LSDError("No class is chosen: type its name or its index.")
        return f"class/{str(of).strip()}"
    return _of_layer(str(values["layer"] or "").strip(), values["kind"], values)


def _of_layer(layer: str, kind: str, values: Mapping[str, Any]) -> str:
    if not layer:
        raise LSDError("No layer is chosen yet: pick one, its model's stages and blocks come first.")
    if kind not in KINDS:
        raise LSDError("No kind of unit is chosen; pick a channel, for example.")
    for name in KINDS[kind][1]:
        if values[name] is None:
            raise LSDError(f"The {name} is empty; give its number, from 0 on.")
    return "/".join([layer, kind, *(str(int(values[name])) for name in KINDS[kind][1])])


def write(unit: str) -> dict[str, Any]:
    """The inverse of `read`: values of the controls `PARTS` that say this unit."""
    values = dict.fromkeys(NUMBERS, 0) | {"of": None, "layer": None, "kind": "channel", "expression": ""}
    head, _, rest = unit.partition("/")
    kind, *numbers = rest.split("/")
    if head == "class" and rest and not _is_sum(rest):
        return values | {"what": CLASS, "of": rest}
    if unit == SIMILARITY:
        return values | {"what": SIMILAR}
    takes = KINDS[kind][1] if kind in KINDS else ()
    plain = all(number.isascii() and number.isdecimal() and len(number) < 8 for number in numbers)
    if kind in KINDS and plain and len(numbers) == len(takes) and not _is_sum(unit) and "::" not in head:
        said = {name: int(number) for name, number in zip(takes, numbers, strict=True)}
        return values | {"what": LAYER, "layer": head, "kind": kind} | said
    return values | {"what": EXPRESSION, "expression": unit}


def _is_sum(text: str) -> bool:
    return any(operator in text.split() for operator in "+-*")


def portable(text: str, models: Sequence[str]) -> str:
    """`class/NAME` as `class/207`, where all models have that class at the same place; anything else as it is."""
    head, _, name = text.partition("/")
    if head not in CLASS_KINDS or head == "contrast":
        return text
    places = {
        next((label.rpartition("·")[2].strip() for label, value in controls.class_choices([m]) if value == name), None)
        for m in models
    }
    place = places.pop() if len(places) == 1 else None
    return f"{head}/{place}" if place else text


def needs_photo(unit: str) -> bool:
    """Whether a unit, by its text, is held against a picture."""
    return any(word in REFERENCE_KINDS for word in re.split(r"[\s/()]|::", unit))
