"""Which few things made a model say so."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from lsd import images
from lsd.errors import ImageError, LSDError
from lsd.library.inputs import PictureLike, as_model, as_picture, show
from lsd.models import ImageModel
from lsd.progress import bar
from lsd.provenance import png, write_files
from lsd.reasons import bundle, report
from lsd.reasons.answer import COUNT, Answer, answer, with_missing, with_patches, with_pictures
from lsd.reasons.explain import CHANNEL, Reason, Tried
from lsd.saliency import defaults
from lsd.saliency.explain import TargetSpec
from lsd.view import EVALUATED, View


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
    request: bundle.Request = field(repr=False)
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
        """Float array (units,) of all the layer's channels, heads or places, in units of the target (nats)."""
        return self.answer.reasons.values.cpu().numpy()

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
        return bundle.sheet(self.answer, self._record()["results"][0])

    def show(self) -> None:
        """Show it: in the notebook's cell, else in the system's picture viewer."""
        show(self.sheet())

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
        write_files(folder, bundle.files([self.answer], self._record(image)))
        return folder

    def _record(self, image: dict | None = None) -> dict:
        if image is None:
            image = {"file": self.file.name if self.file else "the picture", "path": None, "sha256": ""}
        return bundle.manifest(image, self.request, [self.answer])

    def _repr_html_(self) -> str:
        return report.fragment(self._record(), bundle.pictures([self.answer]))

    def __str__(self) -> str:
        return f"{self.model.name}: {self.sentence}"


def find_reasons(
    model: ImageModel | str,
    picture: PictureLike | Sequence[PictureLike],
    *,
    target: str | int = "top1",
    against: str | int | None = "top2",
    layer: str | None = None,
    method: str | None = None,
    count: int = COUNT,
    view: str | tuple[int, int, int] | View = EVALUATED,
    missing: bool = False,
    pictures: bool = True,
    verifiers: Sequence[ImageModel | str] = (),
    photos: str | Path | None = None,
    kind: str = CHANNEL,
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
        method: of `lsd.reasons.shares.METHODS` (of heads, `lsd.reasons.heads.METHODS`); by default what docs/reasons.md says.
        count: how many channels are told.
        view: as for `explain`.
        missing: look for what the picture lacks of the class that it is held against (of the target, without one), whose own
            picture is drawn for that.
        pictures: draw a picture of each unit, as a draft.
        verifiers: models that are asked what they see in these pictures: a unit's name, as a guess.
        photos: a folder of photos, whose patches that excite the units most are shown.
        kind: "channel"; "head", of an attention layer; or "position", the places of a layer, all their channels together.
        progress: show a bar.

    Returns:
        a `Reasoning`, or a list of them.

    Raises:
        LSDError: one sentence: a picture, class, layer, method, kind or view that there is not, a model without classes.

    Source: Olah et al., “The Building Blocks of Interpretability”, 2018; docs/reasons.md for the ranking.
    """
    asked = {
        "target": target, "against": against, "layer": layer, "method": method, "count": count, "view": view, "missing": missing,
        "pictures": pictures, "verifiers": verifiers, "photos": photos, "kind": kind, "progress": progress,
    }  # fmt: skip
    if isinstance(picture, list | tuple):
        return [find_reasons(model, one, **asked) for one in picture]
    if isinstance(picture, Tensor):
        raise ImageError("Reasons are found of a picture: give a path, a Pillow image or an array, and no tensor.")
    if not isinstance(count, int) or count < 1:
        raise LSDError(f"At least one channel is told, and count is {count}.")
    model, judges, view = as_model(model), [as_model(judge) for judge in verifiers], View.parse(view)
    opened, file = as_picture(picture)
    spec = TargetSpec(target, defaults.KIND if against is None else "contrast", against)
    with bar(model.name, "step", shown=progress):
        found = answer(model, opened, spec, view=view, layer=layer, method=method, count=count, kind=kind)
        found = with_missing(found) if missing else found
        found = with_pictures(found, judges) if pictures else found
        found = found if photos is None else with_patches(found, Path(photos))
    request = bundle.Request(
        (model.name,), (layer,), (model.said,), spec, found.reasons.shares.method, count, str(view), missing, pictures,
        tuple(judge.name for judge in judges), None if photos is None else str(photos), kind,
    )  # fmt: skip
    return Reasoning(model, found, request, file)
