"""Where models are wrong: every picture of a labelled set through every model, and the search among the mistakes."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import astuple, dataclass
from math import nan, sqrt

import numpy as np
import torch

from lsd import labels
from lsd.errors import ImageError, UndefinedError
from lsd.evaluation.fooled_cases import Evidence
from lsd.evaluation.labelled import Item, LabelledSet, true_indices
from lsd.images import InputSpec, prepare
from lsd.models import ImageModel, get_model

Z95 = 1.959964  # the 97.5th percentile of the normal distribution

SCANNED = 16  # pictures in one pass


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be decoded, and why, in one sentence."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Accuracy:
    """A share of pictures.

    Attributes:
        correct, total: numbers of pictures.
        low, high: Wilson's 95% interval of the share.
    """

    correct: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """correct / total, in [0, 1]; NaN when there were no pictures."""
        return self.correct / self.total if self.total else nan


@dataclass(frozen=True)
class Prediction:
    """What one model says of one picture.

    Attributes:
        model: its name.
        item: the picture.
        true, predicted: indices among the model's classes; `true_name` and `predicted_name` in words.
        probability, true_probability: the model's, of the predicted and of the true class, in [0, 1].
        wrong_by: how many of the scan's models are wrong about this picture.
    """

    model: str
    item: Item
    true: int
    true_name: str
    predicted: int
    predicted_name: str
    probability: float
    true_probability: float
    wrong_by: int

    @property
    def evidence(self) -> Evidence | None:
        """What was found to fool the model here; None where that was not looked for, or the model answers otherwise now."""
        found = self.item.evidence(self.model)
        return found if found and found.answer.said == self.predicted else None


@dataclass(frozen=True, eq=False)
class ScanResult:
    """All predictions of a scan, M models by n pictures that could be read. No picture is kept.

    Attributes:
        name: of the labelled set.
        models: the M models' names.
        class_names: of each model, all its classes.
        items: the n pictures, in the set's order.
        true, predicted: (M, n) int64, indices among each model's own classes.
        probability, true_probability: (M, n) float32, of the predicted and of the true class.
        unreadable: the pictures that could not be decoded, which count nowhere.
    """

    name: str
    models: tuple[str, ...]
    class_names: tuple[tuple[str, ...], ...]
    items: tuple[Item, ...]
    true: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    true_probability: np.ndarray
    unreadable: tuple[Unreadable, ...]

    @property
    def wrong(self) -> np.ndarray:
        """(M, n) bool."""
        return self.predicted != self.true

    @property
    def wrong_by(self) -> np.ndarray:
        """(n,) int64: how many models are wrong about each picture."""
        return self.wrong.sum(axis=0)

    def row(self, model: str) -> int:
        """The row of the model called `model`. Raises UndefinedError for one that was not scanned."""
        if model not in self.models:
            raise UndefinedError(f"{model} is not among the scanned models, {', '.join(self.models)}.")
        return self.models.index(model)

    def accuracy(self, model: str) -> Accuracy:
        """The share of the pictures that `model` gets right. Raises UndefinedError for one that was not scanned."""
        wrong = self.wrong[self.row(model)]
        return accuracy(int((~wrong).sum()), len(wrong))

    def prediction(self, row: int, column: int) -> Prediction:
        """What the model of a row says of the picture of a column."""
        true, predicted = int(self.true[row, column]), int(self.predicted[row, column])
        names = self.class_names[row]
        return Prediction(
            model=self.models[row],
            item=self.items[column],
            true=true,
            true_name=labels.short(names[true]),
            predicted=predicted,
            predicted_name=labels.short(names[predicted]),
            probability=float(self.probability[row, column]),
            true_probability=float(self.true_probability[row, column]),
            wrong_by=int(self.wrong[:, column].sum()),
        )


@dataclass(frozen=True)
class ScanProgress:
    """How far a scan is.

    Attributes:
        done, total: numbers of pictures.
        unreadable: the pictures so far that could not be decoded.
        result: of the pictures so far; None before the first.
    """

    done: int
    total: int
    unreadable: tuple[Unreadable, ...] = ()
    result: ScanResult | None = None


def scan(
    models: Sequence[str | ImageModel], labelled_set: LabelledSet, *, batch_size: int = SCANNED
) -> Iterator[ScanProgress]:
    """Classify every picture with every model. A generator: nothing runs before the first step, closing it stops.

    Args:
        models: names, as `lsd.models.load_model` takes them, or models; one named twice counts once.
        labelled_set: the pictures. Each is decoded once for all models, and dropped; one that cannot be decoded is
            reported and left out. Of what all models are known to say, nobody is asked, and nothing is decoded.
        batch_size: pictures in one pass, at least 1: bounds the memory, and changes nothing else.

    Yields:
        Progress with `done` 0 once the models are loaded, then after each batch, with the result so far.

    Raises:
        UndefinedError: no models or an impossible batch size, a model whose classes are not the set's labels, or one
            that gives numbers that are not finite.
        ModelError: a model that cannot be had.
    """
    loaded = _load(models)
    if batch_size < 1:
        raise UndefinedError(f"batch_size must be at least 1, not {batch_size}.")
    truth = np.stack([true_indices(labelled_set, model) for model in loaded])
    total = len(labelled_set)
    kept: list[int] = []
    unreadable: list[Unreadable] = []
    batches = [np.empty((3, len(loaded), 0))]

    def so_far(done: int) -> ScanProgress:
        predicted, probability, true_probability = np.concatenate(batches, axis=2)
        result = ScanResult(
            name=labelled_set.name,
            models=tuple(model.name for model in loaded),
            class_names=tuple(model.class_names for model in loaded),
            items=tuple(labelled_set[i] for i in kept),
            true=truth[:, kept],
            predicted=predicted.astype(np.int64),
            probability=probability.astype(np.float32),
            true_probability=true_probability.astype(np.float32),
            unreadable=tuple(unreadable),
        )
        return ScanProgress(done, total, tuple(unreadable), result)

    yield ScanProgress(0, total)
    for start in range(0, total, batch_size):
        positions = range(start, min(start + batch_size, total))
        known = {position: [labelled_set[position].answer(model) for model in loaded] for position in positions}
        asked = [position for position in positions if None in known[position]]
        inputs, read, failed = _prepared(labelled_set, asked, {model.spec for model in loaded})
        told = np.full((3, len(loaded), len(positions)), np.nan)
        if read:
            places = [position - start for position in read]
            told[:, :, places] = np.stack(
                [_classify(m, inputs[m.spec], truth[k, read]) for k, m in enumerate(loaded)], axis=1
            )
        for position in set(positions) - set(asked):
            told[:, :, position - start] = np.array([astuple(one) for one in known[position]]).T
        there = [position for position in positions if position not in asked or position in read]
        kept += there
        unreadable += failed
        batches.append(told[:, :, [position - start for position in there]])
        yield so_far(positions.stop)
    if not total:
        yield so_far(0)


def asked_about(models: Sequence[ImageModel], labelled_set: LabelledSet) -> int:
    """How many of a set's pictures the models have to be asked about, as it is not known what all of them say (`Item.answer`)."""
    return sum(any(item.answer(model) is None for model in models) for item in labelled_set)


