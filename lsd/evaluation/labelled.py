"""Labelled pictures from anywhere: example photos, the demo set, a folder, a Hugging Face data set.

A set knows its labels and decodes no picture before it is asked for one. What a label means to a model is decided in
`lsd.evaluation.classes`.
"""

import functools
import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lsd import disk, labels
from lsd.demo import CLASS_NAMES, SPLIT_SEEDS, Sample, render
from lsd.errors import ImageError, LSDError, UndefinedError
from lsd.evaluation.classes import ClassIndex, Label, label_index
from lsd.evaluation.composed import THINGS, Recipe, compose
from lsd.evaluation.fooled_cases import Answer, Evidence, fooled_cases, found_with
from lsd.evaluation.photos import Box, labelled_photos
from lsd.images import CREDITS, open_image
from lsd.models import ImageModel
from lsd.public import hub_token, set_refusal

PHOTO_SET = "example-photos"
FOOLED_SET = "what-fooled-them"
DEMO_SETS = {"demo": "none", "demo:true-tags": "true", "demo:misleading-tags": "misleading"}
DEMO_PER_CLASS = 100  # without a limit: the held-out pictures that the demo models' stated accuracies are measured on
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
MAX_BYTES = int(os.environ.get("LSD_MAX_DATASET_BYTES", 2 * 2**30))  # of a data set on the Hub
HELD_OUT = ("validation", "valid", "val", "dev", "test")  # the splits preferred when none is named, best first

_NUMBERED = re.compile(r"([0-9]{4})(?:_(n[0-9]{8}))?(_.*)?")  # 0207, 0207_retriever, 0207_n02099601_retriever
_SYNSET = re.compile(r"(n[0-9]{8})(?:[_-].*)?")  # n02099601, n02099601-golden_retriever


class DataError(LSDError):
    """A labelled set cannot be had: not found, offline, without labels."""


@dataclass(frozen=True)
class Item:
    """One labelled picture, not decoded yet. `id` is unique within its set and the same every time it is opened."""

    id: str
    label: Label

    def picture(self) -> Image.Image:
        """Upright RGB. Raises ImageError when it cannot be read."""
        raise NotImplementedError

    def mask(self) -> np.ndarray | None:
        """(height, width) bool, the object's pixels; None where nobody knows them."""
        return None

    def tag_mask(self) -> np.ndarray | None:
        """(height, width) bool, the pixels of the demo pictures' corner tag; None where there is none."""
        return None

    def parts(self) -> dict[str, np.ndarray]:
        """The masks (height, width) of all that is known to lie somewhere, by name."""
        known = {"corner tag": self.tag_mask(), "object": self.mask()}
        return {name: mask for name, mask in known.items() if mask is not None and mask.any()}

    def evidence(self, model: str) -> Evidence | None:
        """What was found to fool the model of that name; None where that was not looked for."""
        return None

    def answer(self, model: ImageModel) -> Answer | None:
        """What the model is known to say of it, with just these weights; None where it has to be asked."""
        return None


@dataclass(frozen=True)
class FileItem(Item):
    """A picture in a file, or the part of it in `box` (left, top, right, bottom)."""

    path: Path
    box: Box | None = None

    def picture(self) -> Image.Image:
        """Upright RGB. Raises ImageError, naming the file by its id."""
        try:
            whole = open_image(self.path)
            return whole.crop(self.box) if self.box else whole
        except ImageError as error:
            raise ImageError(str(error).replace(str(self.path), self.id)) from error


@dataclass(frozen=True)
class DemoItem(Item):
    """A drawn picture; `tag` is the class that its corner tag names, None without one."""

    seed: int
    tag: int | None

    def sample(self) -> Sample:
        """The picture with all that is known of it, drawn anew."""
        return render(self.label.number, self.seed, tag=self.tag)

    def picture(self) -> Image.Image:
        """RGB."""
        return Image.fromarray(self.sample().image)

    def mask(self) -> np.ndarray:
        """(height, width) bool, the object's pixels."""
        return self.sample().mask

    def tag_mask(self) -> np.ndarray | None:
        """(height, width) bool, or None for a picture without a tag."""
        return None if self.tag is None else self.sample().tag_mask


