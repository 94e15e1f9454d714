"""What is searched: a set and how many of its pictures, or the visitor's own picture and its class; and the models."""

from collections.abc import Mapping

import gradio as gr

from lsd.evaluation.labelled import DEMO_SETS, available_sets
from lsd.ui.mistakes.request import (
    DEFAULT_NUMBER,
    LEAST,
    MOST,
    YOURS,
    Question,
    completed,
    demo_models,
    imagenet_models,
    shortened,
)  # fmt: skip
from lsd.ui.shared import controls
from lsd.ui.shared.address import FOLLOWING
from lsd.ui.shared.picture import UPLOADED, PictureInput


class Form:
    """The controls; built inside a `gr.Blocks`."""

    def __init__(self):
        first = completed(Question())
        self.source = gr.Dropdown(
            [*available_sets(), ("your picture", YOURS)], value=first.source, label="Labelled pictures",
            allow_custom_value=True,
            info="A set, or your picture. Or type a folder (a subfolder for each class, or files NNNN_name.jpg with ImageNet's "
            "class numbers), or hf:NAME, a data set of the Hugging Face Hub.",
        )  # fmt: skip
        # It stays on the page, since what is put there anew loses values.
        with gr.Column(visible="hidden", elem_classes="lsd-m-yours") as self.yours:
            self.picture = PictureInput(
                None, label="Your picture", height=220, elem_id="lsd-mistakes-picture", **UPLOADED
            )  # fmt: skip
            self.label = controls.class_picker(
                "It is truly", "The class that your picture shows: any of its names, or its index.", first.models,
                visible=True,
            )  # fmt: skip
        self.number = gr.Slider(
            LEAST, MOST, DEFAULT_NUMBER, step=32, label="Number of pictures",
            info="At most so many, spread evenly over the classes, and the same ones every time.",
        )  # fmt: skip
        self.models = controls.model_picker(first.models)
        with gr.Row():
            self.run = gr.Button("Find the mistakes", variant="primary", elem_id="find", min_width=200, scale=3)
            self.stop = gr.Button("Stop", variant="stop", min_width=70, scale=1)
        self.source.input(
            self._choose_set, {self.source, self.models}, [*self._parts, self.models, self.label], **FOLLOWING
        )
        self.models.input(
            lambda models: gr.update(choices=controls.class_choices(models or [])), self.models, self.label, **FOLLOWING
        )

    @property
    def _parts(self) -> list[gr.blocks.Block]:
        """Of which those of the chosen set can be used. The slider stays: one that is not there has no value."""
        return [self.yours, self.number]

    @property
    def inputs(self) -> set[gr.components.Component]:
        """What `read` and `path` need."""
        return {self.source, self.number, self.models, self.label, self.picture}

    @property
    def outputs(self) -> set[gr.blocks.Block]:
        """What `show` changes."""
        return {self.source, self.number, self.models, self.label, self.yours}

    def read(self, values: Mapping) -> Question:
        """What the controls ask for."""
        models = tuple(name.strip() for name in values[self.models] or [] if name.strip())
        source, label = str(values[self.source] or "").strip(), str(values[self.label] or "").strip()
        return shortened(Question(source, int(values[self.number]), models, label))

    def show(self, question: Question) -> dict:
        """Updates that show what is asked."""
        full = completed(question)
        choices = controls.class_choices(full.models)
        return self._fitting(full.source) | {
            self.source: full.source,
            self.number: gr.update(value=full.number, interactive=full.source != YOURS),
            self.models: list(full.models),
            self.label: gr.update(choices=choices, value=full.label or None),
        }

    def _fitting(self, source: str) -> dict:
        """Your picture has a class and no number, a set has a number."""
        own = source == YOURS
        return {self.yours: gr.update(visible=own or "hidden"), self.number: gr.update(interactive=not own)}

    def _choose_set(self, values: Mapping) -> dict:
        """The controls of a set just chosen, and models that know its classes if the chosen ones do not."""
        source, updates = values[self.source], self._fitting(values[self.source])
        if models := better_models(source, values[self.models] or []):
            updates |= {
                self.models: models, self.label: gr.update(choices=controls.class_choices(models)),
            }  # fmt: skip
        return updates


def better_models(source: str, models: list[str]) -> list[str]:
    """Models for a set where those that are chosen do not know its classes; none where they may, or nothing better is there."""
    drawn = source in DEMO_SETS
    if source == YOURS or not models or drawn == all(name.startswith("demo:") for name in models):
        return []
    return demo_models() if drawn else imagenet_models()
