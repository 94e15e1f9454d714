"""What programs call, by `gradio_client`, HTTP or MCP: `predict`, `saliency`, `attention`, `feature` and `reasons`, with types.

Each is a job like those of the page: it waits in the same line, and ends when its caller has gone. Until its answer is there,
it yields how far it is, which `gradio_client`'s `predict` passes over.
"""

import functools
import io
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import get_args, get_type_hints

import gradio as gr
import numpy as np
import torch
from gradio import FileData
from PIL import Image
from pydantic import ConfigDict, ValidationError, validate_call

from lsd import labels
from lsd.errors import LSDError, UndefinedError
from lsd.features.ascent import ascend
from lsd.features.judge import classify
from lsd.features.recipes import DEFAULT, find_recipe
from lsd.features.units import other_models, resolve, title
from lsd.models import ImageModel, get_model
from lsd.provenance import png
from lsd.reasons.bundle import result
from lsd.reasons.sheet import sheet
from lsd.reference import Reference
from lsd.saliency import bundle, defaults
from lsd.saliency.explain import to_input
from lsd.saliency.heads import parse_place
from lsd.saliency.heads import sheet as heads_sheet
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import find_method
from lsd.saliency.question import question
from lsd.saliency.views import Look, overlays
from lsd.ui.api import inputs
from lsd.ui.api.mcp import mend
from lsd.ui.api.reasons import told
from lsd.ui.shared import attended, gpu, unit_pictures, visitors
from lsd.ui.shared.answers import cost, explained, other_picture, steadied, steady_cost
from lsd.ui.shared.controls import default_models
from lsd.ui.shared.job import Progress
from lsd.ui.shared.jobs import about, aside, follow, sentence, turn
from lsd.ui.shared.limits import MAX_PROGRAM_STEPS, check_others, check_settings
from lsd.ui.shared.line import Waiting
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.reason_answer import answer_of
from lsd.ui.shared.reasoned import FILLS, ZERO, Question, decision, reasoned, without
from lsd.ui.shared.reasoned import cost as reasons_cost
from lsd.ui.shared.room import room_for_ascents, room_for_passes
from lsd.ui.shared.scratch import brief_folder
from lsd.view import View

FIRST_MODEL = default_models()[0]  # what is explained and visualized unless another is asked for


def predict(image: str, model: str = FIRST_MODEL, top: int = 5, outputs: str = "") -> dict:
    """The most probable classes of a picture.

    Args:
        image: a PNG, JPEG or WebP in base64 (a data URL will do), or "example:NAME" for one of the page's examples.
        model: any timm name, hf-hub:owner/repository or demo:NAME; by default the one that the page starts with,
            which is there without a download.
        top: how many classes.
        outputs: what the network's outputs are, where it does not say so itself: "classes", one class of several,
            "sigmoid", each a question of its own, or "embedding", a vector; "" for what their number says.

    Returns:
        {"model", "names_assumed", "top": [{"index", "name", "probability"}, …]}, the most probable first. Names are assumed
        where nothing but their number says that they are the network's own.
    """
    network = inputs.network(model, outputs)
    picture, _ = inputs.picture(image)
    with turn(), room_for_passes("This prediction", [network], 1):
        probabilities = gpu.call(_probabilities, network, picture)
    if not probabilities.isfinite().all():
        raise UndefinedError(f"{network.name} gave probabilities that are not finite.")
    values, order = probabilities.topk(min(max(top, 1), max(network.num_classes, 1)))
    return {
        "model": network.name,
        "names_assumed": network.names_assumed,
        "top": _top(network.class_names, order.tolist(), values.tolist()),
    }


