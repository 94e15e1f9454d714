"""The tab's controls: few at first, all others in folded groups."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT, EFFORTS, RECIPES, Recipe, find_recipe
from lsd.ui.features import units
from lsd.ui.features.knobs import GROUPS, Knob, knob_values
from lsd.ui.features.picker import UnitPicker
from lsd.ui.features.request import DEFAULT_SEEDS, DEFAULT_STEPS, NOISE, PHOTO, Wish, steps_of
from lsd.ui.shared import controls
from lsd.ui.shared.address import QUICK
from lsd.ui.shared.limits import MAX_SEEDS, MAX_SIDE
from lsd.ui.shared.picture import UPLOADED, PictureInput, example_picker


class Controls:
    """What a visitor asks for; built inside a `gr.Blocks`.

    Attributes:
        named: every component that `request.read_wish` reads, by its name there.
        picture: the visitor's.
        run, stop: the buttons.
    """

    def __init__(self, compare: gr.State):
        models = controls.default_models()[:1]
        self.models = controls.model_picker(models, label="Models, up to three")
        self.unit = UnitPicker(models)
        self._picture()
        with gr.Row(elem_classes="lsd-f-buttons"):
            self.run = gr.Button("Visualize", variant="primary", elem_id="visualize", min_width=140, scale=3)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop-features", min_width=80, scale=1)
        with gr.Accordion("Recipe and steps", open=False):
            self._recipe()
        with gr.Accordion("Seeds, size and start", open=False):
            self._beginning()
        with gr.Accordion("Every setting of the recipe", open=False):
            gr.HTML("<div class='lsd-note'>Choosing a recipe sets them all to its values.</div>", padding=False)
            self.knobs = _knob_controls(find_recipe(DEFAULT))
        with gr.Accordion("What the network does not say", open=False):
            self.outputs = controls.outputs_picker()
            self.layouts = controls.layouts_box()
        self.named: dict[str, gr.components.Component] = {
            "models": self.models, **self.unit.named, "photo": self.picture, "recipe": self.recipe, "steps": self.steps,
            "seeds": self.seeds, "size": self.size, "start": self.start, "outputs": self.outputs, "layouts": self.layouts,
            "compare": compare, **self.knobs,
        }  # fmt: skip
        self._events()

    def _picture(self) -> None:
        # Hidden rather than not there: what another tab puts into a component that is not there can get lost.
        with gr.Group(visible="hidden") as self.picture_group:
            self.picture = PictureInput(
                None, label="Your picture", height=220, elem_id="features-picture", **UPLOADED
            )  # fmt: skip
            self.example = example_picker(self.picture)

    def _recipe(self) -> None:
        self.recipe = gr.Dropdown(
            list(RECIPES), value=DEFAULT, label="Recipe", filterable=False, info="lsd suits classes, texture suits channels.",
        )  # fmt: skip
        self.about = gr.Markdown(find_recipe(DEFAULT).about, elem_classes="lsd-note")
        self.steps = gr.Number(DEFAULT_STEPS, precision=0, label="Steps", info=_steps_info(DEFAULT))
        with gr.Row():
            self.efforts = {
                effort: gr.Button(effort.capitalize(), size="sm", min_width=60, elem_id=f"effort-{effort}")
                for effort in EFFORTS
            }

    def _beginning(self) -> None:
        self.seeds = gr.Slider(
            1, MAX_SEEDS, DEFAULT_SEEDS, step=1, label="Seeds",
            info="Pictures of the same unit from other noise: what they share belongs to the unit.",
        )  # fmt: skip
        self.size = gr.Number(
            0, precision=0, label="Size in pixels",
            info=f"Of the longer side, at most {MAX_SIDE}. 0 is the size that the model takes.",
        )  # fmt: skip
        self.start = gr.Radio(
            [(NOISE, NOISE), ("your picture (DeepDream)", PHOTO)], value=NOISE, label="Start from",
            info="From noise, everything in the picture came from the network.",
        )  # fmt: skip

    def _events(self) -> None:
        self.unit.connect(self.models)
        self.recipe.input(self.show_recipe, self.recipe, [self.about, self.steps, *self.knobs.values()], **QUICK)
        for effort, button in self.efforts.items():
            button.click(lambda name, effort=effort: steps_of(name, effort), self.recipe, self.steps, **QUICK)
        asking = {self.start, *self.unit.named.values()}
        gr.on(
            [self.start.change, *(self.unit.named[name].change for name in ("what", "kind", "expression"))],
            self.show_picture, asking, self.picture_group, **QUICK,
        )  # fmt: skip

    @property
    def components(self) -> list[gr.blocks.Block]:
        """What `updates` may change."""
        return [*self.named.values(), self.about, self.unit.group, self.picture_group]

    def read(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """The controls' values by name, from an event's values by component."""
        return {name: values[component] for name, component in self.named.items()}

    def updates(self, wish: Wish) -> dict:
        """Updates that show a wish; the visitor's picture stays unless the wish has one of the page's."""
        recipe = wish.cooking.recipe()
        update = self.unit.updates(wish.unit, wish.models) | self.show_recipe(wish.cooking.base)
        update |= {
            self.models: list(wish.models), self.recipe: wish.cooking.base, self.seeds: wish.seeds,
            self.steps: gr.update(value=wish.cooking.steps, info=_steps_info(wish.cooking.base)),
            self.size: wish.cooking.size or 0, self.start: wish.start, self.outputs: wish.outputs, self.layouts: wish.layouts,
            self.named["compare"]: wish.compare, **self._knob_values(recipe),
            self.picture_group: _picture_group(wish.start, wish.unit),
        }  # fmt: skip
        return update | ({self.picture: str(wish.photo)} if wish.photo else {})

    def show_recipe(self, name: str) -> dict:
        """Updates for what belongs to the recipe of that name."""
        recipe = find_recipe(name)
        steps = gr.update(value=steps_of(name), info=_steps_info(name))
        return {self.about: recipe.about, self.steps: steps, **self._knob_values(recipe)}

    def show_picture(self, values: Mapping[Any, Any]) -> dict:
        """The place for the visitor's picture, where one is used."""
        try:
            unit = units.read({name: values[component] for name, component in self.unit.named.items()})
        except LSDError:
            unit = ""  # not chosen yet
        return _picture_group(values[self.start], unit)

    def _knob_values(self, recipe: Recipe) -> dict:
        return {self.knobs[key]: value for key, value in knob_values(recipe).items()}