def _load(models: Sequence[str | ImageModel]) -> list[ImageModel]:
    loaded = {}
    for model in models:
        model = get_model(model) if isinstance(model, str) else model
        if loaded.setdefault(model.name, model) is not model:
            raise UndefinedError(f"Two models are called {model.name}; give them different names.")
    if not loaded:
        raise UndefinedError("A scan needs at least one model.")
    return list(loaded.values())


def _prepared(
    labelled_set: LabelledSet, positions: Sequence[int], specs: set[InputSpec]
) -> tuple[dict[InputSpec, torch.Tensor], list[int], list[Unreadable]]:
    """Inputs (N, 3, H, W) for each spec, the positions of the N pictures that could be read, and the others."""
    cut: dict[InputSpec, list[np.ndarray]] = {spec: [] for spec in specs}
    read, failed = [], []
    for position in positions:
        item = labelled_set[position]
        try:
            picture = item.picture()  # one at a time, since the files may be large
        except ImageError as error:
            failed.append(Unreadable(item, str(error)))
            continue
        read.append(position)
        for spec in specs:
            cut[spec].append(prepare(picture, spec))
    return {spec: torch.from_numpy(np.stack(parts)) for spec, parts in cut.items() if parts}, read, failed


def _classify(model: ImageModel, images: torch.Tensor, true: np.ndarray) -> np.ndarray:
    """(3, N) float64: predicted class, its probability, the true class's probability."""
    probabilities = model.probabilities(images).double().cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise UndefinedError(f"{model.name} gave probabilities that are not finite; leave it out of the scan.")
    pictures = np.arange(len(true))
    predicted = probabilities.argmax(axis=1)
    return np.stack([predicted, probabilities[pictures, predicted], probabilities[pictures, true]])