def saliency(
    image: str,
    model: str = FIRST_MODEL,
    method: str = defaults.METHOD,
    target: str = "top1",
    against: str = "",
    settings: dict | None = None,
    like: str = "",
    outputs: str = "",
    layouts: dict | None = None,
    view: str = "evaluated",
    group: str = "",
    within: str = "",
    classes: int = 0,
    both_ways: bool = False,
    steady: bool = False,
) -> tuple[dict, FileData, FileData]:
    """Which pixels moved the output.

    Args:
        image: as for `predict`.
        model: as for `predict`.
        method: "depth_fusion", "gradient", "smoothgrad", "grad_cam", …: the names of `python -m lsd saliency
            --list-methods`.
        target: class index or name, or "top1", "top2" for the model's own choices; its log-odds are explained.
        against: a second class for a contrast, or "".
        settings: of the method, such as {"samples": 16}.
        like: another picture, as `image`: what is explained is then how alike the two are to the model, and no class.
        outputs: as for `predict`.
        layouts: how layers' outputs are laid out, where no places or wrong ones are found, such as {"blocks.3":
            "tokens:1"}: nchw, nhwc, tokens, tokens:1 or tokens:1:14x14.
        view: what of the picture the model is shown: "evaluated", resized and cropped as it is evaluated, "squashed", all
            of it, its aspect not kept, "padded", all of it, with the model's mean around it, or "LEFT,TOP,SIDE", a square of
            it in pixels.
        group: why a dog (bird, vehicle, …) at all: the log-odds of that group of ImageNet's classes.
        within: why `target` rather than the others of this group, such as "dog".
        classes: 2 to 5 for the model's first choices, each with a map of its own; 0 for one target.
        both_ways: of `like`, the other picture is explained too.
        steady: also measure how far each map moves when its picture is moved by a few pixels or gets a little grainy; takes
            as long as four more maps.

    Returns:
        {"model", "names_assumed", "method", "settings", "target", "score", "top", "view", "crop_box", "steadiness", "maps"}, as
        for `predict`; steadiness is null where it is not asked for or one of several maps is zero everywhere, else {"value",
        "shift", "noise", "passes"}: rank correlations, of which 1 is a map that stays where it is. And the picture with the map
        over it (PNG); and the map's values (.npy), float32 (1, C, h, w) over what the model saw, which `crop_box` tells in the
        picture's pixels. Of several maps, all are in one picture and in one array (K, C, h, w), and "maps" has the "target",
        "score", "view", "crop_box" and "steadiness" of each.
    """
    chosen, seen = find_method(method), View.parse(view)
    about(method=chosen.name)
    other, digest = inputs.picture(like) if like else (None, "")
    spec = question(
        target=target, against=against or None, group=group or None, within=within or None, classes=classes or None,
        like=Reference(digest, other, "reference") if like else None, both_ways=both_ways,
    )  # fmt: skip
    picture, sha256 = inputs.picture(image)
    network = inputs.network(model, outputs, layouts)
    settings = chosen.parse(settings or {})
    check_settings(settings)
    with turn(cost(network.name, method, settings, spec)):
        explanations = explained(network, picture, sha256, spec, method, settings, seen)
    steadinesses = [None] * len(explanations)
    if steady:
        with turn(steady_cost(network.name, method, settings, spec)):
            steadinesses = steadied(network, picture, sha256, spec, explanations, settings)
    maps, look = MapSettings(sign=chosen.sign), Look()
    if len(explanations) == 1:
        (shown,) = overlays(picture, explanations, maps, look)
    else:
        shown = bundle.sheet(picture, explanations, maps, look, other_picture(spec))
    a = explanations[0].attribution
    each = [
        {
            "target": one.attribution.target.to_dict(),
            "score": one.attribution.scores[0].item(),
            "view": str(one.view),
            "crop_box": list(one.box),
            "steadiness": found and found.to_dict(),
        }
        for one, found in zip(explanations, steadinesses, strict=True)
    ]
    answer = {
        "model": network.name,
        "names_assumed": network.names_assumed,
        "method": method,
        "settings": a.settings,
        "top": [{"index": i, "name": name, "probability": p} for i, name, p in explanations[0].top],
        **each[0],
        "maps": each,
    }
    values = io.BytesIO()
    np.save(values, torch.cat([one.attribution.values for one in explanations]).cpu().numpy())
    return answer, _File("overlay.png", png(shown)), _File("values.npy", values.getvalue())


def attention(
    image: str,
    model: str,
    layer: str = "",
    place: str = "",
    outputs: str = "",
    layouts: dict | None = None,
    view: str = "evaluated",
) -> tuple[dict, FileData, FileData]:
    """Where each head of a transformer's attention layer looks. It is no attribution: a head may look where nothing of the answer
    comes from.

    Args:
        image: as for `predict`.
        model: a transformer whose attention can be read, such as ViT, DeiT, BEiT or EVA; others are refused with the reason.
        layer: name of the attention layer, such as "blocks.3.attn"; "" for the last.
        place: "ROW,COLUMN" of the place that looks, counted from 0; "" for the tokens that the output is made of.
        outputs: as for `predict`.
        layouts: as for `saliency`.
        view: as for `saliency`.

    Returns:
        {"model", "names_assumed", "layer", "layers", "place", "heads", "places", "on_places", "spread", "view", "crop_box"}: all
        attention layers, how many heads and how many rows and columns of places there are; of each head, how much of its attention
        is on the picture and over about how many places that lies. And a sheet with each head's map (PNG); and the weights (.npy),
        float32 (heads, h, w).
    """
    seen, start = View.parse(view), parse_place(place)
    picture, sha256 = inputs.picture(image)
    network = inputs.network(model, outputs, layouts)
    with turn(attended.cost(network.name)):
        found = attended.attended(network, picture, sha256, layer, start, seen)
    about(network.name, method=found.layer)
    answer = {"model": network.name, "names_assumed": network.names_assumed} | found.to_dict()
    values = io.BytesIO()
    np.save(values, found.weights.numpy())
    return answer, _File("heads.png", png(heads_sheet(picture, found))), _File("attention.npy", values.getvalue())


