"""The library's front door: what `import lsd` gives to who writes Python, over the rooms behind it.

Everything here is said in a few words and returns something that a notebook shows. What it does not offer (many targets in one
pass, ascents followed step by step, switching what one likes off) is in `lsd.saliency`, `lsd.features` and `lsd.reasons`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from lsd import images
from lsd.errors import ImageError, LSDError, ModelError
from lsd.features import bundle as feature_bundle
from lsd.features.ascent import ascend
from lsd.features.bundle import Request
from lsd.features.photos import held_against
from lsd.features.pictures import Picture
from lsd.features.recipes import DEFAULT, Recipe, described
from lsd.features.units import expand, other_models, title
from lsd.models import ImageModel, get_model
from lsd.progress import bar
from lsd.provenance import jpeg, png, write_files
from lsd.reasons import bundle as reason_bundle
from lsd.reasons import report as reason_report
from lsd.reasons.answer import COUNT, Answer, answer, with_missing, with_patches, with_pictures
from lsd.reasons.defaults import METHOD
from lsd.reasons.explain import Reason, Tried
from lsd.reference import Reference, open_reference, reference_of
from lsd.saliency import bundle, defaults
from lsd.saliency.attribution import Attribution
from lsd.saliency.crosscheck import CrossCheck, crosscheck_explanation
from lsd.saliency.crosscheck import crosscheck as crosscheck_inputs
from lsd.saliency.explain import (
    Explanation,
    Spec,
    TargetSpec,
    TopClasses,
    explain_each,
    explain_inputs,
)
from lsd.saliency.explain import explain as explain_picture
from lsd.saliency.maps import MapSettings, to_maps
from lsd.saliency.methods import find_method
from lsd.saliency.question import question
from lsd.saliency.several import in_colours
from lsd.saliency.steadiness import Steadiness, steadiness_of_explanation
from lsd.saliency.views import Look, overlays
from lsd.view import EVALUATED, View

PictureLike = Image.Image | np.ndarray | str | Path | bytes


@dataclass(frozen=True)
class Saliency:
    """Where in one picture an output of one model comes from. A notebook shows it as picture and map side by side.

    Attributes:
        model: that was asked.
        picture: upright RGB, as it was explained.
        explanation: what came out: the classes, the attribution and the numbers to trust it by.
        asked: what was asked of the model, and the method's settings.
        file: the picture's file; None if it came from the memory.
    """

    model: ImageModel
    picture: Image.Image = field(repr=False)
    explanation: Explanation = field(repr=False)
    asked: tuple[Spec, dict] = field(repr=False)
    file: Path | None = None

    @property
    def attribution(self) -> Attribution:
        """Values, score, passes, completeness gap and standard error; of one picture, on the CPU."""
        return self.explanation.attribution

    @property
    def values(self) -> np.ndarray:
        """Signed float array (3, H, W) over the pixels that the model saw, or (1, h, w) over a layer's places."""
        return self.attribution.values[0].numpy()

    @property
    def score(self) -> float:
        """The target at the picture: log-odds or logit in nats, a probability, or a cosine."""
        return self.attribution.scores[0].item()

    @property
    def top(self) -> tuple[tuple[int, str, float], ...]:
        """The most probable classes, (index, name, probability); () of a model without classes."""
        return self.explanation.top

    def steadiness(self) -> Steadiness:
        """Is it sure? How far the map moves when the picture is moved by a few pixels or gets a little grainy: `value` is 1 for a
        map that stays where it is, about 0 for one that is drawn anew each time. Takes as long as four more maps.

        Raises:
            LSDError: a map that is zero everywhere.
        """
        return steadiness_of_explanation(self.model, self.picture, self.explanation, self.asked[1])

    def map(self, **settings) -> np.ndarray:
        """Float array (H, W) of the model's input, in [0, 1], or [−1, 1] with sign="signed".

        Args:
            settings: of `lsd.saliency.maps.MapSettings` (sign, channels, clip, blur, scale, upsampling), where they are others than
                what suits the method.
        """
        return to_maps([self.values], self._maps(settings), [self.explanation.input_size])[0]

    def overlay(self, style: str = "heatmap", opacity: float = 0.7, **settings) -> Image.Image:
        """The map laid over the picture, at the picture's size.

        Args:
            style, opacity: "heatmap", "mask", "contours" or "map"; 0 to 1.
            settings: as in `map`.
        """
        return overlays(self.picture, [self.explanation], self._maps(settings), Look(style, opacity))[0]

    def sheet(self) -> Image.Image:
        """The picture and the map on it side by side, with what the model says."""
        return bundle.sheet(self.picture, [self.explanation], self._maps({}), Look())

    def show(self) -> None:
        """Show it: in the notebook's cell, else in the system's picture viewer."""
        _show(self.sheet())

    def save(self, folder: str | Path) -> Path:
        """Write what `python -m lsd saliency` writes: overlay, comparison.png, attributions.npz, manifest.json; and the picture, if
        it came from the memory. `python -m lsd saliency --from manifest.json` makes the values again, if the model has a name.

        Returns:
            the folder.

        Raises:
            LSDError: it cannot be written to.
        """
        return _save([self], folder)

    def _maps(self, settings: dict) -> MapSettings:
        return replace(MapSettings(sign=find_method(self.attribution.method).sign), **settings)

    def _repr_jpeg_(self) -> bytes:
        return jpeg(self.sheet())

    def __str__(self) -> str:
        return f"{find_method(self.attribution.method).title}, {self.model.name}: {bundle.in_words(self.explanation)}"


