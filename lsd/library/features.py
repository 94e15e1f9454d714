"""What units of a model respond to most."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from lsd import images
from lsd.errors import LSDError
from lsd.features import bundle
from lsd.features.ascent import ascend
from lsd.features.bundle import Request
from lsd.features.photos import held_against
from lsd.features.pictures import Picture
from lsd.features.recipes import DEFAULT, Recipe, described
from lsd.features.units import expand, other_models, title
from lsd.library.inputs import as_model, show
from lsd.models import ImageModel, get_model
from lsd.progress import bar
from lsd.provenance import jpeg, png, write_files
from lsd.reference import open_reference


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
        return Image.open(io.BytesIO(bundle.sheet(self.pictures, self.titles, heading)))

    def show(self) -> None:
        """Show them: in the notebook's cell, else in the system's picture viewer."""
        show(self.sheet())

    def save(self, folder: str | Path) -> Path:
        """Write what `python -m lsd features` writes, but for the film: the pictures, sheet.png and manifest.json.

        Returns:
            the folder.

        Raises:
            LSDError: it cannot be written to.
        """
        results = bundle.results(self.pictures, self.model)
        record = bundle.manifest(self.request, self.model, results, self.batches)
        files = {bundle.file_name(p.job): png(Image.fromarray(p.pixels)) for p in self.pictures}
        write_files(
            Path(folder),
            files | {"sheet.png": png(self.sheet()), "manifest.json": bundle.manifest_bytes(record)},
        )
        return Path(folder)

    def _repr_jpeg_(self) -> bytes:
        return jpeg(self.sheet())

    def __str__(self) -> str:
        first = ", ".join(self.titles[:3])
        return f"{len(self)} pictures of {self.model.name}: {first}{' …' if len(self) > 3 else ''}"


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
    model = as_model(model)
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