def feature(
    model: str = FIRST_MODEL,
    unit: str = "class/0",
    recipe: str = DEFAULT,
    steps: int = 64,
    seed: int = 0,
    outputs: str = "",
    layouts: dict | None = None,
) -> tuple[dict, FileData]:
    """The picture that a unit responds to most, by gradient ascent from noise.

    Args:
        model: as for `predict`.
        unit: "class/207", "class/tabby", "layer3/channel/12", "blocks.5.attn/head/2", …, and their sums.
        recipe: one of those of `python -m lsd features --list-recipes`.
        steps: at most 512.
        seed: of the noise.
        outputs: as for `predict`.
        layouts: as for `saliency`.

    Returns:
        {"model", "names_assumed", "unit", "title", "recipe", "recipe_hash", "seed", "steps", "score", "status", "notes",
        "top"}: `status` is "ok", "dead" where no gradient reaches the picture, or "failed"; `notes` are sentences on why, and on
        what of the recipe came to nothing; the rest is as for `predict`. And the picture (PNG).
    """
    if not 1 <= steps <= MAX_PROGRAM_STEPS:
        raise LSDError(
            f"steps lies between 1 and {MAX_PROGRAM_STEPS} here, and is {steps}; the command line goes further."
        )
    network = inputs.network(model, outputs, layouts)
    chosen = replace(find_recipe(recipe), steps=steps)
    about(method=chosen.name)
    wanted = resolve(unit, network)
    others = other_models([wanted], network.name)
    check_others(others)
    loaded = [aside(get_model, name) for name in others]
    work = Cost(("feature", network.name, chosen.name), chosen.steps)
    with turn(work), room_for_ascents([([network, *loaded], chosen, 1)]), measured(work):
        for snapshot in gpu.steps(ascend, network, [wanted], chosen, [seed], others=loaded):
            pictures = snapshot.finished
        top = gpu.call(classify, [pictures[0].pixels], network)[0].top if network.num_classes else ()
    answer = {
        "model": network.name,
        "names_assumed": network.names_assumed,
        "unit": str(wanted),
        "title": title(wanted, network),
        "recipe": chosen.to_dict(),
        "recipe_hash": chosen.hash,
        "seed": seed,
        "steps": len(pictures[0].trace),
        "score": pictures[0].score if math.isfinite(pictures[0].score) else None,
        "status": pictures[0].status,
        "notes": list(pictures[0].notes),
        "top": [{"index": i, "name": name, "probability": p} for i, name, p in top],
    }
    return answer, _File("feature.png", png(Image.fromarray(pictures[0].pixels)))