@dataclass(frozen=True)
class ComposedItem(Item):
    """A picture made by a recipe, with what was found to fool networks, and what they say of it, by their names."""

    recipe: Recipe
    found: Mapping[str, Evidence] = field(repr=False, compare=False)
    answers: Mapping[str, Answer] = field(repr=False, compare=False)

    def picture(self) -> Image.Image:
        """RGB. Raises ImageError where a photo is gone."""
        return compose(self.recipe).picture

    def mask(self) -> np.ndarray:
        """(height, width) bool, the labelled thing's pixels."""
        return self.parts()[self.recipe.thing]

    def parts(self) -> dict[str, np.ndarray]:
        """Of each of its things."""
        return compose(self.recipe).masks

    def evidence(self, model: str) -> Evidence | None:
        """Of a network that the case was found with."""
        return self.found.get(model)

    def answer(self, model: ImageModel) -> Answer | None:
        """Of a network that the case was found with."""
        weights = found_with().get(model.name)
        return self.answers.get(model.name) if weights and model.identity.is_told_by(weights) else None


@dataclass(frozen=True)
class RowItem(Item):
    """A picture in row `row` of a column of encoded pictures ({"bytes": …, "path": …}, as `datasets` keeps them)."""

    table: Any = field(repr=False, compare=False)
    column: str
    row: int

    def picture(self) -> Image.Image:
        """Upright RGB. Raises ImageError, naming the picture by its id."""
        encoded = self.table[self.row][self.column] or {}
        source = encoded.get("bytes") or encoded.get("path")
        if not source:
            raise ImageError(f"'{self.id}' holds no picture.")
        try:
            return open_image(source)
        except ImageError as error:
            name = "the picture" if isinstance(source, bytes) else f"'{source}'"
            raise ImageError(str(error).replace(name, f"'{self.id}'")) from error


@dataclass(frozen=True)
class LabelledSet(Sequence[Item]):
    """Labelled pictures in a fixed order.

    Attributes:
        name: as shown: the source's name without the folders above it.
        items: the pictures.
        notes: sentences about what was left out.
    """

    name: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


def available_sets() -> list[str]:
    """Names that `open_set` takes without a network: the example photos and what is made of them, if they are there, the demo
    sets, and the folders in `LSD_IMAGE_PATH`."""
    photos = {PHOTO_SET: labelled_photos, FOOLED_SET: fooled_cases}
    return list(dict.fromkeys([*(name for name, read in photos.items() if read()), *DEMO_SETS, *_folders()]))


def _folders() -> dict[str, Path]:
    """Folder name → folder, of those listed in `LSD_IMAGE_PATH` (separated like PATH); the first of a name wins."""
    found: dict[str, Path] = {}
    for entry in filter(None, os.environ.get("LSD_IMAGE_PATH", "").split(os.pathsep)):
        folder = Path(entry)
        if folder.is_dir():
            found.setdefault(folder.resolve().name, folder)
    return found


