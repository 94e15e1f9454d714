"""The loop: from noise, up the gradient of a unit, to the picture that it responds to most.

Many units and seeds share a batch, but nothing of one reaches another: noise and views come from a generator of each
picture's own, the optimisers work number by number, and the network is in eval mode. So what a picture becomes depends
on its model, unit, recipe and seed, and not on its neighbours (but for rounding, which differs with the batch's shape).
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.features import objectives
from lsd.features.batch import Batch
from lsd.features.pictures import Job, Snapshot
from lsd.features.recipes import Recipe
from lsd.features.units import SIMILARITY, Unit, check, parse
from lsd.layers import find_layer
from lsd.memory import is_out_of_memory
from lsd.models import ImageModel
from lsd.precision import undisturbed_steps

_CPU_BATCH = 8  # beyond this a CPU gains nothing, and the first pictures come later
_GPU_BATCH = 256  # where the memory suffices, which is tried before the work begins


def ascend(
    model: ImageModel,
    units: Sequence[Unit | str],
    recipe: Recipe,
    seeds: Sequence[int] = (0,),
    **options,
) -> Iterator[Snapshot]:
    """Make a picture for each unit and seed: `ascend_jobs`, with its options, for all pairs of the two.

    Args:
        model: whose units they are.
        units: units, or their strings.
        seeds: every unit is made once with each.
    """
    units = [parse(unit) if isinstance(unit, str) else unit for unit in units]
    yield from ascend_jobs(model, [Job(unit, seed) for unit in units for seed in seeds], recipe, **options)


def ascend_jobs(
    model: ImageModel,
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    others: Sequence[ImageModel] = (),
    photo: Tensor | None = None,
    vector: Tensor | None = None,
    start_from_photo: bool = False,
    batch_size: int | Sequence[int] | None = None,
    every: int = 16,
    half: bool = False,
    compiled: bool = False,
) -> Iterator[Snapshot]:
    """Make pictures, in batches of the next ones in turn; yields how they form, and the finished ones.

    Args:
        model: whose units they are.
        others: further models that units name (`MODEL::UNIT`).
        photo: (1, 3, h, w) in [0, 1]: what inversions, caricatures and similarities are held against, and where to start.
        vector: (D,): what similarities are held against in the photo's place.
        start_from_photo: begin at the photo instead of noise (DeepDream, accentuation).
        batch_size: pictures at once; or those of each batch in turn, the last for all that are left; None for what suits
            the device. Halved whenever the memory does not suffice; on a GPU that is found out by one step at the final
            size, before any picture is begun. What was really run is the length of the snapshots' `jobs`.
        every: steps between two snapshots.
        half: run the network in bfloat16 (for GPUs that have it).
        compiled: run it through `torch.compile` (class units only; see `prepare`; not with `recipe.gradient`).

    Closing the iterator stops the work; `lsd.progress.report` is told of every step, and may stop it too.

    Raises:
        UndefinedError: a unit that the model does not have, one that needs a photo and gets none, or settings that exclude
            each other.
    """
    models = {"": model, model.name: model} | {other.name: other for other in others}
    for unit in dict.fromkeys(job.unit for job in jobs):
        check(unit, model)
        for leaf in unit.leaves():
            if leaf.model not in models:
                raise UndefinedError(f"{leaf} belongs to {leaf.model}, which is not among the models that are loaded.")
            if leaf.model:
                check(leaf, models[leaf.model])
    units = [job.unit for job in jobs]
    if photo is None and (start_from_photo or objectives.needs_photo(units, vector is not None)):
        raise UndefinedError("Inversion, caricature, similarity and a start from a photo need a photo; give one.")
    if compiled and objectives.has_kind(units, [SIMILARITY]):
        raise UndefinedError("Of a compiled network only the outputs are seen: leave it off for similarities.")
    if compiled and recipe.gradient:
        raise UndefinedError("A compiled network's gradient cannot be made gentler: leave one of the two off.")
    if recipe.diversity:
        find_layer(model, recipe.diversity_layer)
    chosen = batch_of(model) if batch_size is None else batch_size
    sizes = [chosen] if isinstance(chosen, int) else list(chosen)
    if not sizes or min(sizes) < 1:
        raise UndefinedError(f"The batch size is at least 1, not {batch_size}.")
    if recipe.diversity and jobs:  # the seeds of a unit see each other, so they stay together
        seeds = len({job.seed for job in jobs})
        sizes = [max(size // seeds, 1) * seeds for size in sizes]
    make = functools.partial(
        Batch, models, recipe=recipe, photo=photo, vector=vector, start_from_photo=start_from_photo, half=half,
        compiled=compiled,
    )  # fmt: skip
    steps = _batch_by_batch(make, jobs, recipe, sizes, every, rehearse=batch_size is None)
    yield from undisturbed_steps(steps, model.device)


def batch_of(model: ImageModel) -> int:
    """How many pictures are made at once where nobody says how many."""
    return _GPU_BATCH if model.device.type == "cuda" else _CPU_BATCH


def _batch_by_batch(
    make: Callable[..., Batch], jobs: Sequence[Job], recipe: Recipe, sizes: Sequence[int], every: int, *, rehearse: bool
) -> Iterator[Snapshot]:
    """The snapshots of one batch after the other, each halved where the memory does not suffice."""
    planned = iter(sizes)
    size = next(planned)
    done, tried = 0, None
    while done < len(jobs):
        batch = _alike(jobs[done : done + size], recipe)
        try:
            made = make(jobs=batch)
            if rehearse and size != tried:
                made.rehearse()
                tried = size
            yield from made.run(every, done, len(jobs))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or len(batch) == 1 or recipe.diversity:
                raise
            size = len(batch) // 2
        else:
            done, size = done + len(batch), next(planned, size)
            continue
        made = None  # and the error with its frames is gone, and all that they held
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _alike(jobs: Sequence[Job], recipe: Recipe) -> Sequence[Job]:
    """The first jobs that can share a batch: where a stage shows the network less, units that have a place are not among others."""
    placed = [objectives.has_place(job.unit) for job in jobs]
    if all(stage.input == 1 for stage in recipe.stages) or len(set(placed)) == 1:
        return jobs
    return jobs[: placed.index(not placed[0])]
