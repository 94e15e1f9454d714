"""One batch of pictures on its way up: what a step does, who is done early, who gets a fresh start, who stays dead.

Nothing of one picture reaches another; see `ascent`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.features import objectives, parameterizations, transforms
from lsd.features.pictures import Job, Picture, Snapshot, generator, to_pixels
from lsd.features.prepare import prepare
from lsd.features.recipes import Recipe
from lsd.features.redirect import ReluRedirect
from lsd.features.regularizers import BatchNormStatistics, batch_norms, penalty
from lsd.features.soften import soften
from lsd.layers import Tap, find_layer, run_to, to_grid
from lsd.models import ImageModel
from lsd.progress import report

_FRESH_STARTS = 2  # how often a picture that no gradient reaches begins again from stronger noise
_LOOK_AGAIN = 8  # steps after redirection in which a gradient may still arrive, before the picture begins afresh


@dataclass
class _State:
    """What moves while a batch is made; rows belong to the pictures that are still being made."""

    rows: list[int]
    numbers: Tensor
    optimizer: torch.optim.Optimizer
    draws: list[torch.Generator]
    noises: list[torch.Generator]
    best: Tensor
    since: list[int]
    smooth: Tensor


@dataclass
class Batch:
    """One batch of pictures of one recipe."""

    models: Mapping[str, ImageModel]
    jobs: Sequence[Job]
    recipe: Recipe
    photo: Tensor | None
    start_from_photo: bool
    half: bool
    compiled: bool
    traces: list[list[float]] = field(default_factory=list)

    def __post_init__(self):
        self.traces = [[] for _ in self.jobs]
        self.restarts = [0] * len(self.jobs)
        self.reached = [False] * len(self.jobs)
        # What leaks past a closed ReLU opens it sooner than redirection does, and leaves all neighbours as they are.
        self.redirect_steps = 0 if self.recipe.gradient.leak else self.recipe.redirect_steps
        self.model = self.models[""]
        self.device = self.model.device
        self.with_norms = bool(self.recipe.batch_norm and batch_norms(self.model))
        self.taps = self._taps()
        self.twins = {}
        for name, taps in self.taps.items():
            keep, fold = [tap.name for tap in taps if tap.name], not (self.with_norms and name == "")
            self.twins[name] = prepare(self.models[name], keep, fold=fold, compiled=self.compiled)
        self.size = self._side(1.0)
        units = [job.unit for job in self.jobs]
        self.groups = [units.index(unit) for unit in units]
        self.photos = self._photo_activations()

    def _taps(self) -> dict[str, tuple[Tap, ...]]:
        """Model name → where its activations are needed."""
        taps: dict[str, dict[Tap, None]] = {}
        for job in self.jobs:
            for leaf in job.unit.leaves():
                taps.setdefault(leaf.model, {})[objectives.tap(leaf)] = None
        if self.recipe.diversity:
            taps.setdefault("", {})[Tap(self.recipe.diversity_layer)] = None
        if self.with_norms:  # looked at even where no unit is the model's own
            taps.setdefault("", {})
        return {name: tuple(found) for name, found in taps.items()}

    def _side(self, scale: float) -> tuple[int, int]:
        spec = self.model.spec
        height, width = (spec.height, spec.width) if self.recipe.size is None else (self.recipe.size,) * 2
        return max(8, round(height * scale)), max(8, round(width * scale))

    def _photo_activations(self):
        if self.photo is None or not objectives.needs_photo([job.unit for job in self.jobs]):
            return {}
        with torch.no_grad():
            found = self._whole(self.photo.to(self.device))
        return objectives.photo_activations([job.unit for job in self.jobs], self.models, found)

    def _whole(self, images: Tensor) -> dict[str, dict[Tap, Tensor]]:
        """Activations of pictures of any size, seen whole."""
        found = {}
        for name, twin in self.twins.items():
            size = (twin.spec.height, twin.spec.width)
            with self._listening(len(images)):
                found[name] = self._run(name, _resized(images, size))
        return found

    def run(self, every: int, before: int, total: int) -> Iterator[Snapshot]:
        """All steps, and the finished pictures with the last snapshot."""
        started = time.perf_counter()
        recipe = self.recipe
        images = torch.zeros(len(self.jobs), 3, *self.size)
        scores = torch.full((len(self.jobs),), float("nan"))
        stage, parameterization, state = -1, None, None
        for step in range(recipe.steps):
            # A photo to start from would lose at a coarse stage what a fine one cannot give back.
            at, scale = (0, 1.0) if self.start_from_photo else recipe.stage_at(step)
            if at != stage:
                stage = at
                parameterization, state = self._enter(scale, parameterization, state)
            values = self._step(step, parameterization, state)
            for row, value in zip(state.rows, values.tolist(), strict=True):
                scores[row] = value
                self._note_value(row, value)
            last = step + 1 == recipe.steps
            leaving = [] if last else self._converged(state, values)
            if last or leaving or step == 0 or (step + 1) % every == 0:
                self._show(images, parameterization, state)
            if leaving:
                state = self._without(state, leaving)
            taken = step + 1 if state.rows else recipe.steps  # where all pictures were done early, nothing is left
            report(before * recipe.steps + taken * len(self.jobs), total * recipe.steps)
            if last or not state.rows:
                break
            if step == 0 or (step + 1) % every == 0:
                yield Snapshot(tuple(self.jobs), images.clone(), scores.clone(), step + 1, recipe.steps, before, total)
        seconds = (time.perf_counter() - started) / len(self.jobs)
        pictures = self._finish(images, seconds)
        yield Snapshot(
            tuple(self.jobs), images, scores, step + 1, recipe.steps, before + len(self.jobs), total, pictures
        )

    def _enter(self, scale: float, old, state: "_State | None"):
        """The parameterization of a stage, and its numbers: fresh ones, or the last stage's at the new size."""
        recipe = self.recipe
        new = parameterizations.make(
            recipe.parameterization, self._side(scale), decay=recipe.decay_power, squash=recipe.squash,
            device=self.device,
        )  # fmt: skip
        if state is None:
            rows = list(range(len(self.jobs)))
            numbers = self._start(new, rows)
            count = len(rows)
            state = _State(
                rows, numbers, None,
                [generator(self.jobs[i], "views") for i in rows],
                [generator(self.jobs[i], "noise", device=self.device) for i in rows],
                torch.full((count,), -torch.inf), [0] * count, torch.full((count,), torch.nan),
            )  # fmt: skip
        else:
            state.numbers = parameterizations.carry_over(state.numbers.detach(), old, new)
        state.numbers.requires_grad_(True)
        state.optimizer = _optimizer(recipe, state.numbers)
        return new, state

    def _start(self, parameterization, rows: Sequence[int]) -> Tensor:
        recipe = self.recipe
        if self.start_from_photo:
            numbers = parameterization.encode(
                _resized(self.photo.float().to(self.device), parameterization.size).clamp(0, 1)
            )
            return numbers.repeat(len(rows), *[1] * (numbers.ndim - 1))
        generators = [generator(self.jobs[i], "start", self.restarts[i]) for i in rows]
        # Noise that nothing responded to was too faint: each fresh start is four times as strong.
        numbers = parameterization.noise(generators, recipe.sd)
        strength = torch.tensor([4.0 ** self.restarts[i] for i in rows], device=self.device)
        return numbers * strength.view(-1, *[1] * (numbers.ndim - 1))

    def _step(self, step: int, parameterization, state: "_State") -> Tensor:
        """One step of ascent for the pictures in `state`; their objectives (N,), on the CPU."""
        views = self._transforms(step)
        drawn = transforms.draw(views, state.draws)
        unreached = [not self.reached[i] for i in state.rows]
        looking = any(unreached) and not self.compiled and step < self.redirect_steps + _LOOK_AGAIN
        redirect = None
        with torch.enable_grad(), ExitStack() as stack:
            images = parameterization.decode(state.numbers)
            norms = stack.enter_context(self._listening(len(state.rows)))
            if looking and 0 < step < self.redirect_steps:
                mask = torch.tensor(unreached, device=self.device).repeat_interleave(views.views)
                mask = mask.repeat(_copies(len(mask)))
                redirect = stack.enter_context(ReluRedirect(mask))
            passes = self._passes(views, drawn, images, state)
            values, loss = self._loss(views, passes, state)
            cost = self._cost(images, norms)
            if looking:
                # Whether the unit itself responds is seen before regularizers and gentler gradients have their say.
                flow = torch.autograd.grad(loss.sum(), images, retain_graph=True)[0]
                self._note_flow(state, flow, redirect)
            if not looking or cost is not None or self.recipe.gradient:
                if self.recipe.gradient:
                    for shown, found in passes.values():
                        soften(self.recipe.gradient, found.values(), shown)
                flow = torch.autograd.grad((loss if cost is None else loss + cost).sum(), images)[0]
            gradient = torch.autograd.grad(images, state.numbers, flow)[0]
        self._update(step, parameterization, state, gradient)
        return values.detach().float().cpu()

    def _listening(self, pictures: int):
        """A listener to the batch norms where the recipe wants one."""
        return BatchNormStatistics(self.twins[""], pictures) if self.with_norms else nullcontext()

    def _passes(self, views: transforms.Transforms, drawn: Tensor, images: Tensor, state: "_State"):
        """Model name → (what it is shown of the pictures at this step, its activations)."""
        passes = {}
        for name, twin in self.twins.items():
            shown = transforms.apply(views, drawn, images, (twin.spec.height, twin.spec.width), state.noises)
            passes[name] = (shown, self._run(name, shown))
        return passes

    def _loss(self, views: transforms.Transforms, passes: Mapping, state: "_State"):
        """(objectives (N,), what is to fall (N,)) of what `_passes` found."""
        recipe, count = self.recipe, len(state.rows)
        activations = {name: found for name, (_, found) in passes.items()}
        units = [self.jobs[i].unit for i in state.rows for _ in range(views.views)]
        each = objectives.evaluate(units, self.models, activations, recipe.output, self.photos)
        values = each.unflatten(0, (count, views.views)).mean(1)
        if not recipe.diversity:
            return values, -values
        layer = find_layer(self.model, recipe.diversity_layer)
        groups = [self.groups[i] for i in state.rows for _ in range(views.views)]
        apart = objectives.diversity(to_grid(layer, activations[""][Tap(layer.name)]), groups)
        return values, -values - recipe.diversity * apart.unflatten(0, (count, views.views)).mean(1)

    def _cost(self, images: Tensor, norms: BatchNormStatistics | None) -> Tensor | None:
        """The regularizers' sum (N,); None where the recipe has none."""
        cost = penalty(images, vars(self.recipe), self.recipe.tv_power)
        if norms is None:
            return cost
        natural = self.recipe.batch_norm * norms.value
        return natural if cost is None else cost + natural

    def _run(self, name: str, images: Tensor) -> dict[Tap, Tensor]:
        """Activations, in single precision at least, of pictures that have the size the network takes."""
        twin, taps = self.twins[name], self.taps[name]
        if self.with_norms and name == "":  # to the end, so that every layer has been heard
            taps = (*taps, Tap(""))
        copies = _copies(len(images))
        with torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext():
            images = images.to(twin.dtype)
            found = run_to(twin, images.repeat(copies, 1, 1, 1) if copies > 1 else images, taps)
        found = {tap: a.unflatten(0, (copies, -1)).mean(0) for tap, a in found.items()} if copies > 1 else found
        return {tap: a.float() if a.dtype == torch.bfloat16 else a for tap, a in found.items()}

    def _transforms(self, step: int) -> transforms.Transforms:
        recipe = self.recipe
        if recipe.transforms_end is None:
            return recipe.transforms
        return transforms.between(recipe.transforms, recipe.transforms_end, step / max(recipe.steps - 1, 1))

    def _note_flow(self, state: "_State", flow: Tensor, redirect: ReluRedirect | None) -> None:
        """Which pictures a gradient reaches, of itself and not past a closed ReLU."""
        arrives = flow.flatten(1).abs().amax(1) > 0
        if redirect is not None:
            arrives &= ~redirect.shut.unflatten(0, (len(arrives), -1)).any(1)
        for row, reached in zip(state.rows, arrives.tolist(), strict=True):
            self.reached[row] = self.reached[row] or reached

    def _note_value(self, row: int, value: float) -> None:
        """Keep a picture's objective. One that stands still, though all views differ, and is no higher than at first, no
        gradient reaches any more: a unit that chance opened for a moment is shut again."""
        trace = self.traces[row]
        if trace and value == trace[-1] and value <= trace[0]:
            self.reached[row] = False
        trace.append(value)

    def _update(self, step: int, parameterization, state: "_State", gradient: Tensor) -> None:
        recipe, numbers = self.recipe, state.numbers
        if recipe.optimizer == "sgd":
            norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
            gradient = gradient / norm.view(-1, *[1] * (gradient.ndim - 1)) * numbers[0].numel() ** 0.5
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        # A channels-last gradient beside contiguous numbers: the fused optimiser would pair the wrong ones, silently.
        numbers.grad = gradient.contiguous()
        state.optimizer.step()
        numbers.grad = None
        with torch.no_grad():
            if recipe.pixel_decay:
                numbers.mul_(1 - recipe.pixel_decay)
            if recipe.blur_every and (step + 1) % recipe.blur_every == 0 and recipe.blur:
                images = parameterization.decode(numbers)
                sigma = torch.full((len(images),), recipe.blur * images.shape[2], device=images.device)
                numbers.copy_(parameterization.encode(transforms.gaussian_blur(images, sigma)))
            if step + 1 == self.redirect_steps + _LOOK_AGAIN:
                self._start_again(parameterization, state)

    def _start_again(self, parameterization, state: "_State") -> None:
        """Give pictures that no gradient has reached fresh noise; they keep their place in the schedule."""
        for place, row in enumerate(state.rows):
            while not self.reached[row] and self.restarts[row] < _FRESH_STARTS:
                self.restarts[row] += 1
                state.numbers[place] = self._start(parameterization, [row])[0]
                images = parameterization.decode(state.numbers[place : place + 1])
                _, (self.reached[row],) = self._responds(images, [row])

    def _responds(self, images: Tensor, rows: Sequence[int]) -> tuple[list[float], list[bool]]:
        """(the objectives of the pictures `rows`, whether any gradient of theirs arrives) for pixels (n, 3, h, w), seen whole."""
        with torch.enable_grad():
            images = images.detach().requires_grad_(True)
            units = [self.jobs[row].unit for row in rows]
            values = objectives.evaluate(units, self.models, self._whole(images), self.recipe.output, self.photos)
            (flow,) = torch.autograd.grad(values.sum(), images)
        return values.tolist(), (flow.flatten(1).abs().amax(1) > 0).tolist()

    def _converged(self, state: "_State", values: Tensor) -> list[int]:
        """Places of the pictures whose score no longer rises; their smoothed score is followed on the way."""
        recipe = self.recipe
        if not recipe.tolerance:
            return []
        state.smooth = torch.where(state.smooth.isnan(), values, 0.9 * state.smooth + 0.1 * values)
        leaving = []
        for place, (now, best) in enumerate(zip(state.smooth.tolist(), state.best.tolist(), strict=True)):
            if best == -torch.inf or now > best + recipe.tolerance * abs(best):
                state.best[place], state.since[place] = now, 0
            else:
                state.since[place] += 1
            if state.since[place] >= recipe.patience:
                leaving.append(place)
        return leaving

    def _without(self, state: "_State", leaving: Sequence[int]) -> "_State":
        """The state of the pictures that go on."""
        stay = [place for place in range(len(state.rows)) if place not in set(leaving)]
        keep = torch.tensor(stay, dtype=torch.long)
        old = state.optimizer.state[state.numbers]
        numbers = state.numbers.detach()[keep.to(self.device)].requires_grad_(True)
        optimizer = _optimizer(self.recipe, numbers)
        if stay:
            same = state.numbers.shape
            optimizer.state[numbers] = {
                key: value[keep.to(self.device)] if isinstance(value, Tensor) and value.shape == same else value
                for key, value in old.items()
            }
        return _State(
            [state.rows[p] for p in stay], numbers, optimizer, [state.draws[p] for p in stay],
            [state.noises[p] for p in stay], state.best[keep], [state.since[p] for p in stay], state.smooth[keep],
        )  # fmt: skip

    @torch.no_grad()
    def _show(self, images: Tensor, parameterization, state: "_State") -> None:
        """Write the pictures of `state` as they are now into `images`, at the final size."""
        images[state.rows] = _resized(parameterization.decode(state.numbers).float(), self.size).clamp(0, 1).cpu()

    def _finish(self, images: Tensor, seconds: float) -> tuple[Picture, ...]:
        """Score the pictures as they are kept, in 8 bits; say which of them nothing reaches."""
        pixels = to_pixels(images)
        kept = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device, torch.float32) / 255
        scores, responds = self._responds(kept, range(len(self.jobs)))
        finite = [bool(image.isfinite().all()) and np.isfinite(s) for image, s in zip(images, scores, strict=True)]
        status = ["ok" if a or b else "dead" for a, b in zip(self.reached, responds, strict=True)]
        return tuple(
            Picture(
                job, pixels[i], scores[i], tuple(self.traces[i]), status[i] if finite[i] else "failed",
                self.restarts[i], seconds,
            )
            for i, job in enumerate(self.jobs)
        )  # fmt: skip


def _copies(views: int) -> int:
    """How often the network is shown the same: twice where it is one view.

    A batch of one takes other kernels than all larger ones; they round differently, an ascent makes much of that, and a
    picture made alone would not be the one that is made among others.
    """
    return 2 if views == 1 else 1


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _optimizer(recipe: Recipe, numbers: Tensor) -> torch.optim.Optimizer:
    """Every optimiser here works number by number, so pictures in a batch do not meet in it."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam([numbers], lr=recipe.learning_rate, betas=recipe.betas, fused=True)
    if recipe.optimizer == "nadam":
        return torch.optim.NAdam([numbers], lr=recipe.learning_rate, betas=recipe.betas)
    return torch.optim.SGD([numbers], lr=recipe.learning_rate, momentum=recipe.betas[0])
