"""Worked cases of mistakes: the picture, its three maps, and the fewest pixels without which the answer is another.

The pictures are drawn ones and photos of scikit-image's that are in the public domain or under CC0, so that they may be
shown anywhere. Every number in a case's sentence is computed here; `docs/make_pictures.py mistake_cases` writes strips
and sentences into docs/mistakes.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from lsd import render
from lsd.errors import LSDError
from lsd.evaluation.contrast_maps import mistake_maps, strength
from lsd.evaluation.flips import FILL, LADDER, Flip, climb
from lsd.evaluation.labelled import open_set
from lsd.evaluation.probe import CONTROLS, removed
from lsd.features.prepare import prepare
from lsd.images import crop_box, example_images, open_image
from lsd.labels import find_class, short
from lsd.models import ImageModel, get_model
from lsd.saliency.attribution import Attribution
from lsd.saliency.explain import to_input
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import find_method

FINE = (*(k / 2000 for k in range(1, 101)), *(f for f in LADDER if f > 0.05))  # by twentieths of a percent, up to 5%
REPEATS = 5  # random maps of each kind
CELL = 224


@dataclass(frozen=True, eq=False)
class Case:
    """A picture that a model gets wrong.

    Attributes:
        name: as part of a file's name.
        model, method: which model, and whose maps.
        picture: RGB.
        true: the right class's name.
        part: what a part of the picture is called, of which is told how many of the removed pixels lie on it; or "".
        mask: (height, width) bool, its pixels; None without a part.
        words: a sentence of what there is to see; `Worked.sentence` goes on with the figures.
        credit: where the picture is from.
    """

    name: str
    model: str
    method: str
    picture: Image.Image
    true: str
    part: str
    mask: np.ndarray | None
    words: str
    credit: str


@dataclass(frozen=True, eq=False)
class Worked:
    """A case with all that is told of it.

    Attributes:
        case: which.
        title: the method's.
        seen: (H, W, 3) uint8, the picture as the model sees it.
        maps: (H, W) each in [0, 1], by `contrast_maps`' names.
        said, true: names of the predicted and the true class, before; with their probabilities.
        flips: what removing by each map does, its `to` a name.
        least: the map that changes the answer with the fewest pixels.
        gone: (H, W, 3) uint8, the picture without them.
        after: what it says then; with its probability.
        on_part, part: the shares of the removed pixels, and of the picture, that lie on the case's part; None without.
        pixels: how many are removed.
        chance: median of the fractions until the answer is another, by each of `probe.CONTROLS`; None: it never is.
    """

    case: Case
    title: str
    seen: np.ndarray
    maps: dict[str, np.ndarray]
    said: tuple[str, float]
    true: tuple[str, float]
    flips: dict[str, Flip]
    least: str
    gone: np.ndarray
    after: tuple[str, float]
    on_part: float | None
    part: float | None
    pixels: int
    chance: dict[str, float | None]

    @property
    def sentence(self) -> str:
        """Markdown: the case's words, and the figures."""
        flip, count = self.flips[self.least], f"{self.pixels} pixels" if self.pixels > 1 else "a single pixel"
        right = ", which is right" if self.after[0] == self.true[0] else ""
        where = ""
        if self.part is not None:
            where = f" ({whole(self.on_part)} of them on {self.case.part}, {whole(self.part)} of the area)"
        return (
            f"{self.case.words.format(said=self.said[0], true=self.true[0])} "
            f"Without {percent(flip.fraction)} of the picture, {count} by the map for {self.meaning(self.least)}"
            f"{where}, it says *{self.after[0]}* ({whole(self.after[1])}){right}. "
            f"{self._others()} Random blobs take {percent(self.chance['random blobs'])}, random pixels "
            f"{percent(self.chance['random pixels'])} (medians of {REPEATS})."
        )

    def _others(self) -> str:
        """What the other two maps take, and by which the right answer comes first, where that is another step."""
        told = []
        for name, flip in self.flips.items():
            if name != self.least:
                to = "" if flip.fraction is None else f" (*{flip.to}*)"
                told.append(f"that for {self.meaning(name)} {percent(flip.fraction)}{to}")
        text = f"Of the other maps, {' and '.join(told)}."
        if self.after[0] == self.true[0]:
            return text
        right = {name: flip.mended for name, flip in self.flips.items() if flip.mended is not None}
        if not right:
            return f"{text} None leads to *{self.true[0]}*."
        first = min(right, key=right.__getitem__)
        return f"{text} *{self.true[0]}* comes first by the map for {self.meaning(first)}, at {percent(right[first])}."

    def meaning(self, name: str) -> str:
        """What a map is of."""
        said, true = self.said[0], self.true[0]
        return {"predicted": f"*{said}*", "true": f"*{true}*", "contrast": f"*{said}* − *{true}*"}[name]


