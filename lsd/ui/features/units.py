"""What is visualized, chosen on the page: a class by name, a unit of a layer by its numbers, or an expression."""

import functools
import re
from collections.abc import Iterator, Sequence

import gradio as gr

from lsd.errors import LSDError
from lsd.features.units import CLASS_KINDS, PHOTO_KINDS, REFERENCE_KINDS, SIMILARITY
from lsd.layers import attention_layers, curated_layers, list_layers
from lsd.models import ImageModel, get_model
from lsd.ui.shared import controls, markup
from lsd.ui.shared.jobs import aside, sentence
from lsd.ui.shared.long_event import LONG, long_event

CLASS, LAYER, SIMILAR, EXPRESSION = "A class", "A unit of a layer", "Likeness to a photo", "An expression"

KINDS = {  # kind → (what it is called, the numbers it takes)
    "channel": ("a channel, averaged over places", ("channel",)),
    "neuron": ("a neuron: a channel at one place", ("channel", "row", "column")),
    "position": ("a position: all channels at one place", ("row", "column")),
    "layer": ("the whole layer (DeepDream)", ()),
    "head": ("an attention head", ("head",)),
    "token": ("a channel at a prefix token", ("prefix token", "channel")),
    "inversion": ("inversion: a picture that gives the photo's activations", ()),
    "caricature": ("caricature: the photo's activations, exaggerated", ()),
}
NUMBERS = ("prefix token", "channel", "row", "column", "head")
_GRAMMAR = (
    "Units as the command line writes them: `class/tabby`, `contrast/207/208`, `layer3/direction/12:1,40:-0.5`; and their "
    "sums, `class/207 + 0.5 * layer3/channel/12`, also across models, `MODEL::class/207 + OTHER::class/207`."
)


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


def layer_choices(layers: dict[str, dict]) -> list[tuple[str, str]]:
    """(text, name) of every layer."""
    choices = []
    for name, sizes in layers.items():
        parts = [f"{sizes['channel']} channels"] if sizes["channel"] else []
        parts += [f"{sizes['row']} × {sizes['column']}"] if sizes["row"] else []
        parts += [f"{sizes['head']} heads"] if sizes["head"] else []
        choices.append((f"{name}  ·  {', '.join(parts)}", name))
    return choices


def kinds_of(sizes: dict) -> list[str]:
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


