"""What reasons look like: pictures of units, from whoever keeps some, else drawn as drafts, all in one ascent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lsd.features.ascent import ascend
from lsd.features.bundle import pixels_sha256
from lsd.features.judge import Verdict, classify
from lsd.features.pictures import to_pixels
from lsd.features.recipes import LSD, TEXTURE, Recipe, Stage, at_effort
from lsd.features.units import parse
from lsd.models import ImageModel
from lsd.reasons.sentence import guess

SIDE = 160  # pixels of a unit's draft, as large as it is shown: half the passes' cost, and the same motifs (docs/reasons.md)
_SEEN = SIDE / 224  # of the network's input
OF_UNITS = replace(  # as the gallery makes channels, in fewer steps, smaller
    at_effort(TEXTURE, "draft"), size=SIDE, stages=tuple(Stage(one.share, one.side, _SEEN) for one in TEXTURE.stages)
)  # fmt: skip
OF_CLASSES = at_effort(LSD, "draft")
_SEED = 0


@dataclass(frozen=True)
class Drawn:
    """The picture of one unit.

    Attributes:
        unit: as it is written.
        pixels: uint8 (H, W, 3).
        recipe: what it was made by, as `Recipe.to_dict` gives it.
        seed: of its noise.
        source: "draft" where it was drawn for this, else where it was kept.
        dead: whether no gradient reached it, so that it shows nothing.
    """

    unit: str
    pixels: np.ndarray
    recipe: dict
    seed: int
    source: str = "draft"
    dead: bool = False

    def to_dict(self) -> dict:
        """As plain JSON values, without the pixels but with their digest; the recipe by name and hash."""
        recipe = Recipe.from_dict(self.recipe)
        return {
            "recipe": recipe.name, "recipe_hash": recipe.hash, "seed": self.seed, "source": self.source,
            "sha256": pixels_sha256(self.pixels), "size": [*self.pixels.shape[1::-1]], "dead": self.dead,
        }  # fmt: skip


Kept = Callable[[ImageModel, Sequence[str]], Mapping[str, Drawn]]
"""Of these units of a model, the pictures that somebody keeps, made with the very same weights."""


def draw(
    model: ImageModel, units: Sequence[str], recipe: Recipe = OF_UNITS, *, kept: Kept | None = None
) -> dict[str, Drawn]:
    """Unit → its picture: a kept one, else a draft, all drafts in one ascent, in batches that suit the device;
    `lsd.progress.report` is told of every step.

    Raises:
        UndefinedError: what `ascend` raises.
    """
    units = list(dict.fromkeys(units))
    found = dict(kept(model, units)) if kept else {}
    left = [unit for unit in units if unit not in found]
    for _, finished in drawing(model, left, recipe):
        found |= finished
    return {unit: found[unit] for unit in units}


def drawing(
    model: ImageModel, units: Sequence[str], recipe: Recipe = OF_UNITS, *, every: int = 16
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Drawn]]]:
    """Drafts as they form, every so many steps: unit → its pixels (H, W, 3) now, and unit → its picture, of the finished ones.

    Raises:
        UndefinedError: what `ascend` raises.
    """
    asked = {str(parse(unit)): unit for unit in units}
    for snapshot in ascend(model, units, recipe, (_SEED,), every=every):
        shown = zip(snapshot.jobs, to_pixels(snapshot.images), strict=True)
        finished = {asked[str(picture.job.unit)]: picture for picture in snapshot.finished}
        yield (
            {asked[str(job.unit)]: pixels for job, pixels in shown},
            {
                unit: Drawn(unit, picture.pixels, recipe.to_dict(), picture.job.seed, dead=picture.status != "ok")
                for unit, picture in finished.items()
            },
        )


def verdicts(drawn: Mapping[str, Drawn], judges: Sequence[ImageModel]) -> dict[str, list[Verdict]]:
    """Unit → what judges with classes take its picture for; a dead unit's is not shown to them."""
    alive = {unit: one.pixels for unit, one in drawn.items() if not one.dead}
    asked = [judge for judge in judges if judge.num_classes]
    said = [[classify([pixels], judge)[0] for pixels in alive.values()] for judge in asked]
    return {unit: [of_judge[i] for of_judge in said] for i, unit in enumerate(alive)} if asked else {}


def guesses(said: Mapping[str, Sequence[Verdict]], own: str) -> dict[str, str]:
    """Unit → a guess at what is in its picture (`sentence.guess`), of those where there is one."""
    found = {unit: guess(of_unit, own) for unit, of_unit in said.items()}
    return {unit: name for unit, name in found.items() if name}
