"""The Mistakes tab: where models are wrong on labelled pictures, the maps of a mistake, and whether to believe them."""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr

from lsd import render
from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.labelled import DEMO_SETS, PHOTO_SET, LabelledSet, available_sets, open_set, true_indices
from lsd.evaluation.mistakes import SORTS, ScanResult, scan
from lsd.images import fit_within
from lsd.models import ImageModel, get_model
from lsd.saliency import defaults
from lsd.saliency.methods import METHODS
from lsd.ui.mistakes import texts as texts
from lsd.ui.mistakes import views
from lsd.ui.mistakes.probe import ProbePart
from lsd.ui.mistakes.views import ALL, MAPS, PAGE, Case, Choice, Filters, Search
from lsd.ui.shared import controls, markup
from lsd.ui.shared.jobs import aside, doing, sentence, turn
from lsd.ui.shared.limits import MAX_MODELS
from lsd.ui.shared.long_event import LONG, long_event
from lsd.ui.shared.pace import Cost, measured
from lsd.weights import ready_models

DRAWN_SET = "demo:misleading-tags"
DEFAULT_LIMIT = 160  # ten of each class of the demo set

_PUBLIC_SET = re.compile(r"hf:\w[\w.-]*(/\w[\w.-]*)?(@[\w.-]+)?")
_SCALES = [("each model by itself", "model"), ("all models together", "all"), ("rank", "rank")]
_STYLES = [("heat map", "heatmap"), ("mask", "mask"), ("map alone", "map")]
_STARTS = {PHOTO_SET: "Photos that networks get wrong", DRAWN_SET: "Drawn pictures with a lying tag"}
# In the queue, since outside it the page is not told that a state has changed.
_ASKING = {"api_visibility": "private", "show_progress": "hidden"}
_NUMBERS = itertools.count(1)
_SHOW_WHY = "() => document.querySelector('#why').scrollIntoView({behavior: 'smooth'})"


def demo_models() -> list[str]:
    """The demo models that are there, the one that reads the corner tag first."""
    wanted = ("demo:shortcut", "demo:resnet", "demo:vit", "demo:convnext")
    return [name for name in wanted if name in ready_models()]


def imagenet_models() -> list[str]:
    """The default models if they are ImageNet's, which takes two that are ready; else none."""
    return [name for name in controls.default_models() if not name.startswith("demo:")]


def worked_cases() -> dict[str, list[str]]:
    """Set → models whose mistakes in it can be shown at once; what the tab opens with comes first."""
    models = imagenet_models()
    photos = {PHOTO_SET: models} if models and PHOTO_SET in available_sets() else {}
    return photos | {DRAWN_SET: demo_models()}


def open_public(source: str | None, limit: int) -> LabelledSet:
    """`open_set`, but on a public Space visitors' names must not reach into the machine's own folders.

    Raises:
        LSDError: one sentence: nothing chosen, not allowed here, or what `open_set` says.
    """
    source = (source or "").strip()
    if not source:
        raise LSDError("No pictures are chosen: pick a set, or type a folder or hf:NAME.")
    if os.environ.get("SPACE_ID") and source not in available_sets():
        name = source.removeprefix("hf:")
        if not _PUBLIC_SET.fullmatch(source) or Path(name).exists() or Path(name.partition("@")[0]).exists():
            raise LSDError(
                "Folders of this machine cannot be opened from the page; pick a listed set, or type hf:NAME."
            )
    return open_set(source, limit=int(limit))


@dataclass
class Scan:
    """A scan under way.

    Attributes:
        troubles: why some models take no part.
        result: of the pictures so far; None before the first.
    """

    pictures: LabelledSet
    source: str
    troubles: list[str]
    result: ScanResult | None = None


class Row:
    """One model's place among the maps of a mistake."""

    def __init__(self):
        with gr.Row(visible=False, elem_classes="lsd-reading") as self.row:
            with gr.Column(scale=3, min_width=170):
                self.head = gr.HTML()
            self.captions, self.images = [], []
            for _ in MAPS:
                with gr.Column(scale=4, min_width=170):
                    self.captions.append(gr.HTML())
                    self.images.append(
                        gr.Image(format="jpeg", interactive=False, show_label=False, buttons=["download", "fullscreen"])
                    )

    @property
    def components(self) -> list[gr.blocks.Block]:
        return [self.row, self.head, *self.captions, *self.images]


