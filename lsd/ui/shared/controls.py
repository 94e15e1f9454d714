"""Controls that tabs share, each with a short text on what it does and why its default is what it is."""

import functools
import os
import re
from collections.abc import Sequence

import gradio as gr
from starlette.datastructures import QueryParams

from lsd import catalogue, heads, labels
from lsd.errors import LSDError
from lsd.images import ENLARGING
from lsd.render import STYLES
from lsd.saliency import defaults
from lsd.saliency.maps import CHANNELS, SCALES, MapSettings
from lsd.saliency.methods import METHODS, Method, Setting
from lsd.saliency.views import Look
from lsd.sayings import Sayings
from lsd.ui.shared.evidence import why
from lsd.ui.shared.examples import drawn, photos
from lsd.ui.shared.limits import MAX_MODELS
from lsd.weights import HERE, locate, read_config, ready_models, scheme

AS_THE_NETWORK_SAYS = ""

FIRST_CHOICE, OWN_CLASS, CONTRAST, SIMILAR = (
    "Each model's first choice",
    "A class I choose",
    "Why this class rather than that one",
    "What makes it like another picture",
)


def default_models() -> list[str]:
    """What a fresh page starts with: up to three ready models that name the same things, pretrained ones first."""
    ready = ready_models()
    trained = [name for name in ready if not name.startswith("demo:") and len(_names_of(name)) == 1000]
    return trained[:3] if len(trained) > 1 else [name for name in ready if name.startswith("demo:")][:3]


def default_example(models: Sequence[str]) -> str:
    """A picture that these models have classes for."""
    return (drawn() if all(name.startswith("demo:") for name in models) else photos() or drawn())[0]


def model_picker(value: Sequence[str] | None = None, label: str = "Models, up to four") -> gr.Dropdown:
    """Choose from what is ready and the curated list, or type any timm name."""
    choices = []
    for entry in catalogue.offered():
        elsewhere = "" if entry.available.place == HERE else f"  ·  {entry.origin}"
        choices.append((f"{entry.title}  ·  {entry.name}{elsewhere}", entry.name))
    return gr.Dropdown(
        choices, value=list(value or default_models()), multiselect=True, max_choices=MAX_MODELS, label=label,
        allow_custom_value=True,
        info="Those that are here come first; others are fetched from the Hugging Face Hub. Any timm name can be typed, with "
        "its tag, and so can hf-hub:owner/repository.",
    )  # fmt: skip


def checked_models(models: Sequence[str] | None) -> list[str]:
    """The models that were chosen, one to `MAX_MODELS` of them, without blanks.

    Raises:
        LSDError: none, too many, or one that a visitor of a public Space must not open.
    """
    names = [name.strip() for name in models or [] if name.strip()]
    if not names:
        raise LSDError("No model is chosen: pick one to four.")
    if len(names) > MAX_MODELS:
        raise LSDError(f"{len(names)} models are chosen, and at most {MAX_MODELS} are compared at a time.")
    check_public(names)
    return names


def check_public(models: Sequence[str]) -> None:
    """On a public Space, visitors' names must not reach into the machine's own folders.

    Raises:
        LSDError: a local folder was named.
    """
    if os.environ.get("SPACE_ID") and any(scheme(name) == "local-dir" for name in models):
        raise LSDError("Folders of this machine cannot be opened from the page; give a timm name or hf-hub:owner/name.")


@functools.lru_cache(maxsize=64)
def _names_of(model: str) -> tuple[str, ...]:
    """Class names of a model without loading it: from its configuration if that is on this machine."""
    if model in ready_models():
        try:
            config = read_config(locate(model))
        except LSDError:
            return ()
        pretrained = config.get("pretrained_cfg") or {}
        known = pretrained | config
        count = known.get("num_classes", 1000)
        return () if heads.is_embedding(count, known) else labels.class_names(count, known)
    return labels.class_names(1000)


def class_choices(models: Sequence[str]) -> list[tuple[str, str]]:
    """(text, value) of every class of the models, each name once; the value is an index where a name means several classes."""
    choices: dict[str, tuple[str, str]] = {}
    for model in models:
        names = _names_of(model)
        for index, (name, alone) in enumerate(zip(names, labels.telling(names), strict=True)):
            value = name if alone else str(index)
            choices.setdefault(value, (f"{name}  ·  {index}", value))
    return list(choices.values())