def reasons(
    image: str,
    model: str = FIRST_MODEL,
    target: str = "top1",
    against: str = "",
    layer: str = "",
    fill: str = ZERO,
    draw: bool = False,
    outputs: str = "",
    layouts: dict | None = None,
    off: list[str] | None = None,
    region: list[float] | None = None,
) -> tuple[dict, FileData]:
    """Why a network says a class rather than another: the few channels and groups of channels that speak most for it, what it
    says without each, and how few of them change its answer when they are switched off.

    Args:
        image: as for `predict`.
        model: as for `predict`.
        target: class index or name, or "top1", "top2" for the model's own choices.
        against: the class it is held against; "" for the one that comes first beside it, "all others" for the log-odds.
        layer: whose channels the reasons are; "" for the usual one.
        fill: what takes the place of what is off: "zero", or "mean", its mean over the page's examples.
        draw: make the pictures of units that are not there yet; takes longer.
        outputs: as for `predict`.
        layouts: as for `saliency`.
        off: what is switched off all at once: the `name` of groups and channels that an answer told ("g1"), or any channel's
            number ("12").
        region: [left, top, right, bottom], as parts of the picture, outside of which nothing is off.

    Returns:
        {"model", "names_assumed", "target", "decision", "sentence", "layer", "score", "explained", "fill", "groups",
        "channels", "against", "flips", "switched"}: of each group and channel its unit (as `feature` takes it), its share in
        nats and as a part of all that speaks for the target, what the model says without it alone, and the other classes that
        it raises and lowers; `flips` says how many of the first groups and channels together change the answer (null if all do
        not), and in how many draws as many channels at random do; `switched` is what it says without all that is `off`, and in
        how many draws as much of channels at random changes its answer (null if nothing is off). And a sheet: what each looks
        like, and where it lies (PNG).
    """
    if fill not in FILLS:
        raise LSDError(f"fill is {' or '.join(FILLS)}, not “{fill[:60]}”.")
    where = inputs.region(region, off)
    picture, sha256 = inputs.picture(image)
    network = inputs.network(model, outputs, layouts)
    question = Question(sha256, decision(target, against), layer, fill)
    with turn(reasons_cost(network.name, question)):
        account = reasoned(network, picture, question)
        names = inputs.off(off, account)
        switching = without(network, picture, question, account, names, where) if names else None
    about(network.name, method=account.reasons.layer)
    units = [thing.reason.unit for thing in (*account.groups, *account.channels)]
    there = {*unit_pictures.kept(network, units), *unit_pictures.in_gallery(network, units)}
    missing = [unit for unit in units if unit not in there] if draw else []
    for some in (missing[i : i + unit_pictures.AT_ONCE] for i in range(0, len(missing), unit_pictures.AT_ONCE)):
        with turn(unit_pictures.cost(network, some)):
            for _ in unit_pictures.draw(network, some):
                pass  # they are kept
    answer = {"model": network.name, "names_assumed": network.names_assumed} | told(account, switching)
    found = answer_of(account, network, picture)
    return answer, _File("reasons.png", png(sheet(found, result(found, "numbers"))))


def register() -> None:
    """Offer all of them; called inside a `gr.Blocks`. How many run at a time is `lsd.ui.shared.jobs`' business, not Gradio's."""
    mend()
    for function in (predict, saliency, attention, feature, reasons):
        gr.api(_endpoint(function), api_name=function.__name__, concurrency_limit=None)


@dataclass(frozen=True)
class _File:
    """What goes out as a file, which clients fetch, and which MCP hands on as a picture."""

    name: str
    content: bytes


def _endpoint(function: Callable) -> Callable[..., AsyncIterator]:
    """A function as a job, which yields {"waiting": …} or {"done": …, "total": …} until it has its answer."""
    files = len(get_args(get_type_hints(function)["return"])[1:])  # that come after the answer itself
    checked = validate_call(function, config=ConfigDict(coerce_numbers_to_str=True))  # a class's index is a text, too

    @functools.wraps(function)
    async def endpoint(*values, **named):
        def work() -> Iterator[dict]:
            try:
                yield checked(*values, **named)
            except ValidationError as error:
                raise LSDError(_misfit(function, error)) from error

        visitors.count_request()
        async for news in follow(work, f"/{function.__name__}", owner=visitors.of_program()):
            match news:
                case Waiting(before, seconds):
                    said = {"waiting": before, "seconds": seconds}
                case Progress(_, done, total, seconds):
                    said = {"done": done, "total": total, "seconds": seconds}
                case None:
                    said = {}
                case (answer, *made):
                    with _delivered(made) as files_made:
                        yield answer, *files_made
                    continue
                case answer:
                    said = answer
            yield (said, *[None] * files) if files else said

    return endpoint


def _misfit(function: Callable, error: ValidationError) -> str:
    """The first of the values that are not of their types, in a sentence."""
    first = error.errors()[0]
    place, *_ = first["loc"]
    name = list(signature(function).parameters)[place] if isinstance(place, int) else place
    return f"{name} cannot be taken: {first['msg'][0].lower()}{first['msg'][1:]}."


@contextmanager
def _delivered(made: Sequence[_File]) -> Iterator[list[FileData]]:
    """The files on the disk, within the block: Gradio copies what it is given."""
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(brief_folder()))
            for file in made:
                (folder / file.name).write_bytes(file.content)
        except OSError as error:
            raise gr.Error(sentence(error), print_exception=False) from error
        yield [FileData(path=str(folder / file.name), orig_name=file.name) for file in made]


def _probabilities(network: ImageModel, picture: Image.Image) -> torch.Tensor:
    return network.probabilities(to_input(network, picture))[0]


def _top(names, order, probabilities) -> list[dict]:
    return [
        {"index": int(i), "name": labels.short(names[i]), "probability": float(p)}
        for i, p in zip(order, probabilities, strict=True)
    ]
