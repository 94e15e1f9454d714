"""One batch of pictures on its way up: what a step does, who is done early, who gets a fresh start, who stays dead.

Nothing of one picture reaches another; see `ascent`.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.features import notes, objectives, parameterizations, transforms
from lsd.features.chance import Chance
from lsd.features.objectives import Objective
from lsd.features.pictures import Job, Picture, Snapshot, generator, picture_size, to_pixels
from lsd.features.prepare import prepare
from lsd.features.recipes import Recipe, Stage
from lsd.features.recorded import Recorded
from lsd.features.redirect import ReluRedirect
from lsd.features.regularizers import BatchNormStatistics, batch_norms, penalty
from lsd.features.soften import soften
from lsd.features.units import SIMILARITY
from lsd.layers import find_layer
from lsd.layout import to_grid
from lsd.models import ImageModel
from lsd.precision import at_least_fp32
from lsd.progress import report
from lsd.tracing import Tap, run_to

_FRESH_STARTS = 2  # how often a picture that no gradient reaches begins again from stronger noise
_AHEAD = 16  # steps whose views are drawn at once
_LOOK_AGAIN = 8  # steps after redirection in which a gradient may still arrive, before the picture begins afresh


@dataclass
class _State:
    """What moves while a batch is made; rows belong to the pictures that are still being made.

    Tensors of numbers lie on the batch's device; so does all that decides the next step, which a GPU would otherwise have to
    be waited for.
    """

    rows: list[int]
    numbers: Tensor
    optimizer: torch.optim.Optimizer
    chance: Chance
    reached: Tensor  # whether a gradient has arrived, of itself
    first: Tensor  # the objective at the first step
    last: Tensor  # and at the last one
    best: Tensor
    since: Tensor
    smooth: Tensor
    objective: Objective | None = None
    groups: Tensor | None = None
    values: list[Tensor] = field(default_factory=list)  # of the steps since they were last fetched
    warm: bool = False  # whether a step of this stage has been taken
    recorded: Recorded | None = None  # and the next ones need only be replayed


class _Response(NamedTuple):
    """What the units make of pictures that are seen whole."""

    scores: list[float]
    arrives: list[bool]  # whether any gradient does
    shown: Tensor
    activations: dict[str, dict[Tap, Tensor]]  # with the graph that leads back to `shown`


@dataclass
class Batch:
    """One batch of pictures of one recipe."""

    models: Mapping[str, ImageModel]
    jobs: Sequence[Job]
    recipe: Recipe
    photo: Tensor | None
    vector: Tensor | None
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
        self.recordable = self._can_record()
        self.with_norms = bool(self.recipe.batch_norm and batch_norms(self.model))
        self.units = [job.unit for job in self.jobs]
        self.placed = any(objectives.has_place(unit) for unit in self.units)
        self.taps = self._taps()
        self.twins = self._twins(1.0)
        self.size = self._side(1.0)
        self.groups = torch.tensor([self.units.index(unit) for unit in self.units], device=self.device)
        self.photos = self._photo_activations()

    def _can_record(self) -> bool:
        """Whether all steps of a stage, once nobody is looked for, do the same, on a device that can be told so."""
        recipe = self.recipe
        varies = recipe.transforms_end is not None or recipe.blur_every or recipe.tolerance
        return self.device.type == "cuda" and recipe.optimizer == "adam" and not (varies or self.compiled)

    def _taps(self) -> dict[str, tuple[Tap, ...]]:
        """Model name → where its activations are needed."""
        taps: dict[str, dict[Tap, None]] = {}
        for unit in self.units:
            for leaf in unit.leaves():
                taps.setdefault(leaf.model, {})[objectives.tap(leaf)] = None
        if self.recipe.diversity:
            taps.setdefault("", {})[Tap(self.recipe.diversity_layer)] = None
        if self.with_norms:  # looked at even where no unit is the model's own
            taps.setdefault("", {})
        return {name: tuple(found) for name, found in taps.items()}

    def _twins(self, share: float) -> dict[str, ImageModel]:
        """The networks that are run, on inputs of this share of their side where they take such."""
        if self.placed:
            share = 1.0
        twins = {}
        for name, taps in self.taps.items():
            keep, fold = [tap.name for tap in taps if tap.name], not (self.with_norms and name == "")
            twins[name] = prepare(
                self.models[name], keep, fold=fold, compiled=self.compiled, half=self.half, share=share
            )
        return twins

    def _side(self, scale: float) -> tuple[int, int]:
        height, width = picture_size(self.recipe, self.model.spec)
        return max(8, round(height * scale)), max(8, round(width * scale))

    def _photo_activations(self):
        found = {}
        if self.photo is not None and objectives.needs_photo(self.units):
            with torch.no_grad():
                shown = self._whole(self.photo.to(self.device))
            found = objectives.photo_activations(self.units, self.models, shown)
        if self.vector is not None:
            leaves = (leaf for unit in self.units for leaf in unit.leaves() if leaf.kind == SIMILARITY)
            found |= dict.fromkeys(leaves, self.vector.to(self.device, torch.float32))
        return found

    def _whole(self, images: Tensor) -> dict[str, dict[Tap, Tensor]]:
        """Activations of pictures of any size, seen whole by the networks at their own."""
        found = {}
        for name, twin in self._twins(1.0).items():
            size = (twin.spec.height, twin.spec.width)
            found[name] = self._run(name, twin, _resized(images, size))
        return found

    def run(self, every: int, before: int, total: int) -> Iterator[Snapshot]:
        """All steps, and the finished pictures with the last snapshot.

        Between two snapshots nothing is fetched from the device, but in the first steps, until it is known whom a gradient
        reaches, and where the recipe has a tolerance, whose pictures are asked at each step whether they still rise.
        """
        started = time.perf_counter()
        recipe = self.recipe
        images = torch.zeros(len(self.jobs), 3, *self.size)
        stage, parameterization, state = None, None, None
        for step in range(recipe.steps):
            # A photo to start from would lose at a coarse stage what a fine one cannot give back.
            at = recipe.stages[-1] if self.start_from_photo else recipe.stage_at(step)
            if at is not stage:
                stage = at
                parameterization, state = self._enter(stage, parameterization, state)
            values = self._step(step, parameterization, state, min(every, _AHEAD, recipe.steps - step))
            self._note_values(state, values)
            last = step + 1 == recipe.steps
            leaving = [] if last else self._converged(state, values)
            showing = last or step == 0 or (step + 1) % every == 0
            if showing or leaving:
                self._fetch(images, parameterization, state)
            if leaving:
                state = self._without(state, leaving)
            taken = step + 1 if state.rows else recipe.steps  # where all pictures were done early, nothing is left
            report(before * recipe.steps + taken * len(self.jobs), total * recipe.steps)
            if last or not state.rows:
                break
            if showing:
                yield Snapshot(tuple(self.jobs), images.clone(), self._scores(), step + 1, recipe.steps, before, total)
        seconds = (time.perf_counter() - started) / len(self.jobs)
        pictures = self._finish(images, seconds)
        yield Snapshot(
            tuple(self.jobs), images, self._scores(), step + 1, recipe.steps, before + len(self.jobs), total, pictures
        )

    def _scores(self) -> Tensor:
        """(N,) the objectives at the last step that was fetched."""
        return torch.tensor([trace[-1] for trace in self.traces])

    def rehearse(self) -> None:
        """On a GPU, take a step of the last stage, which needs the most memory, and forget it.

        Raises:
            torch.OutOfMemoryError: there is too little.
        """
        if self.device.type != "cuda":
            return
        parameterization, state = self._enter(self.recipe.stages[-1], None, None)
        self._step(self.recipe.steps - 1, parameterization, state, 1)
        self.restarts, self.reached = [0] * len(self.jobs), [False] * len(self.jobs)

    def _enter(self, stage: Stage, old, state: "_State | None"):
        """The parameterization of a stage, and its numbers: fresh ones, or the last stage's at the new size."""
        recipe = self.recipe
        new = parameterizations.make(
            recipe.parameterization, self._side(stage.side), decay=recipe.decay_power, squash=recipe.squash,
            contrast=recipe.contrast, device=self.device,
        )  # fmt: skip
        self.twins = self._twins(stage.input)
        if state is None:
            state = self._first_state(new)
        else:
            state.numbers = parameterizations.carry_over(state.numbers.detach(), old, new)
        state.numbers.requires_grad_(True)
        state.optimizer = _optimizer(recipe, state.numbers)
        state.warm, state.recorded = False, None
        self._ask(state)
        return new, state

    def _first_state(self, parameterization) -> "_State":
        rows = list(range(len(self.jobs)))
        low, nan = (torch.full((len(rows),), value, device=self.device) for value in (-torch.inf, torch.nan))
        return _State(
            rows, self._start(parameterization, rows), None, Chance(self.jobs, self.recipe.transforms, self.device),
            reached=torch.zeros(len(rows), dtype=torch.bool, device=self.device), first=nan, last=nan.clone(), best=low,
            since=torch.zeros(len(rows), dtype=torch.long, device=self.device), smooth=nan.clone(),
        )  # fmt: skip

    def _ask(self, state: "_State") -> None:
        """Make ready what is asked of the pictures in `state`, of each of their views, by the networks as they are now."""
        views = [row for row in state.rows for _ in range(self.recipe.transforms.views)]
        units = [self.units[row] for row in views]
        state.objective = Objective(units, self.twins, self.recipe.output, self.photos)
        state.groups = self.groups[torch.tensor(views, dtype=torch.long, device=self.device)]

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

    def _step(self, step: int, parameterization, state: "_State", ahead: int) -> Tensor:
        """One step of ascent for the pictures in `state`; their objectives (N,), on the device.

        Args:
            ahead: for how many steps views are drawn where there are none left.
        """
        drawn, noise = state.chance.views(ahead), self._noise(state)
        _set_rate(state.optimizer, self.recipe.rate_at(step))
        looking = not self.compiled and step < self.redirect_steps + _LOOK_AGAIN and not bool(state.reached.all())
        if self.recordable and state.warm and not looking:
            if state.recorded is None:
                self._record(step, parameterization, state, drawn, noise)
            if state.recorded is not None:
                return state.recorded(drawn)
        values = self._climb(step, parameterization, state, drawn, noise, looking)
        state.warm = True
        if looking and step + 1 == self.redirect_steps + _LOOK_AGAIN:
            with torch.no_grad():
                self._start_again(parameterization, state)
        return values

    def _record(self, step: int, parameterization, state: "_State", drawn: Tensor, noise: Mapping[str, Tensor]) -> None:
        try:
            state.recorded = Recorded(lambda views: self._climb(step, parameterization, state, views, noise), drawn)
        except RuntimeError as error:  # the memory, if that is it, may still do for a step by itself
            self.recordable = False
            reason = str(error).partition("\n")[0]
            warnings.warn(f"This GPU's steps are launched kernel by kernel, which is slower: {reason}", stacklevel=2)

    def _noise(self, state: "_State") -> dict[str, Tensor]:
        """Model name → noise for the pixels it is shown at the next step; nothing where the recipe has none."""
        if not any(t is not None and t.noise for t in (self.recipe.transforms, self.recipe.transforms_end)):
            return {}
        return {
            name: state.chance.noise(name, (twin.spec.height, twin.spec.width)) for name, twin in self.twins.items()
        }

    def _climb(
        self,
        step: int,
        parameterization,
        state: "_State",
        drawn: Tensor,
        noise: Mapping[str, Tensor],
        looking: bool = False,
    ) -> Tensor:
        """A step, all on the device unless it is `looking` for pictures that no gradient has reached."""
        views = self._transforms(step)
        redirect = None
        with torch.enable_grad(), ExitStack() as stack:
            images = parameterization.decode(state.numbers)
            if looking and 0 < step < self.redirect_steps:
                mask = (~state.reached).repeat_interleave(views.views)
                mask = mask.repeat(_copies(len(mask)))
                redirect = stack.enter_context(ReluRedirect(mask))
            passes, norms = self._passes(views, drawn, images, noise)
            values, loss = self._loss(views, passes, state)
            cost = self._cost(images, norms)
            if looking:
                # Whether the unit itself responds is seen before regularizers and gentler gradients have their say.
                flow = torch.autograd.grad(loss.sum(), images, retain_graph=True)[0]
                state.reached |= _arrives(flow, redirect)
            if not looking or cost is not None or self.recipe.gradient:
                if self.recipe.gradient:
                    for shown, found in passes.values():
                        soften(self.recipe.gradient, found.values(), shown)
                flow = torch.autograd.grad((loss if cost is None else loss + cost).sum(), images)[0]
            gradient = torch.autograd.grad(images, state.numbers, flow)[0]
        self._update(step, parameterization, state, gradient)
        return values.detach().float()

    def _passes(self, views: transforms.Transforms, drawn: Tensor, images: Tensor, noise: Mapping[str, Tensor]):
        """Model name → (what it is shown of the pictures at this step, its activations); and what a listener to the model's
        own batch norms has heard, where the recipe wants one."""
        passes, norms = {}, None
        for name, twin in self.twins.items():
            shown = transforms.apply(views, drawn, images, (twin.spec.height, twin.spec.width), noise.get(name))
            if self.with_norms and name == "":
                # For this pass only: two ascents that held their own twins and waited for each other's would wait for ever.
                with BatchNormStatistics(twin, len(images)) as norms:
                    passes[name] = (shown, self._run(name, twin, shown))
            else:
                passes[name] = (shown, self._run(name, twin, shown))
        return passes, norms

    def _loss(self, views: transforms.Transforms, passes: Mapping, state: "_State"):
        """(objectives (N,), what is to fall (N,)) of what `_passes` found."""
        recipe, count = self.recipe, len(state.rows)
        activations = {name: found for name, (_, found) in passes.items()}
        values = state.objective(activations).unflatten(0, (count, views.views)).mean(1)
        if not recipe.diversity:
            return values, -values
        layer = find_layer(self.twins[""], recipe.diversity_layer)
        apart = objectives.diversity(to_grid(layer, activations[""][Tap(layer.name)]), state.groups, views.views)
        return values, -values - recipe.diversity * apart.unflatten(0, (count, views.views)).mean(1)

    def _cost(self, images: Tensor, norms: BatchNormStatistics | None) -> Tensor | None:
        """The regularizers' sum (N,); None where the recipe has none."""
        cost = penalty(images, vars(self.recipe), self.recipe.tv_power)
        if norms is None:
            return cost
        natural = self.recipe.batch_norm * norms.value
        return natural if cost is None else cost + natural

    def _run(self, name: str, twin: ImageModel, images: Tensor) -> dict[Tap, Tensor]:
        """Activations, in single precision at least, of pictures that have the size the network takes."""
        taps = self.taps[name]
        if self.with_norms and name == "":  # to the end, so that every layer has been heard
            taps = (*taps, Tap(""))
        copies = _copies(len(images))
        images = images.to(twin.dtype)
        found = run_to(twin, images.repeat(copies, 1, 1, 1) if copies > 1 else images, taps)
        found = {tap: a.unflatten(0, (copies, -1)).mean(0) for tap, a in found.items()} if copies > 1 else found
        return {tap: at_least_fp32(a) for tap, a in found.items()}

    def _transforms(self, step: int) -> transforms.Transforms:
        recipe = self.recipe
        if recipe.transforms_end is None:
            return recipe.transforms
        return transforms.between(recipe.transforms, recipe.transforms_end, step / max(recipe.steps - 1, 1))

    def _note_values(self, state: "_State", values: Tensor) -> None:
        """Keep the pictures' objectives. One that stands still, though all views differ, and is no higher than at first, no
        gradient reaches any more: a unit that chance opened for a moment is shut again."""
        state.first = torch.where(state.first.isnan(), values, state.first)
        state.reached &= ~((values == state.last) & (values <= state.first))
        state.last = values
        state.values.append(values)

    def _fetch(self, images: Tensor, parameterization, state: "_State") -> None:
        """Bring from the device what the steps since the last time have found, and the pictures as they are now."""
        found = torch.stack([*state.values, state.reached.float()])
        with torch.no_grad():
            shown = _resized(parameterization.decode(state.numbers).float(), self.size).clamp(0, 1)
            if self.device.type == "cuda":  # ten times as fast into memory that the GPU can write to by itself
                shown = torch.empty(shown.shape, pin_memory=True).copy_(shown)
        state.values.clear()
        for row, (*values, reached) in zip(state.rows, found.T.tolist(), strict=True):
            self.traces[row] += values
            self.reached[row] = bool(reached)
        images[state.rows] = shown.cpu()

    def _update(self, step: int, parameterization, state: "_State", gradient: Tensor) -> None:
        recipe, numbers = self.recipe, state.numbers
        if recipe.optimizer == "sgd":
            norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
            gradient = gradient / norm.view(-1, *[1] * (gradient.ndim - 1)) * numbers[0].numel() ** 0.5
        # A channels-last gradient beside contiguous numbers: the fused optimiser would pair the wrong ones, silently.
        numbers.grad = gradient.contiguous()
        state.optimizer.step()
        numbers.grad = None
        with torch.no_grad():
            if recipe.pixel_decay:
                numbers.mul_(1 - recipe.pixel_decay)
            if recipe.blur_every and (step + 1) % recipe.blur_every == 0 and recipe.blur:
                images = parameterization.decode(numbers)
                sigma = recipe.blur * images.shape[2]
                sigmas = torch.full((len(images),), sigma, device=images.device)
                numbers.copy_(parameterization.encode(transforms.gaussian_blur(images, sigmas, sigma)))

    def _start_again(self, parameterization, state: "_State") -> None:
        """Give pictures that no gradient has reached fresh noise; they keep their place in the schedule."""
        reached = state.reached.tolist()
        for place, row in enumerate(state.rows):
            while not reached[place] and self.restarts[row] < _FRESH_STARTS:
                self.restarts[row] += 1
                state.numbers[place] = self._start(parameterization, [row])[0]
                images = parameterization.decode(state.numbers[place : place + 1])
                (reached[place],) = self._responds(images, [row]).arrives
        state.reached = torch.tensor(reached, device=self.device)

    def _responds(self, images: Tensor, rows: Sequence[int]) -> "_Response":
        """Of the pictures `rows`, given their pixels (n, 3, h, w), seen whole."""
        with torch.enable_grad():
            images = images.detach().requires_grad_(True).clone()
            units, twins = [self.units[row] for row in rows], self._twins(1.0)
            activations = self._whole(images)
            values = objectives.evaluate(units, twins, activations, self.recipe.output, self.photos)
            (flow,) = torch.autograd.grad(values.sum(), images)
        return _Response(values.tolist(), _arrives(flow, None).tolist(), images, activations)

    def _converged(self, state: "_State", values: Tensor) -> list[int]:
        """Places of the pictures whose score no longer rises; their smoothed score is followed on the way."""
        recipe = self.recipe
        if not recipe.tolerance:
            return []
        state.smooth = torch.where(state.smooth.isnan(), values, 0.9 * state.smooth + 0.1 * values)
        rises = state.best.isinf() | (state.smooth > state.best + recipe.tolerance * state.best.abs())
        state.best = torch.where(rises, state.smooth, state.best)
        state.since = torch.where(rises, 0, state.since + 1)
        return [place for place, since in enumerate(state.since.tolist()) if since >= recipe.patience]

    def _without(self, state: "_State", leaving: Sequence[int]) -> "_State":
        """The state of the pictures that go on."""
        stay = [place for place in range(len(state.rows)) if place not in set(leaving)]
        keep = torch.tensor(stay, dtype=torch.long, device=self.device)
        old = state.optimizer.state[state.numbers]
        numbers = state.numbers.detach()[keep].requires_grad_(True)
        optimizer = _optimizer(self.recipe, numbers)
        if stay:
            same = state.numbers.shape
            optimizer.state[numbers] = {
                key: value[keep] if isinstance(value, Tensor) and value.shape == same else value
                for key, value in old.items()
            }
        kept = {name: getattr(state, name)[keep] for name in ("reached", "first", "last", "best", "since", "smooth")}
        state = _State(
            [state.rows[p] for p in stay], numbers, optimizer, state.chance.of(keep), **kept, warm=state.warm,
        )  # fmt: skip
        if stay:
            self._ask(state)
        return state

    def _finish(self, images: Tensor, seconds: float) -> tuple[Picture, ...]:
        """Score the pictures as they are kept, in 8 bits; say which of them nothing reaches."""
        pixels = to_pixels(images)
        kept = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device, torch.float32) / 255
        response = self._responds(kept, range(len(self.jobs)))
        scores = response.scores
        finite = [bool(image.isfinite().all()) and np.isfinite(s) for image, s in zip(images, scores, strict=True)]
        status = ["ok" if a or b else "dead" for a, b in zip(self.reached, response.arrives, strict=True)]
        status = [s if f else "failed" for s, f in zip(status, finite, strict=True)]
        found = response.activations
        idle = notes.of_recipe(self.units, self.recipe, found, response.shown, self.with_norms)
        return tuple(
            Picture(
                job, pixels[i], scores[i], tuple(self.traces[i]), status[i], self.restarts[i], seconds,
                notes.of_status(job.unit, status[i], scores[i], self.recipe.output, found) + idle[i],
            )
            for i, job in enumerate(self.jobs)
        )  # fmt: skip


def _arrives(flow: Tensor, redirect: ReluRedirect | None) -> Tensor:
    """Which pictures a gradient (N, 3, h, w) reaches, of itself and not past a closed ReLU: (N,) booleans."""
    arrives = flow.flatten(1).abs().amax(1) > 0
    if redirect is not None:
        arrives &= ~redirect.shut.unflatten(0, (len(arrives), -1)).any(1)
    return arrives


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
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        on_gpu = numbers.is_cuda  # whose steps may be recorded: then all numbers that change are kept there
        rate = torch.tensor(rate, device=numbers.device) if on_gpu else rate
        return torch.optim.Adam([numbers], lr=rate, betas=recipe.betas, fused=True, capturable=on_gpu)
    if recipe.optimizer == "nadam":
        return torch.optim.NAdam([numbers], lr=rate, betas=recipe.betas)
    return torch.optim.SGD([numbers], lr=rate, momentum=recipe.betas[0])


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
