"""The controls that say a unit: the class search first, and for what is inside the network its layer, kind and numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from lsd.models import get_model
from lsd.ui.features.units import (
    CLASS,
    EXPRESSION,
    KINDS,
    LAYER,
    NUMBERS,
    SIMILAR,
    default_class,
    describe_layers,
    first_layer,
    kinds_of,
    layer_choices,
    write,
)  # fmt: skip
from lsd.ui.shared import controls, markup
from lsd.ui.shared.address import QUICK
from lsd.ui.shared.jobs import aside, sentence
from lsd.ui.shared.long_event import LONG, long_event

_GRAMMAR = (
    "Units as the command line writes them: class/tabby, contrast/207/208, layer3/direction/12:1,40:-0.5; and sums of them, "
    "class/207 + 0.5 * layer3/channel/12."
)


class UnitPicker:
    """Its components, by the names of `units.PARTS`, and the events among them; built inside a `gr.Blocks`."""

    def __init__(self, models: Sequence[str]):
        self.layers = gr.State({})
        self.what = gr.Radio(
            [CLASS, LAYER, SIMILAR, EXPRESSION], value=CLASS, label="Unit", elem_id="features-what",
            info="What the picture is made for. With several models, choose a class: every model has it.",
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
            self.kind = gr.Dropdown([(KINDS["channel"][0], "channel")], value="channel", label="Kind", filterable=False)
            with gr.Row():
                self.numbers = {
                    name: gr.Number(0, precision=0, label=name.capitalize(), visible=name == "channel", min_width=90)
                    for name in NUMBERS
                }
            self.told = gr.HTML(padding=False, elem_id="features-layers")
        self.expression = gr.Textbox("", label="Expression", info=_GRAMMAR, visible=False, max_lines=3)
        self.named = {
            "what": self.what, "of": self.of, "layer": self.layer, "kind": self.kind, **self.numbers,
            "expression": self.expression,
        }  # fmt: skip

    def connect(self, models: gr.Dropdown) -> None:
        """Events: the choices follow the models, and a layer's unit its layer."""
        self.what.change(_shown, self.what, [self.of, self.group, self.expression], **QUICK)
        models.input(_classes, [models, self.of], self.of, **QUICK)
        looked = gr.on(
            [self.what.change, models.change], long_event(self.find_layers, self.told, "layers"), [self.what, models, self.layer],
            [self.told, self.layers, self.layer], **LONG,
        )  # fmt: skip
        for event in (looked.then, self.layer.change, self.kind.change):
            event(self._kinds, {self.layers, self.layer, self.kind}, [self.kind, *self.numbers.values()], **QUICK)

    def updates(self, unit: str, models: Sequence[str]) -> dict:
        """Updates that say a unit of these models."""
        values = write(unit)
        update = {component: values[name] for name, component in self.named.items()}
        choices = controls.class_choices(models)
        named = next(
            (value for label, value in choices if label.rpartition("·")[2].strip() == values["of"]), values["of"]
        )
        update[self.of] = gr.update(
            choices=choices, value=named or default_class(models), visible=values["what"] == CLASS
        )
        update[self.group] = gr.update(visible=values["what"] == LAYER)
        update[self.expression] = gr.update(value=values["expression"], visible=values["what"] == EXPRESSION)
        takes = KINDS[values["kind"]][1]
        for name, number in self.numbers.items():
            update[number] = gr.update(value=values[name], visible=name in takes)
        update[self.kind] = gr.update(choices=[(text, kind) for kind, (text, _) in KINDS.items()], value=values["kind"])
        return update

    def find_layers(self, what: str, models: list[str], layer: str | None) -> Iterator[dict]:
        """Load the first model if its layers are asked for, and list them. That is quick, so it waits for nobody's turn."""
        names = [name.strip() for name in models or [] if name.strip()]
        if what != LAYER or not names:
            return
        try:
            yield {self.told: markup.status(f"Loading {names[0]} to list its layers …")}
            model = aside(get_model, names[0])
            layers = describe_layers(model)
            chosen = layer if layer in layers else first_layer(model, layers)
            yield {
                self.told: markup.status(f"{names[0]} has {len(layers)} layers to choose from."), self.layers: layers,
                self.layer: gr.update(choices=layer_choices(layers), value=chosen),
            }  # fmt: skip
        except Exception as error:
            yield {
                self.told: markup.status(sentence(error), error=True), self.layers: {},
                self.layer: gr.update(choices=[], value=None),
            }  # fmt: skip

    def _kinds(self, values: Mapping[Any, Any]) -> dict:
        """The kinds that the layer has, and the numbers that the kind takes, with their ranges."""
        sizes, kind = values[self.layers].get(values[self.layer] or ""), values[self.kind]
        kinds = kinds_of(sizes) if sizes else list(KINDS)
        chosen = kind if kind in kinds else kinds[0]
        update = {self.kind: gr.update(choices=[(KINDS[k][0], k) for k in kinds], value=chosen)}
        for name, number in self.numbers.items():
            last = f"0 to {sizes[name] - 1}" if sizes and sizes[name] else ""
            update[number] = gr.update(visible=name in KINDS[chosen][1], info=last)
        return update


def _shown(what: str) -> list[dict]:
    """Of the class, the layer and the expression, the one that says what is chosen."""
    return [gr.update(visible=what == kind) for kind in (CLASS, LAYER, EXPRESSION)]


def _classes(models: list[str], value: Any) -> dict:
    """The models' classes; what is chosen stays if they have it."""
    choices = controls.class_choices(models or [])
    kept = value in [v for _, v in choices] or str(value).isdecimal()
    return gr.update(choices=choices, value=value if kept else default_class(models or []))