@dataclass(frozen=True)
class ClassMaps(Sequence):
    """Where in one picture the first choices of one model come from; a sequence of `Saliency`, most probable first. A notebook
    shows them side by side, and in one figure.

    Attributes:
        maps: one a class.
    """

    maps: tuple[Saliency, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, i):
        return self.maps[i]

    def figure(self, style: str = "heatmap", opacity: float = 0.7, **settings) -> Image.Image:
        """All classes in one, at the picture's size: the colour says which class has the largest share at a place, its strength how
        much, and it is the paler the less they differ (`lsd.saliency.several.strongest`).

        Args:
            style: "map" shows it alone, any other over the picture in grey.
            opacity, settings: as in `Saliency.overlay`.
        """
        first = self.maps[0]
        return in_colours(first.picture, self._explanations(), first._maps(settings), Look(style, opacity))

    def sheet(self) -> Image.Image:
        """The picture, the figure, and the map of each class."""
        first = self.maps[0]
        return bundle.sheet(first.picture, self._explanations(), first._maps({}), Look())

    def show(self) -> None:
        """Show them: in the notebook's cell, else in the system's picture viewer."""
        _show(self.sheet())

    def save(self, folder: str | Path) -> Path:
        """Write what `python -m lsd saliency --classes` writes; as `Saliency.save`."""
        return _save(self.maps, folder)

    def _explanations(self) -> list[Explanation]:
        return [one.explanation for one in self.maps]

    def _repr_jpeg_(self) -> bytes:
        return jpeg(self.sheet())

    def __str__(self) -> str:
        said = ", ".join(bundle.in_words(one.explanation) for one in self.maps)
        return f"{find_method(self.maps[0].attribution.method).title}, {self.maps[0].model.name}: {said}"