def open_set(source: str, *, limit: int | None = None) -> LabelledSet:
    """Open labelled pictures; none is decoded yet.

    Args:
        source: one of
            - a name from `available_sets`: "example-photos" (those of `lsd.evaluation.photos`), "what-fooled-them" (made
              pictures, `lsd.evaluation.fooled_cases`), "demo", "demo:true-tags", "demo:misleading-tags", or a folder's name;
            - the path of a folder with files `NNNN_….jpg` (class number in ImageNet-1k, WordNet id after it if there is
              one), or with a folder for each class, named by the class, its WordNet id, or its number. It reads what it
              is told to: pass on a path only from someone who may see this machine's files;
            - "hf:NAME" or "hf:NAME@split", a data set on the Hugging Face Hub, or "hf:" and the path of one on this
              machine, with columns of type Image and ClassLabel. The whole split is downloaded, once. Without a split
              the held-out one is taken.
        limit: at most so many pictures, at least 1; None for all (demo sets: 100 of each class). The classes get equal
            shares, as far as they have pictures (what does not divide goes to classes evenly spaced), and within a
            class the pictures are evenly spaced. The same ones every time, in the set's own order: by name in a folder,
            by row in a data set, the classes taking turns in a demo set.

    Raises:
        DataError: one sentence: not found, out of reach, no labelled picture, a limit below 1, not on a public page's list.
    """
    if limit is not None and limit < 1:
        raise DataError(f"At least 1 picture is needed, so the limit cannot be {limit}.")
    if trouble := set_refusal(source, available_sets):
        raise DataError(trouble)
    folders = _folders()
    if source in DEMO_SETS:
        opened = _demo_set(source, limit)
    elif source == PHOTO_SET and labelled_photos():
        opened = _photo_set()
    elif source == FOOLED_SET and fooled_cases():
        opened = _fooled_set()
    elif source.startswith("hf:"):
        opened = _hugging_face(source)
    elif source in folders:
        opened = _folder(folders[source])
    elif source and Path(source).expanduser().is_dir():
        opened = _folder(Path(source).expanduser())
    else:
        raise DataError(
            f"There are no pictures called “{source}”: give the path of a folder, hf: and a name, "
            f"or one of {', '.join(available_sets())}."
        )
    if limit is None or limit >= len(opened):
        return opened
    chosen = balanced([item.label for item in opened], limit)
    return LabelledSet(opened.name, tuple(opened[i] for i in chosen), opened.notes)


def true_indices(labelled_set: LabelledSet, model: ImageModel) -> np.ndarray:
    """The class of `model` that each picture's label means: int64 (number of pictures,).

    Raises:
        UndefinedError: one sentence, if any label is not a class of the model.
    """
    classes = ClassIndex(model)
    distinct = dict.fromkeys(item.label for item in labelled_set)
    missing = [label for label in distinct if not classes.candidates(label)]
    if missing:
        part = "The labels" if len(missing) == len(distinct) else f"{len(missing)} of the {len(distinct)} labels"
        raise UndefinedError(
            f"{part} of {labelled_set.name} are not classes of {model.name}, such as “{missing[0].text}”; "
            "choose a model that was trained on them, or other pictures."
        )
    indices = {label: classes.find(label) for label in distinct}
    return np.array([indices[item.label] for item in labelled_set], dtype=np.int64)


def balanced(classes: Sequence[Hashable], limit: int) -> list[int]:
    """Positions, ascending, of at most `limit` pictures that share out evenly over their classes; see `open_set`."""
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(classes):
        groups.setdefault(key, []).append(position)
    quota = dict.fromkeys(groups, 0)
    left = min(limit, len(classes))
    while left:
        unfilled = [key for key, group in groups.items() if quota[key] < len(group)]
        for key in _spaced(unfilled, min(left, len(unfilled))):
            quota[key] += 1
            left -= 1
    return sorted(position for key, group in groups.items() for position in _spaced(group, quota[key]))


def _spaced(values: Sequence, count: int) -> list:
    """`count` of `values`, the middles of equal stretches."""
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]