def outputs_picker() -> gr.Radio:
    """What the models' outputs are, as `Said.outputs`: what their number says, unless a visitor knows better."""
    return gr.Radio(
        [
            ("as the network says", AS_THE_NETWORK_SAYS), ("one class of several", "classes"),
            ("each a question of its own", "sigmoid"), ("a vector, and no classes", "embedding"),
        ],
        value=AS_THE_NETWORK_SAYS, label="The outputs are",
        info="A network does not say whether its classes exclude each other: several are taken for one class of several. If "
        "yours answers a question with each (several may be true at once), say so.",
    )  # fmt: skip


def layouts_box() -> gr.Textbox:
    """Layers whose layout a visitor says, as `sayings` reads it."""
    return gr.Textbox(
        "", label="Layers that are laid out otherwise", placeholder="blocks.3=tokens:1", max_length=1000,
        info="If a layer is refused because no places are found in it, or drawn in the wrong places: NAME=HOW, where HOW is nchw, "
        "nhwc, tokens, tokens:1 or tokens:1:14x14; of one of several models MODEL=NAME=HOW. Several with commas between.",
    )  # fmt: skip


def sayings(outputs: str | None, layouts: str | None) -> Sayings:
    """What a visitor says with `outputs_picker` and `layouts_box`. Raises LSDError for a text that says nothing."""
    return Sayings.read([outputs] if outputs else [], re.split(r"[\s,]+", layouts.strip(", \n")) if layouts else [])


def said_in_address(query: QueryParams) -> tuple[str, str]:
    """(value of `outputs_picker`, value of `layouts_box`) that an address says; "" where it says none that there can be."""
    outputs = query.get("outputs") if query.get("outputs") in ("classes", "sigmoid", "embedding") else ""
    return outputs, ", ".join(query.getlist("layout"))[:1000]


def class_picker(label: str, info: str, models: Sequence[str], *, visible: bool) -> gr.Dropdown:
    """Search a class by any of its names, or type its index."""
    return gr.Dropdown(
        class_choices(models), value=None, label=label, info=info, allow_custom_value=True, filterable=True,
        visible=visible,
    )  # fmt: skip


def method_picker(value: str = defaults.METHOD, *, captum: bool = True) -> gr.Dropdown:
    """Choose a method; its description is shown by `describe_method`."""
    choices = [(m.title, m.name) for m in METHODS.values() if captum or not m.name.startswith("captum:")]
    info = (
        f"All were scored against the default ({why('method')}), and so was averaging over noise ({why('smoothing')})."
    )
    return gr.Dropdown(choices, value=value, label="Method", info=info, filterable=True)


def describe_method(method: Method) -> str:
    """Markdown under the method's name."""
    check = f" Checked against {METHODS[method.counterpart].source}." if method.counterpart else ""
    return f"{method.what} <span class='lsd-note'>({method.source}.{check})</span>"


def _all_settings() -> dict[str, Setting]:
    known: dict[str, Setting] = {}
    for method in METHODS.values():
        for setting in method.settings:
            known.setdefault(setting.name, setting)
    return known


_STUDIED = ("samples", "sigma")  # the settings whose defaults were compared
SETTINGS = _all_settings()  # one control a name; methods that share a name share the control


def setting_controls(method: Method) -> list[gr.components.Component]:
    """A control for every setting of every method, those of `method` visible; in the order of `SETTINGS`."""
    return [_control(setting, visible=name in {s.name for s in method.settings}) for name, setting in SETTINGS.items()]


def _control(setting: Setting, *, visible: bool) -> gr.components.Component:
    info = f"{setting.why} {why(setting.name)}" if setting.name in _STUDIED else setting.why
    shared = {"label": setting.name.replace("_", " "), "info": info, "visible": visible, "interactive": True}
    if setting.choices:
        return gr.Radio(list(setting.choices), value=setting.default, **shared)
    if isinstance(setting.default, bool):
        return gr.Checkbox(setting.default, **shared)
    if isinstance(setting.default, str):
        return gr.Textbox(setting.default, placeholder="chosen automatically", max_lines=1, **shared)
    if setting.name == "seed":
        return gr.Number(setting.default, precision=0, minimum=setting.minimum, maximum=setting.maximum, **shared)
    return gr.Slider(setting.minimum, setting.maximum, setting.default, step=setting.step, **shared)