def accuracy(correct: int, total: int) -> Accuracy:
    """A share with Wilson's 95% interval, which stays inside [0, 1] and holds for few pictures too.

    Without pictures the interval is all of [0, 1].
    """
    if not total:
        return Accuracy(0, 0, 0.0, 1.0)
    share = correct / total
    scale = 1 + Z95**2 / total
    centre = (share + Z95**2 / (2 * total)) / scale
    half = Z95 * sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2)) / scale
    return Accuracy(correct, total, max(0.0, centre - half), min(1.0, centre + half))


SORTS = {
    "confidence": lambda p: -p.probability,
    "margin": lambda p: p.true_probability - p.probability,
    "true probability": lambda p: p.true_probability,
    "wrong by": lambda p: -p.wrong_by,
    "set": lambda p: 0,
}
"""Orders of `select`: surest of the wrong class first; furthest from the true class; true class least probable; most
models wrong; as in the set. What ties stays in the order of the models, then of the set."""


def select(
    result: ScanResult,
    model: str | None = None,
    true: int | str | None = None,
    predicted: int | str | None = None,
    sort: str = "confidence",
    *,
    wrong_by: Container[int] | None = None,
) -> list[Prediction]:
    """The mistakes that fit every condition given.

    Args:
        model: only this one's; None for all models'.
        true, predicted: only these classes, by index in the model's own numbering or by name (`labels.find_class`).
        sort: one of `SORTS`.
        wrong_by: only pictures about which so many models are wrong: {1} for those that a single model gets wrong,
            range(2, …) for those that several do.

    Raises:
        UndefinedError: a model that was not scanned, a class that it does not have, or an unknown order.
    """
    if sort not in SORTS:
        raise UndefinedError(f"There is no order “{sort}”; choose one of {', '.join(SORTS)}.")
    counts = result.wrong_by
    chosen = []
    for row in range(len(result.models)) if model is None else [result.row(model)]:
        fits = result.wrong[row].copy()
        for wanted, found in ((true, result.true[row]), (predicted, result.predicted[row])):
            if wanted is not None:
                fits &= found == labels.find_class(result.class_names[row], wanted)
        chosen += [
            result.prediction(row, column)
            for column in np.flatnonzero(fits)
            if wrong_by is None or int(counts[column]) in wrong_by
        ]
    return sorted(chosen, key=SORTS[sort])


def confusions(result: ScanResult, model: str) -> list[tuple[int, int, int]]:
    """(true index, predicted index, number of pictures) of a model's mistakes, the most frequent first.

    Raises:
        UndefinedError: a model that was not scanned.
    """
    row = result.row(model)
    wrong = result.wrong[row]
    pairs = zip(result.true[row][wrong].tolist(), result.predicted[row][wrong].tolist(), strict=True)
    return sorted(((*pair, n) for pair, n in Counter(pairs).items()), key=lambda c: (-c[2], c[:2]))