class UnitPicker:
    """Its components and the events among them; built inside a `gr.Blocks`."""

    def __init__(self, models: Sequence[str]):
        self.layers = gr.State({})
        self.what = gr.Radio(
            [CLASS, LAYER, SIMILAR, EXPRESSION], value=CLASS, label="What",
            info="With several models a class or an expression makes sense; a layer's unit is made for every model that has "
            "this layer, and the others only say what they see.",
        )  # fmt: skip
        self.of = gr.Dropdown(
            controls.class_choices(models), value=default_class(models), label="Class", allow_custom_value=True,
            filterable=True, info="Type any of its names, or its index.",
        )  # fmt: skip
        with gr.Group(visible=False) as self.group:
            self.layer = gr.Dropdown(
                [], label="Layer", allow_custom_value=True, filterable=True,
                info="Of the first model: its stages and blocks first, then everything inside them.",
            )  # fmt: skip
            self.kind = gr.Dropdown([(KINDS["channel"][0], "channel")], value="channel", label="Unit", filterable=False)
            with gr.Row():
                self.numbers = [
                    gr.Number(0, precision=0, label=name, visible=name == "channel", min_width=90) for name in NUMBERS
                ]
        self.expression = gr.Textbox("", label="Expression", info=_GRAMMAR, visible=False, max_lines=3)

    @property
    def inputs(self) -> list[gr.components.Component]:
        """In the order that `read` takes."""
        return [self.what, self.of, self.layer, self.kind, *self.numbers, self.expression]

    def connect(self, models: gr.Dropdown, status: gr.HTML, quick: dict) -> None:
        """Events: the choices follow the models, and a layer's unit its layer."""
        self.what.change(
            lambda what: [gr.update(visible=what == kind) for kind in (CLASS, LAYER, EXPRESSION)],
            self.what, [self.of, self.group, self.expression], **quick,
        )  # fmt: skip
        models.input(_classes, [models, self.of], self.of, **quick)
        looked = gr.on(
            [self.what.change, models.input], long_event(functools.partial(self._find_layers, status), status),
            [self.what, models, self.layer], [status, self.layers, self.layer], **LONG,
        )  # fmt: skip
        show = (_show_kinds, [self.layers, self.layer, self.kind], [self.kind, *self.numbers])
        looked.then(*show, **quick)
        self.layer.change(*show, **quick)
        self.kind.change(*show, **quick)

    def _find_layers(self, status: gr.HTML, what: str, models: list[str], layer: str | None) -> Iterator[dict]:
        """Load the first model if its layers are asked for, and list them. That is quick, so it waits for nobody's turn."""
        names = [name.strip() for name in models or [] if name.strip()]
        if what != LAYER or not names:
            return
        try:
            controls.check_public(names[:1])
            yield {status: markup.status(f"Loading {names[0]} to list its layers …")}
            model = aside(get_model, names[0])
            layers, first = describe_layers(model), curated_layers(model)
            # Two thirds of the way through the network: beyond edges and textures, and not yet whole scenes.
            chosen = (
                layer if layer in layers else first[len(first) * 2 // 3].name if first else next(iter(layers), None)
            )
            text = f"{names[0]} has {len(layers)} layers to choose from."
            yield {
                status: markup.status(text), self.layers: layers,
                self.layer: gr.update(choices=layer_choices(layers), value=chosen),
            }  # fmt: skip
        except Exception as error:
            yield {
                status: markup.status(sentence(error), error=True), self.layers: {},
                self.layer: gr.update(choices=[], value=None),
            }  # fmt: skip


def read(what: str, of, layer, kind, *rest) -> str:
    """The unit's text as `units.resolve` takes it, from the values of `UnitPicker.inputs`.

    Raises:
        LSDError: something is not chosen yet.
    """
    *numbers, expression = rest
    if what == EXPRESSION:
        if not str(expression or "").strip():
            raise LSDError("The expression is empty; write for example class/207 or layer3/channel/12.")
        return str(expression).strip()
    if what == SIMILAR:
        return SIMILARITY
    if what == CLASS:
        if not str(of if of is not None else "").strip():
            raise LSDError("No class is chosen: type its name or its index.")
        return f"class/{str(of).strip()}"
    if not str(layer or "").strip():
        raise LSDError("No layer is chosen yet: pick one, its model's stages and blocks come first.")
    if kind not in KINDS:
        raise LSDError("No kind of unit is chosen; pick a channel, for example.")
    given = dict(zip(NUMBERS, numbers, strict=True))
    for name in KINDS[kind][1]:
        if given[name] is None:
            raise LSDError(f"The {name} is empty; give its number, from 0 on.")
    return "/".join([str(layer).strip(), kind, *(str(int(given[name])) for name in KINDS[kind][1])])


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


def class_update(of: str, models: Sequence[str]) -> dict:
    """The class picker showing one class of these models, by its name where an index was given."""
    choices = controls.class_choices(models)
    named = next((value for label, value in choices if label.rpartition("·")[2].strip() == of), of)
    return gr.update(choices=choices, value=named)


def needs_photo(what: str, kind: str, expression: str) -> bool:
    """Whether what is chosen is held against a photo."""
    if what == EXPRESSION:
        return any(kind in re.split(r"[\s/()]|::", str(expression)) for kind in REFERENCE_KINDS)
    return what == SIMILAR or (what == LAYER and kind in PHOTO_KINDS)


def _classes(models: list[str], value) -> dict:
    """The models' classes; what is chosen stays if they have it."""
    choices = controls.class_choices(models or [])
    kept = value in [v for _, v in choices] or str(value).isdecimal()
    return gr.update(choices=choices, value=value if kept else default_class(models or []))


def _show_kinds(layers: dict, layer: str | None, kind: str | None) -> list:
    """The kinds that the layer has, and the numbers that the kind takes, with their ranges."""
    sizes = layers.get(layer or "")
    kinds = kinds_of(sizes) if sizes else list(KINDS)
    chosen = kind if kind in kinds else kinds[0]
    updates = [gr.update(choices=[(KINDS[k][0], k) for k in kinds], value=chosen)]
    for name in NUMBERS:
        last = f"0 to {sizes[name] - 1}" if sizes and sizes[name] else ""
        updates.append(gr.update(visible=name in KINDS[chosen][1], info=last))
    return updates