def show_settings(name: str) -> list[dict]:
    """Updates that show just the controls of the method called `name`, at its own ranges and defaults."""
    own = {s.name: s for s in METHODS[name].settings} if name in METHODS else {}
    updates = []
    for key, known in SETTINGS.items():
        setting = own.get(key, known)
        change = {"visible": key in own}
        if key in own and setting != known:
            change |= {"value": setting.default, "minimum": setting.minimum}
        updates.append(gr.update(**change))
    return updates


def chosen_settings(method: Method, values: Sequence) -> dict:
    """The values of the controls that belong to `method`, checked.

    Raises:
        UndefinedError: a value out of range.
    """
    given = dict(zip(SETTINGS, values, strict=True))
    return method.parse({s.name: given[s.name] for s in method.settings if given[s.name] is not None})


class MapControls:
    """How a map is drawn: everything here works on values that are there already, so no model runs."""

    def __init__(self, sign: str = MapSettings.sign):
        """`sign` is what suits the method that is chosen first."""
        default, look = MapSettings(sign=sign), Look()
        with gr.Row():
            self.sign = gr.Radio(
                [("strength (abs)", "abs"), ("for", "positive"), ("against", "negative"), ("both (signed)", "signed")],
                value=default.sign, label="Sign",
                info="In photos, dark-on-light and light-on-dark are the same thing to a network, so strength is the "
                f"default for gradients; Grad-CAM shows what speaks for the class. {why('sign')}",
            )  # fmt: skip
            self.channels = gr.Radio(
                list(CHANNELS), value=default.channels, label="Colour channels become one by",
                info="sum lets them cancel; max takes the strongest (Simonyan); l2 and sum_abs look nearly the same. "
                f"Signed maps have max or sum. {why('channels')}",
            )  # fmt: skip
            self.scale = gr.Radio(
                list(SCALES), value=default.scale, label="Scale",
                info="image: each map by itself; shared: one unit for all models, whose raw scales differ; rank: by "
                "rank alone, the fair way to compare where models look.",
            )  # fmt: skip
        with gr.Row():
            self.clip = gr.Slider(
                90, 100, default.clip, step=0.1, label="Clip at percentile",
                info="What lies above is shown at full strength; a few extreme pixels would darken all others. "
                f"{why('clip')}",
            )  # fmt: skip
            self.blur = gr.Slider(
                0, 10, default.blur, step=0.5, label="Smooth, pixels",
                info="Gaussian over the finished map. One pixel takes away single specks. More looks better than it is: "
                "blurred noise looks good, too. "
                f"{why('blur')}",
            )  # fmt: skip
            self.upsampling = gr.Radio(
                list(ENLARGING), value=default.upsampling, label="Coarse maps are enlarged",
                info=f"Grad-CAM's, which have one number for many pixels. nearest shows them as they are. {why('upsampling')}",
            )  # fmt: skip
        with gr.Row():
            self.style = gr.Radio(
                [("heat map", "heatmap"), ("mask", "mask"), ("contours", "contours"), ("map alone", "map")],
                value=look.style, label="Overlay", info="mask dims what does not matter; contours want some smoothing.",
            )  # fmt: skip
            self.opacity = gr.Slider(0, 1, look.opacity, step=0.05, label="Opacity")
            self.frame = gr.Checkbox(look.frame, label="Outline the crop", info="The model sees only this part.")
        assert set(STYLES) == {value for _, value in self.style.choices}

    @property
    def components(self) -> list[gr.components.Component]:
        """In the order that `read` takes."""
        return [
            self.sign, self.channels, self.scale, self.clip, self.blur, self.upsampling, self.style, self.opacity, self.frame
        ]  # fmt: skip

    @staticmethod
    def read(values: Sequence) -> tuple[MapSettings, Look]:
        """The settings that the values stand for. Raises LSDError for a combination that is not defined."""
        sign, channels, scale, clip, blur, upsampling, style, opacity, frame = values
        maps = MapSettings(sign, channels, float(clip), float(blur), scale, upsampling)
        return maps, Look(style, float(opacity), bool(frame))
