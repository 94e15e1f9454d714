"""Where in a picture an output of a model comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from lsd import images
from lsd.errors import ImageError, LSDError
from lsd.library.inputs import PictureLike, as_model, as_picture, show
from lsd.models import ImageModel
from lsd.provenance import jpeg, png, write_files
from lsd.reference import Reference, open_reference, reference_of
from lsd.saliency import bundle, defaults
from lsd.saliency.attribution import Attribution
from lsd.saliency.crosscheck import CrossCheck, crosscheck_explanation
from lsd.saliency.crosscheck import crosscheck as crosscheck_inputs
from lsd.saliency.explain import Explanation, Spec, TopClasses, explain_each, explain_inputs
from lsd.saliency.explain import explain as explain_picture
from lsd.saliency.maps import MapSettings, to_maps
from lsd.saliency.methods import find_method
from lsd.saliency.question import question
from lsd.saliency.several import in_colours
from lsd.saliency.steadiness import Steadiness, steadiness_of_explanation
from lsd.saliency.views import Look, overlays
from lsd.view import EVALUATED, View


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
        show(self.sheet())

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
        show(self.sheet())

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
    model, view = as_model(model), View.parse(view)
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
    opened, file = as_picture(picture)
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
    model, spec, view = as_model(model), TopClasses(count, kind), View.parse(view)
    settings = find_method(method).parse(settings)
    opened, file = as_picture(picture)
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
    return open_reference(like) if isinstance(like, str | Path) else reference_of(as_picture(like)[0])