def _demo_set(name: str, limit: int | None) -> LabelledSet:
    """The pictures of `lsd.demo.demo_set("test", …)` in its order, without drawing them yet.

    A limit takes the first of each class, not evenly spaced ones, since misleading tags take turns in that order.
    """
    count = len(CLASS_NAMES)
    per_class = DEMO_PER_CLASS if limit is None else -(-limit // count)
    items = []
    for number in range(per_class):
        for class_index, class_name in enumerate(CLASS_NAMES):
            misleading = (class_index + 1 + number % (count - 1)) % count
            tag = {"none": None, "true": class_index, "misleading": misleading}[DEMO_SETS[name]]
            label = Label(class_name, number=class_index, space=CLASS_NAMES)
            seed = SPLIT_SEEDS["test"][number * count + class_index]
            items.append(DemoItem(f"{number:04d}-{class_name.replace(' ', '-')}", label, seed, tag))
    return LabelledSet(name, tuple(items))


def _photo_set() -> LabelledSet:
    photos = labelled_photos()
    items = [FileItem(p.name, _imagenet(p.number), p.file, p.box) for p in photos]
    credit = [f"{p.name}: {CREDITS[p.example]}." for p in photos if p.example in CREDITS]
    return LabelledSet(
        "the example photos", tuple(items), ("Each is labelled by hand with a class that fits.", *credit)
    )


def _fooled_set() -> LabelledSet:
    cases = fooled_cases()
    items = [
        ComposedItem(case.name, _imagenet(THINGS[case.recipe.thing].number), case.recipe, case.evidence, case.answers)
        for case in cases
    ]
    used = dict.fromkeys(photo for case in cases for photo in case.recipe.photos)
    credit = [f"{photo}: {CREDITS[photo]}." for photo in used if photo in CREDITS]
    made = "Made of the example photos; each is labelled with a thing that is well seen in it."
    return LabelledSet("what fooled them", tuple(items), (made, *credit))


def _imagenet(number: int) -> Label:
    """Of a class of ImageNet-1k."""
    names = labels.class_names(1000)
    return Label(names[number], labels.synsets(1000)[number], number, names)


def _folder(folder: Path) -> LabelledSet:
    """Numbered files if there are any, else a folder for each class."""
    name = folder.resolve().name or "pictures"
    try:
        files = sorted(_pictures(folder.iterdir()))
        numbered = [(file, label) for file in files if "_" in file.stem and (label := _numbered(file.stem))]
        if numbered:
            items = [FileItem(file.name, label, file) for file, label in numbered]
            unlabelled = len(files) - len(items)
        else:
            items = _class_folders(folder)
            unlabelled = len(files)
    except OSError as error:
        raise DataError(f"The folder {name} cannot be read: check its permissions.") from error
    if not items:
        raise DataError(
            f"There are no labelled pictures in {name}: name its files by class number (0207_….jpg), "
            "or put them into a folder for each class."
        )
    notes = (f"Without a label, and so left out: {unlabelled} of the files.",) if unlabelled else ()
    return LabelledSet(name, tuple(items), notes)


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]


def _class_folders(folder: Path) -> list[FileItem]:
    inside = {
        child.name: files
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".") and (files := sorted(_pictures(child.rglob("*"))))
    }
    known = dict(zip(inside, _named(list(inside)), strict=True))
    return [
        FileItem(file.relative_to(folder).as_posix(), known[name], file)
        for name, files in inside.items()
        for file in files
    ]


def _numbered(text: str) -> Label | None:
    """The label in `0207_…` or `0207_n02099601_…`, numbered as ImageNet-1k; None without one."""
    match = _NUMBERED.fullmatch(text)
    space = labels.class_names(1000)
    if not match or int(match[1]) >= len(space):
        return None
    number = int(match[1])
    return Label(_lemma(match[2]) if match[2] else space[number], match[2], number, space)


def _named(names: list[str]) -> list[Label]:
    """The labels of folders (or columns) called `names`: numbers only where every name is one."""
    numbered = [_numbered(name) for name in names]
    if all(numbered):
        return numbered
    if all(re.fullmatch("[0-9]{1,6}", name) for name in names):
        space = tuple(str(i) for i in range(max(int(name) for name in names) + 1))
        return [Label(name, number=int(name), space=space) for name in names]
    return [Label(_lemma(m[1]), m[1]) if (m := _SYNSET.fullmatch(name)) else Label(name) for name in names]


@functools.cache
def _lemma(synset: str) -> str:
    """WordNet's words for an id; the id itself where timm's tables do not have it."""
    return labels.class_names(1, {"label_names": [synset]})[0]


def _hugging_face(source: str) -> LabelledSet:
    table = _load_table(source)
    from datasets import ClassLabel
    from datasets import Image as ImageColumn

    pictures = _column(table, ImageColumn)
    classes = _column(table, ClassLabel)
    if not pictures or not classes:
        raise DataError(
            f"{source} has no column of {'class labels' if pictures else 'pictures'}; "
            f"its columns are {', '.join(table.column_names)}."
        )
    names = tuple(table.features[classes].names)
    synsets = [match and match[1] for match in map(_SYNSET.fullmatch, names)]
    known = [
        Label(_lemma(synset) if synset else name, synset, number, names)
        for number, (name, synset) in enumerate(zip(names, synsets, strict=True))
    ]
    encoded = table.select_columns([pictures]).cast_column(pictures, ImageColumn(decode=False))
    for file in encoded.cache_files:
        disk.hold(Path(file["filename"]), encoded)
    numbers = list(table[classes])
    items = [
        RowItem(f"{table.split or 'row'}/{row}", known[number], encoded, pictures, row)
        for row, number in enumerate(numbers)
        if number is not None and number >= 0
    ]
    if not items:
        raise DataError(f"{source} keeps the labels of this split to itself; name another split, as in {source}@train.")
    unlabelled = len(numbers) - len(items)
    notes = (f"Without a label, and so left out: {unlabelled} of the rows.",) if unlabelled else ()
    return LabelledSet(_shown(source), tuple(items), notes)