class MistakesTab:
    """The tab's components and events; built inside a `gr.Blocks`."""

    def __init__(self):
        self.search, self.choice, self.page = gr.State(None), gr.State(None), gr.State(0)
        self.scanning = gr.State(None)  # what a scan under way has found so far
        self.asked = gr.State(None)  # another number every time that mistakes are asked for
        self.cases = worked_cases()
        gr.HTML(texts.INTRO)
        with gr.Row():
            self.starts = {
                source: gr.Button(_STARTS[source], size="sm", min_width=230, scale=0) for source in self.cases
            }
        with gr.Row():
            with gr.Column(scale=4, min_width=340):
                self._inputs()
            with gr.Column(scale=9, min_width=600):
                self.status = gr.HTML(
                    markup.status("Choose labelled pictures and models, and press Find the mistakes.")
                )
                self.story = gr.HTML()
                self.accuracy = gr.HTML()
                self._browser()
        with gr.Column(visible=False, elem_id="why") as self.details:
            self._details()
        with gr.Column(visible=False) as self.prober:
            self.probe = ProbePart()
        self._events()

    def _inputs(self) -> None:
        first = next(iter(self.cases))
        self.source = gr.Dropdown(
            available_sets(), value=first, label="Labelled pictures", allow_custom_value=True,
            info="example-photos are a few, for ImageNet models. The demo sets are drawn, and what a model should look at is known "
            "there. Or type a folder (a subfolder for each class, or files NNNN_name.jpg with ImageNet's class numbers), "
            "or hf:NAME for a data set of the Hugging Face Hub.",
        )  # fmt: skip
        self.limit = gr.Slider(
            32, 1024, DEFAULT_LIMIT, step=32, label="At most so many pictures",
            info="Spread evenly over the classes, and the same ones every time. Few go fast; the intervals of the "
            "accuracies show whether they are enough.",
        )  # fmt: skip
        self.models = controls.model_picker(self.cases[first])
        with gr.Row():
            self.run = gr.Button("Find the mistakes", variant="primary", elem_id="find")
            self.stop = gr.Button("Stop", variant="stop")

    def _browser(self) -> None:
        with gr.Column(visible=False) as self.browser:
            with gr.Row():
                self.by_model = gr.Dropdown([("all", ALL)], value=ALL, label="Model", min_width=130)
                self.by_true = gr.Dropdown([("all", ALL)], value=ALL, label="Truly", min_width=130)
                self.by_predicted = gr.Dropdown([("all", ALL)], value=ALL, label="Said to be", min_width=130)
                self.by_count = gr.Dropdown([("all", "all")], value="all", label="Wrong by", min_width=130)
                self.sort = gr.Dropdown(list(SORTS), value="confidence", label="Sort by", min_width=130)
            self.filters = [self.by_model, self.by_true, self.by_predicted, self.by_count, self.sort]
            gr.HTML("<div class='lsd-note'>One is explained below. Choose another to see why.</div>")
            self.gallery = gr.Gallery(
                show_label=False, columns=6, height="max-content", allow_preview=False, object_fit="contain",
                interactive=False, buttons=[], elem_classes="lsd-mistakes",
            )  # fmt: skip
            with gr.Row(elem_classes="lsd-pager"):
                self.previous = gr.Button("‹ Previous", size="sm", min_width=90)
                self.where = gr.HTML()
                self.next = gr.Button("Next ›", size="sm", min_width=90)

    def _details(self) -> None:
        self.title = gr.HTML()
        self.progress = gr.HTML()
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                self.picture = gr.Image(
                    format="jpeg", interactive=False, show_label=False, buttons=["fullscreen"], height=320
                )
                self.about = gr.HTML()
                self.method = controls.method_picker(captum=False)
                self.what = gr.Markdown(controls.describe_method(METHODS[defaults.METHOD]))
                self.scale = gr.Radio(
                    _SCALES, value="model", label="One scale for",
                    info="The raw strengths of two networks mean different things, so by default only the maps within a "
                    "row share a scale. rank compares where models look, whatever their strength.",
                )  # fmt: skip
                self.style = gr.Radio(
                    _STYLES, value="heatmap", label="Overlay",
                    info="The contrast lies on a grey picture, so that its red and blue are not the picture's.",
                )  # fmt: skip
            with gr.Column(scale=9, min_width=600):
                self.legend = gr.HTML()
                self.rows = [Row() for _ in range(MAX_MODELS)]
                with gr.Row():
                    for signed, words in (
                        (False, ("0", "strongest on this scale")),
                        (True, ("for the true class", "0", "for the wrong class")),
                    ):
                        gr.Image(
                            render.color_bar(signed, labels=words), interactive=False, show_label=False, container=False,
                            height=44, width=320, buttons=[], format="png", alt_text="Colour bar: " + ", ".join(words),
                        )  # fmt: skip

    def _events(self) -> None:
        quick = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
        browser = [*self.filters, self.page, self.gallery, self.where]
        seen = [self.title, self.picture, self.about, self.legend, *(c for r in self.rows for c in r.components)]

        # Whoever asks changes the number, which starts the search: the same one by a button and by the tab's first opening.
        shown = [
            self.search, self.scanning, self.choice, self.status, self.accuracy, self.story, self.browser, self.details,
            self.prober, *browser,
        ]  # fmt: skip
        found = self.asked.change(
            long_event(self._scan, self.status), [self.source, self.limit, self.models], shown, trigger_mode="multiple",
            **LONG,
        )  # fmt: skip
        explain = {
            "fn": long_event(self._explain, self.progress, unless=_is_past),
            "inputs": [self.search, self.choice, self.method, self.scale, self.style],
            "outputs": [self.progress, self.details, self.prober, self.probe.model, *seen],
        }  # fmt: skip
        probe_first = {
            "fn": long_event(self._probe_first, self.probe.verdict, unless=_is_past),
            "inputs": [self.search, self.choice, *self.probe.inputs], "outputs": self.probe.outputs,
        }  # fmt: skip
        probe = {"inputs": [self.search, *self.probe.inputs], "outputs": self.probe.outputs}
        picked = self.gallery.select(self._pick, [self.search, self.page, *self.filters], self.choice, **quick)
        again = self.method.input(_choose_again, [self.search, self.method], [self.choice, self.what], **quick)
        running = [found]
        for chosen in (found, picked, again):
            explained = chosen.then(**explain, **LONG)
            if chosen is picked:
                explained.then(None, None, None, js=_SHOW_WHY)
            running.append(explained.then(**probe_first, **LONG))
        # Explaining is not cancelled but ends by itself, since Gradio goes on with what comes after a cancelled event.
        self.stop.click(self._stop, [self.search, self.scanning], shown, cancels=running, **quick)
        # What a click sets off goes one after the other: what still runs is cancelled before the new search begins.
        buttons = [self.run, *self.starts.values()]
        gr.on([b.click for b in buttons], None, None, None, cancels=running, api_visibility="private")
        self.run.click(_ask, self.search, self.asked, **_ASKING)
        for source, button in self.starts.items():
            button.click(
                lambda search, source=source: [_ask(search), source, self.cases[source]],
                self.search, [self.asked, self.source, self.models], **_ASKING,
            )  # fmt: skip

        self.source.input(_suggest_models, [self.source, self.models], self.models, **quick)
        for event in (c.input for c in self.filters):
            event(lambda search, *f: self._browse(search, 0, *f), [self.search, *self.filters], browser, **quick)
        for button, step in ((self.previous, -1), (self.next, 1)):
            button.click(
                lambda search, page, *f, step=step: self._browse(search, page + step, *f),
                [self.search, self.page, *self.filters], browser, **quick,
            )  # fmt: skip
        gr.on(
            [self.scale.input, self.style.input], self._draw, [self.search, self.scale, self.style], seen, **quick,
        )  # fmt: skip
        ask = long_event(self.probe.ask, self.probe.verdict)
        gr.on(self.probe.changes, ask, **probe, trigger_mode="always_last", **LONG)
        # The slider waits for nobody: the pictures are there at once, and what the model says of them when it is free.
        looked = self.probe.share.change(self.probe.look, **probe, **quick)
        looked.then(ask, **probe, trigger_mode="multiple", **LONG)

    def restore(self, tab: gr.Tab) -> None:
        """Find mistakes when the tab is first opened.

        Args:
            tab: this one, in whose context this must not be called.
        """
        tab.select(lambda asked: asked or _ask(None), self.asked, self.asked, **_ASKING)

    def _scan(self, source, limit, names) -> Iterator[dict]:
        """The long event: every picture through every model, then the first page of mistakes. A model that cannot take part
        leaves the others, and what was found before a failure is shown."""
        so_far = None
        try:
            names = controls.checked_models(names)
            yield {
                self.status: markup.status(f"Opening {source} and loading {', '.join(names)} …"),
                self.scanning: None,
            }
            pictures = aside(open_public, source, limit)
            models, troubles = _classifiers(names, pictures)
            so_far = Scan(pictures, source, troubles)
            cost = Cost(("scan", *names), len(pictures))
            with turn(cost), measured(cost), closing(scan(models, pictures)) as steps:
                for step in steps:
                    so_far.result = step.result
                    text = f"{step.done} of {step.total} pictures, {len(models)} model{'s' * (len(models) > 1)} each …"
                    yield {self.status: markup.status(text, done=step.done, total=step.total), self.scanning: so_far}
            search, update = self._found(so_far)
            first = views.find(search.result, Filters())
            yield update | {self.choice: search.choose(first[0]) if first else None}
        except Exception as error:
            update = self._found(so_far)[1] | {self.choice: None} if so_far and so_far.result else {}
            yield update | {self.status: markup.status(sentence(error), error=True)}

    def _found(self, so_far: Scan) -> tuple[Search, dict]:
        """The search among what a scan has found so far, and its first page."""
        search = Search(so_far.result)
        words = [texts.summary(search.result, so_far.pictures), *so_far.troubles]
        return search, {
            self.search: search,
            self.scanning: None,
            self.status: markup.status(" ".join(words), error=bool(so_far.troubles)),
            self.accuracy: texts.accuracies(search.result),
            self.story: f'<div class="lsd-note">{texts.STORIES.get(so_far.source, "")}</div>',
            self.browser: gr.update(visible=bool(search.result.wrong.any())),
            self.details: gr.update(visible=False),
            self.prober: gr.update(visible=False),
            **self._browse(search, 0, *_values(Filters()), selected=0),
        }

    def _stop(self, search: Search | None, so_far: Scan | None) -> dict:
        """The work on a mistake ends; a scan leaves what it has found so far."""
        if search:
            search.wanted = None
        if so_far is None or so_far.result is None:
            return {self.status: markup.status("Stopped.")}
        search, update = self._found(so_far)
        text = f"Stopped after {len(search.result.items)} pictures. {texts.summary(search.result, so_far.pictures)}"
        return update | {self.choice: None, self.status: markup.status(text)}

    def _browse(self, search: Search | None, page: int, *values, selected: int | None = None) -> dict:
        """One page of the mistakes that pass the filters; the filters' own choices with their counts."""
        if search is None:
            return {self.page: 0}
        filters = Filters(*values)
        found = views.find(search.result, filters)
        pages = max(1, -(-len(found) // PAGE))
        page = min(max(page, 0), pages - 1)
        many = len(search.result.models) > 1
        shown = [
            (str(search.thumbnail(p.item)), texts.caption(p, with_model=many))
            for p in found[page * PAGE : (page + 1) * PAGE]
        ]
        counted = views.filter_choices(search.result, filters)
        updates = {
            place: gr.update(choices=choices, value=value)
            for place, choices, value in zip(self.filters[:4], counted.values(), values[:4], strict=True)
        }
        text = f"page {page + 1} of {pages} · {len(found)} mistake{'s' * (len(found) != 1)}"
        return updates | {
            self.sort: values[4],
            self.page: page,
            self.gallery: gr.update(value=shown, selected_index=selected),
            self.where: f'<div class="lsd-note" style="text-align:center">{text}</div>',
        }

    def _pick(self, search: Search | None, page: int, model, true, predicted, count, sort, event: gr.SelectData):
        if search is None:
            return gr.skip()
        found = views.find(search.result, Filters(model, true, predicted, count, sort))
        index = page * PAGE + event.index
        return search.choose(found[index]) if index < len(found) else gr.skip()

    def _explain(self, search: Search | None, choice: Choice | None, method, scale, style) -> Iterator[dict]:
        """The long event of one mistake: what every model says, and its maps, model by model."""
        if search is None or choice is None or search.wanted is not choice:
            return  # nothing chosen, or something else since
        try:
            said = search.result.prediction(choice.row, choice.column)
            picture = said.item.picture()
            small = fit_within(picture, 2 * views.CELL_SIDE)
            case = search.case = Case(choice, said, method, small, picture.size, views.masks_of(said.item))
            yield {
                self.details: gr.update(visible=True),
                self.title: texts.title(said),
                self.progress: markup.status("Explaining …"),
                self.picture: gr.update(value=views.enlarged(small), alt_text=f"The picture: {said.true_name}"),
                self.about: "",
                **{row.row: gr.update(visible=False) for row in self.rows},
            }
            # The models that are wrong first, and of them the one that was chosen.
            wrong = search.result.wrong[:, choice.column]
            order = sorted(range(len(wrong)), key=lambda k: (k != choice.row, not wrong[k], k))
            costs = {search.result.models[k]: Cost(("mistake", search.result.models[k], method), 1) for k in order}
            failures = []
            with turn(*costs.values()):
                for name, cost in costs.items():
                    doing(name)
                    try:
                        model = aside(get_model, name)
                        with measured(cost):
                            case.readings.append(views.read(model, search.result, case, picture))
                    except Exception as error:  # a method that is not defined for this model; the others may have it
                        failures.append(f"{name}: {sentence(error)}")
                    if search.wanted is not choice:
                        return
                    yield self._draw(search, scale, style)
            mistaken = [r.model for r in case.readings if r.mistaken]
            text = " ".join([texts.wrong_count(said, len(search.result.models)), *failures])
            yield {
                self.progress: markup.status(text, error=bool(failures)),
                self.prober: gr.update(visible=bool(mistaken)),
                self.probe.model: gr.update(
                    choices=[(common_name(name), name) for name in mistaken], value=mistaken[0] if mistaken else None
                ),
            }
        except Exception as error:
            yield {self.progress: markup.status(sentence(error), error=True)}

    def _probe_first(self, search: Search | None, choice: Choice | None, *values) -> Iterator[dict]:
        """The probe of a mistake just explained, unless that was given up."""
        if search and choice and search.wanted is choice:
            yield from self.probe.ask(search, *values)

    def _draw(self, search: Search | None, scale: str, style: str) -> dict:
        """All maps of the mistake anew; no model runs."""
        case = search and search.case
        if not case or not case.readings:
            return {self.legend: ""}
        shown = views.overlays(case, scale, style)
        updates = {self.legend: texts.legend(case, scale), self.about: texts.about(case)}
        for row, reading, images in zip(self.rows, case.readings, shown, strict=False):
            updates |= {row.row: gr.update(visible=True), row.head: texts.head(case, reading)}
            for place, image, name in zip(row.captions, row.images, MAPS, strict=True):
                updates[place] = texts.map_caption(case, reading, name)
                updates[image] = gr.update(value=images[name], alt_text=texts.map_alt(reading, name))
        return updates


def _classifiers(names: list[str], pictures: LabelledSet) -> tuple[list[ImageModel], list[str]]:
    """The models that can be asked about the set, and why the others cannot.

    Raises:
        LSDError: none can.
    """
    models, troubles = [], []
    for name in names:
        try:
            model = aside(get_model, name)
            true_indices(pictures, model)
            models.append(model)
        except Exception as error:
            troubles.append(sentence(error))
    if not models:
        raise LSDError(" ".join(troubles))
    return models, troubles


def _values(filters: Filters) -> list[str]:
    """In the order of the tab's filters."""
    return [filters.model, filters.true, filters.predicted, filters.wrong_by, filters.sort]


def _ask(search: Search | None) -> int:
    """A number that was not there before: two that ask at once both count. The work on a mistake of the last search ends."""
    if search:
        search.wanted = None
    return next(_NUMBERS)


def _is_past(search: Search | None, choice: Choice | None, *_) -> bool:
    """Whether another mistake was chosen since, or none."""
    return bool(search) and search.wanted is not choice


def _choose_again(search: Search | None, method: str) -> list:
    """The same mistake once more, because the method changed."""
    last = search and (search.wanted or (search.case and search.case.choice))  # after Stop it is not wanted any more
    choice = None
    if last:
        choice = search.wanted = replace(last)
    return [choice, controls.describe_method(METHODS[method])]


def _suggest_models(source: str, models: list[str]) -> list[str] | dict:
    """Models that know the classes of a set just chosen: the drawn pictures have classes of their own."""
    drawn = source in DEMO_SETS
    if not models or drawn == all(name.startswith("demo:") for name in models):
        return gr.skip()
    return (demo_models() if drawn else imagenet_models()) or gr.skip()