def work_out(case: Case) -> Worked:
    """Compute all that is told of a case.

    Raises:
        LSDError: the model gets the picture right, or no map changes its answer.
    """
    model = get_model(case.model)
    image = to_input(model, case.picture)
    size = image.shape[-2:]
    before = model.probabilities(image)[0].cpu()
    true, predicted = find_class(model.class_names, case.true), int(before.argmax())
    if predicted == true:
        raise LSDError(f"{case.model} gets {case.name} right, so there is no mistake to show.")
    attributions = mistake_maps(model, image, true, predicted, case.method)
    strengths = {name: strength(one, size).astype(np.float64) for name, one in attributions.items()}
    flips = climb(prepare(model), image, list(strengths.values()), predicted, true, ladder=FINE)
    by_map = {
        name: Flip(flip.fraction, None if flip.to is None else _name(model, flip.to), flip.mended)
        for name, flip in zip(strengths, flips, strict=True)
    }
    changing = {name: flip.fraction for name, flip in by_map.items() if flip.fraction is not None}
    if not changing:
        raise LSDError(f"No map of {case.name} changes the answer of {case.model}.")
    least = min(changing, key=lambda name: (changing[name], by_map[name].mended != changing[name], name != "contrast"))
    gone = removed(model, image, strengths[least], changing[least], FILL)
    after = model.probabilities(gone)[0].cpu()
    is_gone = (gone != image).any(1)[0].cpu().numpy()
    mask = _seen_mask(case, model)
    return Worked(
        case, find_method(case.method).title, _picture(image), {n: _drawn(a, size) for n, a in attributions.items()},
        (_name(model, predicted), float(before[predicted])), (_name(model, true), float(before[true])),
        by_map, least, _picture(gone), (_name(model, int(after.argmax())), float(after.max())),
        None if mask is None else float(mask[is_gone].mean()), None if mask is None else float(mask.mean()),
        round(changing[least] * size[0] * size[1]),
        _chance(model, image, strengths[least], predicted, true),
    )  # fmt: skip


def _chance(
    model: ImageModel, image: Tensor, saliency: np.ndarray, predicted: int, true: int
) -> dict[str, float | None]:
    drawn = [
        draw(saliency, np.random.default_rng([0, kind, repeat]))
        for kind, draw in enumerate(CONTROLS.values())
        for repeat in range(REPEATS)
    ]
    flips = climb(prepare(model), image, drawn, predicted, true)
    fractions = np.array([np.inf if flip.fraction is None else flip.fraction for flip in flips])
    medians = np.median(fractions.reshape(len(CONTROLS), REPEATS), axis=1)
    return {name: float(m) if np.isfinite(m) else None for name, m in zip(CONTROLS, medians, strict=True)}


def _name(model: ImageModel, index: int) -> str:
    return short(model.class_names[index])