def _picture_group(start: str, unit: str) -> dict:
    return gr.update(visible=True if start == PHOTO or units.needs_photo(unit) else "hidden")


def _steps_info(recipe: str) -> str:
    return f"A draft takes {steps_of(recipe)}; the recipe's own number is {find_recipe(recipe).steps}."


def _knob_controls(recipe: Recipe) -> dict[str, gr.components.Component]:
    """A control for every knob, by its key, group by group, at the recipe's values."""
    values, made = knob_values(recipe), {}
    for title, group in GROUPS.items():
        gr.Markdown(f"**{title}**")
        with gr.Row(elem_classes="lsd-f-knobs"):
            made |= {knob.key: _knob_control(knob, values[knob.key]) for knob in group}
    return made


def _knob_control(knob: Knob, value: Any) -> gr.components.Component:
    shared = {"label": knob.name, "info": knob.info, "interactive": True, "min_width": 130}
    if isinstance(knob.kind, tuple):
        return gr.Dropdown([(c.replace("_", "-"), c) for c in knob.kind], value=value, filterable=False, **shared)
    if knob.kind == "check":
        return gr.Checkbox(value, **shared)
    if knob.kind in ("text", "json"):
        return gr.Textbox(value, max_lines=1, **shared)
    return gr.Number(value, precision=0 if knob.kind == "whole" else None, **shared)
