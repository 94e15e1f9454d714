"""Pictures made again from their rows alone, and held against the ones that are stored."""

import fnmatch
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from gallery import pictures, shards
from gallery.index import find_shards
from lsd import precision
from lsd.errors import LSDError, ModelError
from lsd.features.ascent import ascend_jobs
from lsd.features.bundle import pixels_sha256
from lsd.features.pictures import Job
from lsd.features.recipes import Recipe
from lsd.features.units import other_models, parse
from lsd.layers import as_said
from lsd.models import get_model, holds
from lsd.said import NOTHING
from lsd.weights import availability
from precompute.tasks import all_said
from precompute.work import one_sentence

SIMILAR = 0.9  # structural similarity from which two pictures count as one
UNAVAILABLE = "unavailable"
_SHOWS = 0.5  # from which a stored picture can be what WebP left of those very pixels, even at the lowest quality (.58)


@dataclass(frozen=True)
class Check:
    """One row made again.

    Attributes:
        unit_id: which; of what is `UNAVAILABLE`, the model.
        verdict: "identical" (the same 8-bit pixels before WebP, and the stored picture shows them), "similar" (structural
            similarity ≥ `SIMILAR`), "different", "impossible" with the reason, or `UNAVAILABLE`: the model's weights cannot be
            had here.
        similarity: structural similarity of the stored picture and the new one, which has been through WebP as well;
            None where there is nothing to compare.
        reason: a sentence, "" unless impossible or unavailable.
    """

    unit_id: str
    verdict: str
    similarity: float | None = None
    reason: str = ""


def parse_sample(text: str) -> float | int:
    """ "1%" → .01, "40" → 40 rows.

    Raises:
        LSDError: neither.
    """
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else int(text)
    except ValueError as error:
        raise LSDError(f"“{text}” is no sample; write a share such as 1%, or a number of rows.") from error
    if not value > 0 or (text.endswith("%") and value > 1):
        raise LSDError(f"A sample is more than nothing and at most 100%, not {text}.")
    return value


def verify(folder: Path, sample: float | int = 0.01, seed: int = 0, models: Sequence[str] = ("*",)) -> Iterator[Check]:
    """Make a random sample of a folder's rows again, whole batches of them, and compare.

    First comes a check for each model whose weights cannot be had here, or are others than the rows'; the sample is of the
    other models' rows. A batch is made again with the number of pictures and of threads that it had, because both can
    change the last bits, of which an ascent makes much. Neighbours that are gone (no row is left of them) get a stand-in.

    Args:
        sample: a share of the rows below 1, or a number of rows; rounded up to whole batches.
        seed: which batches.
        models: names or wildcards; only their rows are looked at.

    Raises:
        LSDError: there is nothing to verify.
    """
    batches = [b for b in _batches(folder) if any(fnmatch.fnmatchcase(b.model, pattern) for pattern in models)]
    if not batches:
        those = "" if tuple(models) == ("*",) else f" of {', '.join(models)}"
        raise LSDError(f"There are no pictures{those} in {folder}; python -m precompute run makes some.")
    lacking = {batch.weights: _lacking(*batch.weights) for batch in batches}
    for (model, *_), reason in sorted(lacking.items()):
        if reason:
            yield Check(model, UNAVAILABLE, None, reason)
    batches = [batch for batch in batches if not lacking[batch.weights]]
    total = sum(len(batch.rows) for batch in batches)
    wanted = sample if isinstance(sample, int) else math.ceil(sample * total)
    random.Random(seed).shuffle(batches)
    done, gone = 0, set()
    for batch in batches:
        if done >= wanted:
            return
        if batch.weights in gone:
            continue
        try:
            yield from _again(batch.rows)
        except ModelError as error:  # it was to be downloaded
            gone.add(batch.weights)
            yield Check(batch.model, UNAVAILABLE, None, str(error))
        else:
            done += len(batch.rows)


@dataclass(frozen=True)
class _Batch:
    """Rows that were made together, (shard, place in the shard), in their order; and the weights that made them."""

    weights: tuple[str, str, str]  # model, digest, SHA-256
    rows: tuple[tuple[Path, int], ...]

    @property
    def model(self) -> str:
        return self.weights[0]


