"""Expected gradients: integrated gradients whose baselines are photos, all of them at once."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.images import example_images, find_images, open_image, prepare
from lsd.models import ImageModel
from lsd.progress import report
from lsd.saliency.attribution import Attribution
from lsd.saliency.gradients import Moments, differentiate, logits_of, method
from lsd.saliency.targets import Target


@method
def expected_gradients(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    *,
    samples: int = 32,
    photos: str = "",
    seed: int = 0,
    batch_size: int = 8,
) -> list[Attribution]:
    """E[(x − b) ∂f/∂x(b + α(x − b))] over photos b and α ~ U(0, 1) (Erion et al., 2021): shares of f(x) − E f(b).

    The completeness gap Σ − (f(x) − mean f(b)), over the photos that were drawn, is what the random points on the way missed.

    Args:
        samples: pairs of a photo and a point that are drawn, photos with replacement; all pictures are given the same.
        photos: a folder, at any depth; empty for the example photos (`lsd.images.example_images`). Each is brought to the
            network's input as it is evaluated.
        seed: of what is drawn.
        batch_size: points in one pass; bounds the memory.

    Raises:
        UndefinedError: no photos, or settings out of range.
        LSDError: a photo that cannot be read.
    """
    if samples < 1 or batch_size < 1:
        raise UndefinedError(f"samples and batch_size must be at least 1, not {samples} and {batch_size}.")
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same on every device
    files = baseline_photos(photos)
    drawn = torch.randint(len(files), (samples,), generator=generator)
    at = torch.rand(samples, generator=generator).to(images)
    chosen, place = drawn.unique(return_inverse=True)
    base = torch.stack([_input(model, files[i], images) for i in chosen.tolist()])
    values, errors = [], []
    for i, image in enumerate(images):
        own = [target.of(i) for target in targets]
        moments = [Moments() for _ in own]
        for start in range(0, samples, batch_size):
            part = slice(start, start + batch_size)
            far = image - base[place[part]]
            path = image - (1 - at[part]).view(-1, 1, 1, 1) * far
            gradients = differentiate(model, path, own)[0]
            for moment, gradient in zip(moments, gradients, strict=True):
                moment.add(gradient * far)
            del path, far, gradients  # before the next pass, not after it
            report(i * samples + min(start + batch_size, samples), len(images) * samples)
        values.append(torch.stack([moment.mean for moment in moments]))
        errors.append(torch.stack([moment.relative_error for moment in moments]))
    at_images, at_photos = logits_of(model, images), logits_of(model, base)
    settings = {"samples": samples, "photos": photos, "seed": seed, "batch_size": batch_size}
    return [
        Attribution(
            v, "expected_gradients", settings, t, t(at_images), passes=samples,
            completeness_gap=v.sum((1, 2, 3)) - (t(at_images) - _mean_over(t, at_photos, place, len(images))),
            standard_error=e, notes=(f"{len(chosen)} photos of {photos or 'the examples'} were the baselines.",),
        )
        for v, t, e in zip(torch.stack(values, 1), targets, torch.stack(errors, 1), strict=True)
    ]  # fmt: skip


def baseline_photos(folder: str) -> list[Path]:
    """The photos of a folder, or the example photos; in an order that is always the same.

    Raises:
        UndefinedError: none there.
    """
    found = find_images(folder) if folder else list(example_images().values())
    if not found:
        missing = f"There are no photos in {folder}" if folder else "The example photos are not installed here"
        raise UndefinedError(f"{missing}, and expected gradients need some; name a folder that has them.")
    return found


def _input(model: ImageModel, file: Path, images: Tensor) -> Tensor:
    """A photo as the network is shown it, (3, H, W)."""
    shown = torch.from_numpy(prepare(open_image(file), model.spec)).to(images)
    if shown.shape != images.shape[1:]:
        have, takes = (" × ".join(map(str, one.shape[-2:])) for one in (images, shown))
        raise UndefinedError(
            f"The pictures are {have} pixels, and {model.name} takes {takes}, as the photos are brought to."
        )
    return shown


def _mean_over(target: Target, logits: Tensor, place: Tensor, count: int) -> Tensor:
    """(count,): each picture's own target, averaged over the photos that were drawn."""
    return torch.stack([target.of(i)(logits)[place].mean() for i in range(count)])