@dataclass(frozen=True)
class Visualization(Sequence):
    """Pictures of units, one for each unit and seed; a sequence of `lsd.features.pictures.Picture`. A notebook shows the sheet.

    Attributes:
        model: whose units they are.
        request: what was asked, enough to ask again.
        pictures: pixels uint8 (H, W, 3), score, status ("ok", "dead" or "failed"), notes and trace of each.
        batches: how many were made together.
    """

    model: ImageModel
    request: Request = field(repr=False)
    pictures: tuple[Picture, ...] = field(repr=False)
    batches: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i):
        return self.pictures[i]

    @property
    def images(self) -> list[Image.Image]:
        """The pictures, RGB."""
        return [Image.fromarray(picture.pixels) for picture in self.pictures]

    @property
    def titles(self) -> list[str]:
        """What each picture is of: "golden retriever", "layer3.1 channel 14"."""
        return [title(picture.job.unit, self.model) for picture in self.pictures]

    def sheet(self) -> Image.Image:
        """All pictures under their titles."""
        heading = f"{self.model.name}, recipe {self.request.recipe.name}"
        return Image.open(io.BytesIO(feature_bundle.sheet(self.pictures, self.titles, heading)))

    def show(self) -> None:
        """Show them: in the notebook's cell, else in the system's picture viewer."""
        _show(self.sheet())

    def save(self, folder: str | Path) -> Path:
        """Write what `python -m lsd features` writes, but for the film: the pictures, sheet.png and manifest.json.

        Returns:
            the folder.

        Raises:
            LSDError: it cannot be written to.
        """
        results = feature_bundle.results(self.pictures, self.model)
        record = feature_bundle.manifest(self.request, self.model, results, self.batches)
        files = {feature_bundle.file_name(p.job): png(Image.fromarray(p.pixels)) for p in self.pictures}
        write_files(
            Path(folder),
            files | {"sheet.png": png(self.sheet()), "manifest.json": feature_bundle.manifest_bytes(record)},
        )
        return Path(folder)

    def _repr_jpeg_(self) -> bytes:
        return jpeg(self.sheet())

    def __str__(self) -> str:
        first = ", ".join(self.titles[:3])
        return f"{len(self)} pictures of {self.model.name}: {first}{' …' if len(self) > 3 else ''}"


@dataclass(frozen=True)
class Reasoning:
    """Why one model says what it says of one picture. A notebook shows it as a report.

    Attributes:
        model: that was asked.
        answer: all that was found, with pictures, and what the model says without each reason.
        request: what was asked, enough to ask again.
        file: the picture's file; None if it came from the memory.
    """

    model: ImageModel
    answer: Answer = field(repr=False)
    request: reason_bundle.Request = field(repr=False)
    file: Path | None = None

    @property
    def sentence(self) -> str:
        """The decision and the first of its reasons."""
        return str(self.answer.sentence)

    @property
    def channels(self) -> tuple[Reason, ...]:
        """Those that speak most for the target, most first: unit, share, part of all that does, map over the layer's places."""
        return self.answer.reasons.channels

    @property
    def groups(self) -> tuple[Reason, ...]:
        """The same as a few groups of channels, most first."""
        return self.answer.reasons.groups

    @property
    def shares(self) -> np.ndarray:
        """Float array (C,) of all the layer's channels, in units of the target: log-odds or a contrast in nats."""
        return self.answer.reasons.shares.values[0].cpu().numpy()

    @property
    def tried(self) -> Tried:
        """What the model says with each reason off, the first ones together, and as many channels at random."""
        return self.answer.tried

    @property
    def top(self) -> tuple[tuple[int, str, float], ...]:
        """The most probable classes, (index, name, probability)."""
        return self.answer.top

    def sheet(self) -> Image.Image:
        """The picture, the sentence, and each reason: its picture, its places, its share, and what is said without it."""
        return reason_bundle.sheet(self.answer, self._record()["results"][0])

    def show(self) -> None:
        """Show it: in the notebook's cell, else in the system's picture viewer."""
        _show(self.sheet())

    def save(self, folder: str | Path) -> Path:
        """Write what `python -m lsd reasons` writes: sheet, report.html, numbers.npz, manifest.json; and the picture, if it came
        from the memory. `python -m lsd reasons --from manifest.json` makes the numbers again, if the model has a name.

        Returns:
            the folder.

        Raises:
            LSDError: it cannot be written to.
        """
        folder = Path(folder)
        write_files(folder, {} if self.file else {"picture.png": png(self.answer.picture)})
        path = self.file or folder / "picture.png"
        image = {"file": path.name, "path": str(path), "sha256": images.file_sha256(path)}
        write_files(folder, reason_bundle.files([self.answer], self._record(image)))
        return folder

    def _record(self, image: dict | None = None) -> dict:
        if image is None:
            image = {"file": self.file.name if self.file else "the picture", "path": None, "sha256": ""}
        return reason_bundle.manifest(image, self.request, [self.answer])

    def _repr_html_(self) -> str:
        return reason_report.fragment(self._record(), reason_bundle.pictures([self.answer]))

    def __str__(self) -> str:
        return f"{self.model.name}: {self.sentence}"


