"""Controls that tabs share, each with a short text on what it does and why its default is what it is."""

import functools
import re
from collections.abc import Sequence

import gradio as gr
from starlette.datastructures import QueryParams

from lsd import catalogue, groups, heads, labels
from lsd.errors import LSDError
from lsd.packages import PACKAGES
from lsd.saliency import defaults
from lsd.saliency.methods import METHODS, Method, Setting
from lsd.sayings import Sayings
from lsd.ui.shared.evidence import why
from lsd.ui.shared.examples import drawn, photos
from lsd.ui.shared.limits import MAX_BATCH, MAX_MODELS
from lsd.weights import HERE, locate, read_config, ready_models

AS_THE_NETWORK_SAYS = ""

FIRST_CHOICE, FIRST_CLASSES, OWN_CLASS, CONTRAST, GROUP, WITHIN, SIMILAR = TARGETS = (
    "Each model's first choice",
    "Its first choices, each in its own colour",
    "A class I choose",
    "Why this class rather than that one",
    "A group of classes: why a dog at all?",
    "A class within its group: why this dog?",
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
        LSDError: none, or too many.
    """
    names = [name.strip() for name in models or [] if name.strip()]
    if not names:
        raise LSDError("No model is chosen: pick one to four.")
    if len(names) > MAX_MODELS:
        raise LSDError(f"{len(names)} models are chosen, and at most {MAX_MODELS} are compared at a time.")
    return names


@functools.lru_cache(maxsize=64)
def _names_of(model: str) -> tuple[str, ...]:
    """Class names of a model without loading it: from its configuration if that is on this machine.

    Of packages and of the curated list all are of ImageNet-1k: that is known without timm, which takes seconds to import.
    """
    if model in ready_models() and model not in PACKAGES:
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


@functools.lru_cache(maxsize=16)
def _groups_of(model: str) -> tuple[tuple[str, str], ...]:
    synsets = groups.imagenets(_names_of(model))
    return tuple(
        (f"{group.name}  ·  {len(group.members)} classes", groups.telling(group, synsets))
        for group in groups.groups(synsets)
    )


def group_choices(models: Sequence[str]) -> list[tuple[str, str]]:
    """(text, value) of every group of the models' classes; none where they are not ImageNet's."""
    choices: dict[str, tuple[str, str]] = {}
    for model in models:
        for text, value in _groups_of(model):
            choices.setdefault(value, (text, value))
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


def kind_picker() -> gr.Radio:
    """What of the output is differentiated."""
    return gr.Radio(
        [("log-odds", "log_odds"), ("logit", "logit"), ("probability", "probability")], value=defaults.KIND, label="Output",
        info="Log-odds say what the probability says, and stay exact when the network is sure; the gradient of the "
        f"probability fades to nothing there. A logit alone can rise without the class gaining. {why('output')}",
    )  # fmt: skip


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
            if setting.name != "photos":  # files of the machine that the page runs on are nobody's to name
                known.setdefault(setting.name, setting)
    return known


_STUDIED = ("samples", "sigma")  # the settings whose defaults were compared
SETTINGS = _all_settings()  # one control a name; methods that share a name share the control


def setting_controls(method: Method) -> dict[str, gr.components.Component]:
    """A control for every setting of every method, by name, those of `method` visible."""
    own = {setting.name for setting in method.settings}
    return {name: _control(setting, visible=name in own) for name, setting in SETTINGS.items()}


def _control(setting: Setting, *, visible: bool) -> gr.components.Component:
    shared = {"label": setting.name.replace("_", " "), "info": _info(setting), "visible": visible, "interactive": True}
    if setting.choices:
        return gr.Radio(list(setting.choices), value=setting.default, **shared)
    if isinstance(setting.default, bool):
        return gr.Checkbox(setting.default, **shared)
    if isinstance(setting.default, str):
        return gr.Textbox(setting.default, placeholder="chosen automatically", max_lines=1, **shared)
    if setting.name == "seed":
        return gr.Number(setting.default, precision=0, minimum=setting.minimum, maximum=setting.maximum, **shared)
    most = min(setting.maximum, MAX_BATCH) if setting.name == "batch_size" else setting.maximum
    return gr.Slider(setting.minimum, most, setting.default, step=setting.step, **shared)


def _info(setting: Setting) -> str:
    return f"{setting.why} {why(setting.name)}" if setting.name in _STUDIED else setting.why


def show_settings(name: str) -> dict[str, dict]:
    """Updates, by name, that show just the controls of the method called `name`, at its own ranges and defaults."""
    own = {s.name: s for s in METHODS[name].settings}
    updates = {}
    for key, known in SETTINGS.items():
        setting = own.get(key, known)
        change = {"visible": key in own}
        if key in own:
            change["info"] = _info(setting)
            if setting != known:
                change |= {"value": setting.default, "minimum": setting.minimum}
        updates[key] = gr.update(**change)
    return updates