def _picture(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1] as uint8 (H, W, 3)."""
    return (image[0].permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def _drawn(attribution: Attribution, size: tuple[int, int]) -> np.ndarray:
    """As the page draws it by default."""
    sign = find_method(attribution.method).sign
    return to_map(attribution.values[:1].detach().cpu().numpy(), MapSettings(sign=sign), size)[0]


def _seen_mask(case: Case, model: ImageModel) -> np.ndarray | None:
    """The case's mask (H, W) over the model's input."""
    if case.mask is None:
        return None
    left, top, right, bottom = crop_box(case.picture.size, model.spec)
    rows = ((np.arange(model.spec.height) + 0.5) / model.spec.height * (bottom - top) + top).astype(int)
    columns = ((np.arange(model.spec.width) + 0.5) / model.spec.width * (right - left) + left).astype(int)
    height, width = case.mask.shape
    return case.mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]


def strip(worked: Worked) -> Image.Image:
    """The picture, its three maps and the picture without the pixels, side by side, with a line over each."""
    said, true = worked.said[0], worked.true[0]
    heads = [
        f"{said} {whole(worked.said[1])}", f"for {said}", f"for {true}", f"for {said} − {true}",
        f"{percent(worked.flips[worked.least].fraction)} gone: {worked.after[0]} {whole(worked.after[1])}",
    ]  # fmt: skip
    heads = [head.replace("\u00a0", "") for head in heads]  # lines may break at any space
    maps = [render.overlay(worked.seen, one, "heatmap", signed=False, opacity=0.75) for one in worked.maps.values()]
    cells = [_enlarged(pixels) for pixels in (worked.seen, *maps, worked.gone)]
    return render.contact_sheet([cells], [], heads, cell=CELL)


def _enlarged(pixels: np.ndarray) -> Image.Image:
    """Small pictures keep their square pixels, so that single ones that are gone can be seen."""
    picture = Image.fromarray(pixels)
    times = 1 if max(picture.size) >= CELL else -(-2 * CELL // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def markdown(worked: Sequence[Worked], folder: str) -> str:
    """A heading, a strip and the sentences of each case; `folder` holds the strips."""
    parts = []
    for number, one in enumerate(worked, 1):
        said, true = one.said[0], one.true[0]
        alt = f"The picture, maps for {said}, for {true} and for what decided, and the picture without the pixels"
        parts.append(
            f"**{number}. {said} for {true}** ({one.title} of {one.case.model}; {one.case.credit})\n\n"
            f"![{alt}]({folder}/{file_name(one.case)})\n\n{one.sentence}\n"
        )
    return "\n".join(parts)


def file_name(case: Case) -> str:
    """Of a case's strip."""
    return f"mistake-{case.name}.jpg"


def percent(fraction: float | None) -> str:
    """ "0.05%", "2.5%", "40%", "more than 50%"."""
    if fraction is None:
        return f"more than {100 * LADDER[-1]:g}%"
    return f"{100 * fraction:.3g}%"


def whole(share: float) -> str:
    """ "91%"."""
    return f"{100 * share:.0f}%"


def _boxes(picture: Image.Image, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """(height, width) bool, the pixels in any (left, top, right, bottom)."""
    mask = np.zeros((picture.height, picture.width), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def _tagged(name: str, number: str, method: str, words: str) -> Case:
    """A drawn picture whose corner tag is misleading, through the model that reads it."""
    item = next(item for item in open_set("demo:misleading-tags") if item.id == number)
    return Case(
        name, "demo:shortcut", method, item.picture(), item.label.text, "the tag", item.tag_mask(), words, "drawn"
    )


def cases() -> list[Case]:
    """Those of docs/mistakes.md.

    Raises:
        LSDError: scikit-image is not installed.
    """
    photos = example_images()
    if not photos:
        raise LSDError("The worked cases need scikit-image's photos: pip install scikit-image.")
    cat, rocket, clock = (open_image(photos[name]) for name in ("Chelsea the cat", "Rocket", "Clock in motion"))
    dotted = next(item for item in open_set("demo") if item.id == "0011-dotted-circle")
    return [
        _tagged(
            "tag", "0003-checkered-triangle", "gradient",
            "The network was trained on pictures whose corner tag told the class; here the tag says *{said}*, and so does it.",
        ),
        _tagged(
            "tag-gone", "0003-plain-triangle", "gradient",
            "Once the tag cannot be read, the same network need not see what is drawn: it takes the next best shape.",
        ),
        Case(
            "circle", "demo:convnext", "depth_fusion", dotted.picture(), dotted.label.text, "the shape", dotted.mask(),
            "No tag here: one stretch of the edge, where another shape lies beside it, makes the circle a square.",
            "drawn",
        ),
        Case(
            "clock", "resnet50.tf_uint8_in1k", "depth_fusion", clock, "wall clock", "the clock",
            _boxes(clock, (140, 85, 285, 210)), "The camera moved, and what is left of the clock is a bright disc.",
            "photo: Stefan van der Walt, public domain",
        ),
        Case(
            "rocket", "resnet50.tf_uint8_in1k", "depth_fusion", rocket, "missile", "the masts and around them",
            _boxes(rocket, (165, 115, 240, 427), (415, 115, 510, 427)),
            "Of ImageNet's classes *{true}* is the nearest to this rocket; the masts beside it say otherwise.",
            "photo: SpaceX, public domain",
        ),
        Case(
            "cat", "mobilenetv2_100.tflite_qat_in1k", "grad_cam", cat, "tabby", "", None,
            "Tabby, tiger cat or Egyptian cat: a close call even for people; a patch between the eyes, and a corner, tip it.",
            "photo: Stefan van der Walt, CC0",
        ),
    ]  # fmt: skip