def open_image(source: str | Path | bytes) -> Image.Image:
    """Decode a picture to upright 8-bit RGB, of at most 24 megapixels; larger JPEGs are decoded reduced.

    Args:
        source: a path, "example:NAME" of one that ships with scikit-image or scikit-learn ("example:Chelsea the cat"), or the
            bytes of a file.

    Raises:
        ImageError: missing, too large, damaged, or no PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF.
    """
    return images.open_image(source)


def explain(
    model: ImageModel | str,
    picture: PictureLike | Tensor | Sequence[PictureLike],
    method: str = defaults.METHOD,
    *,
    target: str | int = "top1",
    against: str | int | None = None,
    kind: str = defaults.KIND,
    group: str | None = None,
    within: str | None = None,
    like: PictureLike | None = None,
    view: str | tuple[int, int, int] | View = EVALUATED,
    **settings,
) -> Saliency | list[Saliency]:
    """Which pixels moved an output of `model`?

    Args:
        model: from `load_model` or `wrap`, or a name for `load_model`.
        picture: a path or "example:NAME"; a Pillow image; an array (H, W, 3) of uint8, or of floats in [0, 1]. They are resized
            and cropped as `view` says. A tensor (N, 3, H, W) in [0, 1], not normalised, of the model's own size is taken as
            it is, all its pictures in one batch. Of a list or a batch each gets its own explanation.
        method: a name from `lsd.saliency.methods.METHODS`, such as "gradient", "smoothgrad", "integrated_gradients", "grad_cam",
            "depth_fusion" (default; docs/choices.md says why).
        target: "top1", "top2" (the model's own choices), a class's index or name.
        against: explain why the target rather than this class, as `target`.
        kind: "log_odds", "logit" or "probability": what of the target is differentiated.
        group: explain why a dog (bird, vehicle, …) at all: the log-odds of this group of ImageNet's classes (`lsd.groups`).
        within: explain why the target rather than the others of this group; "top1" and "top2" are then the group's own.
        like: a picture, or an .npy file with a vector: explain the cosine of the model's embeddings in place of a class.
        view: what of the picture the model is shown: "evaluated" (resized and cropped as the model wants), "squashed" (all of it,
            its aspect not kept), "padded" (all of it, with the model's mean around it), or a square of it: (left, top, side)
            in pixels, or "left,top,side". A tensor is taken as it is.
        settings: of the method, such as samples=64.

    Returns:
        a `Saliency`, or a list of them.

    Raises:
        LSDError: one sentence: a picture, class, method, view or setting that there is not, or a combination that is not defined.

    Source: the method's, told by `lsd.saliency.methods`.
    """
    spec = question(target=target, against=against, kind=kind, group=group, within=within, like=_reference(like))
    model, view = _model(model), View.parse(view)
    settings = find_method(method).parse(settings)
    asked = (spec, settings)
    if isinstance(picture, Tensor):
        if view != EVALUATED:
            raise LSDError("A tensor is taken as it is: leave view away, or give a picture.")
        batch = picture if picture.ndim == 4 else picture[None]
        found = explain_inputs(model, batch, spec, method, **settings)
        shown = (batch.detach().cpu().float() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        all_of_it = [Saliency(model, Image.fromarray(p), e, asked) for p, e in zip(shown, found, strict=True)]
        return all_of_it if picture.ndim == 4 else all_of_it[0]
    if isinstance(picture, list | tuple):
        return [
            explain(
                model, one, method, target=target, against=against, kind=kind, group=group, within=within, like=like, view=view,
                **settings,
            )
            for one in picture
        ]  # fmt: skip
    opened, file = _picture(picture)
    return Saliency(model, opened, explain_picture(model, opened, spec, method, view=view, **settings), asked, file)


def explain_classes(
    model: ImageModel | str,
    picture: PictureLike,
    method: str = defaults.METHOD,
    *,
    count: int = 3,
    kind: str = defaults.KIND,
    view: str | tuple[int, int, int] | View = EVALUATED,
    **settings,
) -> ClassMaps:
    """Which pixels moved each of the first choices of `model`? They share each forward pass.

    Args:
        model, picture, method, kind, view, settings: as in `explain`; one picture, and no tensor.
        count: how many classes, 2 to 5.

    Returns:
        a `ClassMaps`.

    Raises:
        LSDError: as `explain`, or another number of classes.
    """
    if isinstance(picture, list | tuple | Tensor):
        raise ImageError("Several classes are explained of one picture: give a path, a Pillow image or an array.")
    model, spec, view = _model(model), TopClasses(count, kind), View.parse(view)
    settings = find_method(method).parse(settings)
    opened, file = _picture(picture)
    found = explain_each(model, opened, spec, method, view=view, **settings)
    return ClassMaps(tuple(Saliency(model, opened, one, (spec, settings), file) for one in found))


def crosscheck(
    model: ImageModel | str,
    picture: PictureLike | Tensor,
    method: str = defaults.METHOD,
    *,
    target: str | int = "top1",
    against: str | int | None = None,
    kind: str = defaults.KIND,
    like: PictureLike | None = None,
    view: str | tuple[int, int, int] | View = EVALUATED,
    **settings,
) -> CrossCheck:
    """The handwritten method held against Captum's on one picture: the largest difference, and whether it is within rounding.

    Args:
        model, picture, method, target, against, kind, like, view, settings: as in `explain`; one picture.

    Returns:
        a `CrossCheck`: the difference, as a share of the largest value (None where Captum has nothing to compare, with the
        reason), the tolerance, and whether they agree.

    Raises:
        LSDError: as `explain`, or several pictures.

    Source: Captum (Kokhlikyan et al., 2020); docs/crosscheck.md says what agreement proves and what it does not.
    """
    found = explain(model, picture, method, target=target, against=against, kind=kind, like=like, view=view, **settings)
    if isinstance(found, list):
        if len(found) != 1:
            raise LSDError(f"One picture is checked at a time, and {len(found)} were given.")
        (found,) = found
    settings = found.asked[1]
    if isinstance(picture, Tensor):
        a = found.attribution
        return crosscheck_inputs(
            found.model, picture.reshape(1, *picture.shape[-3:]), a.target, method, mine=a, **settings
        )
    return crosscheck_explanation(found.model, found.picture, found.explanation, settings)


def find_reasons(
    model: ImageModel | str,
    picture: PictureLike | Sequence[PictureLike],
    *,
    target: str | int = "top1",
    against: str | int | None = "top2",
    layer: str | None = None,
    method: str = METHOD,
    count: int = COUNT,
    view: str | tuple[int, int, int] | View = EVALUATED,
    missing: bool = False,
    pictures: bool = True,
    verifiers: Sequence[ImageModel | str] = (),
    photos: str | Path | None = None,
    progress: bool = True,
) -> Reasoning | list[Reasoning]:
    """Which few things made `model` say so, where each is in the picture, what it looks like, and what is said without it?

    Args:
        model: from `load_model` or `wrap`, or a name for `load_model`.
        picture: a path or "example:NAME"; a Pillow image; an array (H, W, 3) of uint8, or of floats in [0, 1]. Of a list each
            gets its own.
        target: "top1", "top2" (the model's own choices), a class's index or name.
        against: why the target rather than this class, as `target`; None for the target's log-odds.
        layer: whose channels are looked at; by default what docs/reasons.md says.
        method: of `lsd.reasons.shares.METHODS`; by default what docs/reasons.md says.
        count: how many channels are told.
        view: as for `explain`.
        missing: look for what the picture lacks of the class that it is held against (of the target, without one), whose own
            picture is drawn for that.
        pictures: draw a picture of each unit, as a draft.
        verifiers: models that are asked what they see in these pictures: a unit's name, as a guess.
        photos: a folder of photos, whose patches that excite the units most are shown.
        progress: show a bar.

    Returns:
        a `Reasoning`, or a list of them.

    Raises:
        LSDError: one sentence: a picture, class, layer, method or view that there is not, a model without classes.

    Source: Olah et al., “The Building Blocks of Interpretability”, 2018; docs/reasons.md for the ranking.
    """
    asked = {
        "target": target, "against": against, "layer": layer, "method": method, "count": count, "view": view, "missing": missing,
        "pictures": pictures, "verifiers": verifiers, "photos": photos, "progress": progress,
    }  # fmt: skip
    if isinstance(picture, list | tuple):
        return [find_reasons(model, one, **asked) for one in picture]
    if isinstance(picture, Tensor):
        raise ImageError("Reasons are found of a picture: give a path, a Pillow image or an array, and no tensor.")
    if not isinstance(count, int) or count < 1:
        raise LSDError(f"At least one channel is told, and count is {count}.")
    model, judges, view = _model(model), [_model(judge) for judge in verifiers], View.parse(view)
    opened, file = _picture(picture)
    spec = TargetSpec(target, defaults.KIND if against is None else "contrast", against)
    with bar(model.name, "step", shown=progress):
        found = answer(model, opened, spec, view=view, layer=layer, method=method, count=count)
        found = with_missing(found) if missing else found
        found = with_pictures(found, judges) if pictures else found
        found = found if photos is None else with_patches(found, Path(photos))
    request = reason_bundle.Request(
        (model.name,), (layer,), (model.said,), spec, method, count, str(view), missing, pictures,
        tuple(judge.name for judge in judges), None if photos is None else str(photos),
    )  # fmt: skip
    return Reasoning(model, found, request, file)


def visualize(
    model: ImageModel | str,
    units: str | int | Sequence[str | int],
    recipe: str | Recipe = DEFAULT,
    *,
    seeds: int | Sequence[int] = 1,
    effort: str | None = None,
    steps: int | None = None,
    size: int | None = None,
    photo: str | Path | None = None,
    start_from_photo: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
    **settings,
) -> Visualization:
    """Gradient ascent from noise to the pictures that units of `model` respond to most.

    Args:
        model: from `load_model` or `wrap`, or a name for `load_model`.
        units: a class's index, or units as they are written everywhere: "class/golden retriever", "layer3/channel/14",
            "layer:curated:16", `python -m lsd features --model M --list-layers` tells which there are; or several.
        recipe: a name ("lsd", "texture", "lucid", …, docs/features.md), a file, or a `Recipe`.
        seeds: how many pictures of each unit, or the seeds themselves.
        effort: "draft", "normal" or "fine": .3, 1 or 4 times the recipe's steps.
        steps, size: of ascent; the longer side in pixels (by default the model's own).
        photo: a path or "example:NAME", for inversions, caricatures and similarities, or (with `start_from_photo`) to start from.
        batch_size: pictures at once; by default what suits the device.
        progress: show a bar.
        settings: of the recipe, such as learning_rate=0.05.

    Returns:
        a `Visualization`, its pictures unit by unit, seed by seed.

    Raises:
        LSDError: one sentence: no such unit, recipe or setting, or one that is not defined for the model.

    Source: Olah, Mordvintsev & Schubert, 2017; docs/recipe.md for the default recipe.
    """
    model = _model(model)
    texts = [units] if isinstance(units, str) or not isinstance(units, Sequence) else list(units)
    texts = [text if isinstance(text, str) else f"class/{text}" for text in texts]
    chosen = list(dict.fromkeys(unit for text in texts for unit in expand(text, model)))
    wanted = tuple(range(seeds)) if isinstance(seeds, int) else tuple(dict.fromkeys(seeds))
    if not chosen or not wanted:
        raise LSDError("Nothing is asked for: give at least one unit, and one seed.")
    named = recipe if isinstance(recipe, Recipe) else described(
        recipe, [f"{name}={value}" for name, value in settings.items()], size=size, steps=steps, effort=effort
    )  # fmt: skip
    if isinstance(recipe, Recipe) and (settings or effort or steps or size):
        raise LSDError("A Recipe says everything already: change it with dataclasses.replace, or give a recipe's name.")
    others = other_models(chosen, model.name)
    path = None if photo is None else images.picture_path(photo)
    reference = None if path is None else open_reference(path)
    record = None if reference is None else reference.to_dict()
    request = Request(
        model.name,
        tuple(map(str, chosen)),
        wanted,
        named,
        batch_size,
        tuple(others),
        record,
        start_from_photo,
        model.said,
    )
    finished: list[Picture] = []
    sizes: list[int] = []
    with bar(model.name, "step", shown=progress):
        for snapshot in ascend(
            model, chosen, named, wanted, others=[get_model(name) for name in others], **held_against(reference, model),
            start_from_photo=start_from_photo, batch_size=batch_size,
        ):  # fmt: skip
            finished += snapshot.finished
            sizes += [len(snapshot.finished)] if snapshot.finished else []
    return Visualization(model, request, tuple(finished), tuple(sizes))


def _model(model: object) -> ImageModel:
    if isinstance(model, ImageModel):
        return model
    if isinstance(model, str):
        return get_model(model)
    if isinstance(model, nn.Module):
        raise ModelError(
            f"{type(model).__name__} is a network as torch has it: give lsd.wrap(net), which says what it takes."
        )
    raise ModelError(f"A model is a name, or what lsd.load_model or lsd.wrap gives, and no {type(model).__name__}.")


def _save(found: Sequence[Saliency], folder: str | Path) -> Path:
    """The bundle of one picture's explanations by one model."""
    folder, first = Path(folder), found[0]
    spec, settings = first.asked
    files = {} if first.file else {"picture.png": png(first.picture)}
    if files:
        write_files(folder, files)
    path = first.file or folder / "picture.png"
    image = {"file": path.name, "path": str(path), "sha256": images.file_sha256(path)}
    explanations = [one.explanation for one in found]
    record = bundle.manifest(image, [first.model], explanations, spec, settings, first._maps({}), Look())
    write_files(folder, bundle.files(first.picture, explanations, record))
    return folder


def _reference(like: PictureLike | None) -> Reference | None:
    if like is None:
        return None
    return open_reference(like) if isinstance(like, str | Path) else reference_of(_picture(like)[0])


def _picture(source: PictureLike) -> tuple[Image.Image, Path | None]:
    """An upright RGB picture, and the file it is from, if it is from one."""
    if isinstance(source, str | Path):
        path = images.picture_path(source)
        return images.open_image(path), path
    if isinstance(source, bytes):
        return images.open_image(source), None
    if isinstance(source, Image.Image):
        return images.open_image(png(source)) if source.mode != "RGB" else source.copy(), None
    if isinstance(source, np.ndarray):
        return Image.fromarray(_pixels(source)), None
    raise ImageError(f"A picture is a path, a Pillow image, an array or a tensor, and no {type(source).__name__}.")


def _pixels(array: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of such an array, of one of grey, or of floats in [0, 1]."""
    pixels = np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"An array of a picture has the shape (height, width, 3), and this one {array.shape}.")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating) or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError(
            f"An array of a picture is uint8, or floats from 0 to 1; this one is {pixels.dtype}, from {pixels.min():.3g} to "
            f"{pixels.max():.3g}."
        )
    return np.round(pixels * 255).astype(np.uint8)


def _show(image: Image.Image) -> None:
    """In a notebook's cell, else in the system's picture viewer."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        image.show()
        return
    if get_ipython():
        display(image)
    else:
        image.show()