_NEEDED = ("task", "batch", "batch_place", "status", "model", "weights_digest", "weights_sha256")


def _batches(folder: Path) -> list[_Batch]:
    found: dict[tuple, dict[int, tuple[Path, int]]] = defaultdict(dict)
    for path in find_shards(folder):
        for i, row in enumerate(shards.read_rows(path, _NEEDED)):
            if row["status"] != "failed":
                weights = row["model"], row["weights_digest"] or "", row["weights_sha256"] or ""
                found[row["task"], row["batch"], weights][row["batch_place"]] = path, i
    return [_Batch(key[-1], tuple(batch[place] for place in sorted(batch))) for key, batch in sorted(found.items())]


def _lacking(model: str, digest: str, sha256: str) -> str:
    """Why a model cannot be had with these weights; "" if it can, or is to be downloaded."""
    there = availability(model)
    if not there.can_load:
        return there.reason
    try:
        if there.location is None or holds(there.location, digest, sha256):
            return ""
    except LSDError as error:
        return str(error)
    return f"The weights of {model} here are not the ones that the pictures were made from."


def _again(batch: Sequence[tuple[Path, int]]) -> Iterator[Check]:
    """A check for each row of a batch. Raises ModelError if its model cannot be had."""
    tables = {path: shards.read_table(path) for path in dict.fromkeys(path for path, _ in batch)}
    rows = [tables[path].slice(i, 1).to_pylist()[0] for path, i in batch]
    threads, kind, deterministic = torch.get_num_threads(), precision.chosen(), precision.is_deterministic()
    try:
        environment = json.loads(rows[0]["environment"])
        torch.set_num_threads(environment["threads"])
        if "precision" in environment:  # it was a GPU
            precision.choose(environment["precision"], deterministic=environment["deterministic"])
        made = _make(rows)
    except ModelError:
        raise
    except Exception as error:  # a recipe of another version, a device that gives up
        for row in rows:
            yield Check(row["unit_id"], "impossible", None, one_sentence(error))
        return
    finally:
        torch.set_num_threads(threads)
        precision.choose(kind, deterministic=deterministic)
    for row in rows:
        yield _compare(row, made[row["unit"], row["seed"]])


def _make(rows: Sequence[dict]) -> dict[tuple[str, int], np.ndarray]:
    """(unit, seed) → pixels, of the rows of one batch."""
    first = rows[0]
    model = get_model(first["model"])
    if not model.identity.is_of(first["weights_digest"], first["weights_sha256"]):
        raise ModelError(f"The weights of {model.name} here are not the ones that the pictures were made from.")
    said = dict(all_said(json.loads(first["said"] or "{}")))
    model = as_said(model, said.get(model.name, NOTHING))
    recipe = Recipe.from_dict(json.loads(first["recipe_json"]))
    of_rows = {row["batch_place"]: Job(parse(row["unit"]), row["seed"]) for row in rows}
    stand_in = next(iter(of_rows.values()))
    jobs = [of_rows.get(place, stand_in) for place in range(first["batch_size"])]
    names = other_models((job.unit for job in jobs), model.name)
    others = [as_said(get_model(name), said.get(name, NOTHING)) for name in names]
    made = {}
    for snapshot in ascend_jobs(
        model, jobs, recipe, others=others, batch_size=first["batch_size"], every=recipe.steps,
        half=precision.halves(model.device),
    ):  # fmt: skip
        made |= {(str(p.job.unit), p.job.seed): p.pixels for p in snapshot.finished}
    return made


def _compare(row: dict, made: np.ndarray) -> Check:
    try:
        stored = pictures.pixels(row["picture"]["bytes"])
    except LSDError as error:
        return Check(row["unit_id"], "impossible", None, str(error))
    if stored.shape != made.shape:
        return Check(row["unit_id"], "different")
    new = pictures.pixels(pictures.webp(made))
    similarity = float(structural_similarity(stored, new, channel_axis=2))
    if pixels_sha256(made) == row["pixels_sha256"] and similarity >= _SHOWS:
        return Check(row["unit_id"], "identical", similarity)
    return Check(row["unit_id"], "similar" if similarity >= SIMILAR else "different", similarity)