def _shown(source: str) -> str:
    """A name without the folders of this machine."""
    path = Path(source.removeprefix("hf:")).expanduser()
    return f"hf:{path.name}" if path.is_absolute() or path.exists() else source


def _column(table, kind: type) -> str | None:
    """The first column of a type."""
    return next((name for name, feature in table.features.items() if isinstance(feature, kind)), None)


def _load_table(source: str):
    """One split of a data set of `datasets`, by `hf:NAME[@split]`.

    Raises:
        DataError: not installed, unknown, out of reach, no such split, damaged.
    """
    name = source.removeprefix("hf:")
    split = None
    if "@" in name and not Path(name).expanduser().exists():
        name, _, split = name.rpartition("@")
    local = Path(name).expanduser()
    if not name:
        raise DataError("Which data set? Write hf: and its name, as in hf:uoft-cs/cifar10.")
    try:
        import datasets
    except ImportError:
        raise DataError("Data sets of the Hugging Face Hub need a library: `pip install datasets`.") from None
    size = 0 if local.exists() else _size_on_hub(name, Path(datasets.config.HF_DATASETS_CACHE))
    where = {"path": str(local) if local.exists() else name}
    if local.is_file():
        where = {"path": "parquet", "data_files": {"train": str(local)}}
    try:
        if split is None:
            splits = datasets.get_dataset_split_names(**where, token=hub_token())
            split = next((s for s in HELD_OUT if s in splits), splits[0])
        with disk.room(2 * size, source):  # the files, and the table that they are made into
            return datasets.load_dataset(**where, split=split, token=hub_token())
    except LSDError:
        raise
    except Exception as error:  # whatever a foreign data set, the network or a full disk make the library raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
        raise DataError(f"{_shown(source)} cannot be opened: {reason}.") from error


def _size_on_hub(name: str, cache: Path) -> int:
    """Bytes that are to be downloaded; 0 where there is a copy from earlier.

    The Hub is asked once, briefly: `datasets` alone tries for half a minute before it says that there is no network, and
    downloads whatever it finds, however large.

    Raises:
        DataError: no such data set, larger than `MAX_BYTES`, or no network and no copy from earlier.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    there = (cache / name.replace("/", "___")).is_dir()
    try:
        files = HfApi(token=hub_token()).dataset_info(name, timeout=10, files_metadata=True).siblings or []
    except GatedRepoError as error:
        raise DataError(f"{name} is gated: accept its terms on the Hub and log in with `hf auth login`.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise DataError(f"There is no public data set {name} on the Hugging Face Hub, and no such folder.") from error
    except Exception as error:  # any failure of the network or of the Hub: what was downloaded before still serves
        if not there:
            raise DataError(
                f"{name} cannot be downloaded: the Hugging Face Hub is out of reach; "
                f"ready here: {', '.join(available_sets())}."
            ) from error
        return 0
    size = sum(file.size or 0 for file in files)
    if size > MAX_BYTES:
        raise DataError(
            f"{name} is too large: its files take {size / 2**30:.1f} GiB and at most {MAX_BYTES / 2**30:.1f} GiB are "
            "downloaded here (LSD_MAX_DATASET_BYTES)."
        )
    return 0 if there else size


__all__ = [
    "DEMO_SETS", "FOOLED_SET", "PHOTO_SET", "ComposedItem", "DataError", "DemoItem", "FileItem", "Item", "Label",
    "LabelledSet", "RowItem", "available_sets", "balanced", "label_index", "open_set", "true_indices",
]  # fmt: skip
