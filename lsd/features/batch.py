"""One batch of pictures on its way up: its stages and steps, who is done early, who gets a fresh start.

Nothing of one picture reaches another; see `ascent`. Which way is up says `slope`, how far a step goes `optimizers`, who has
arrived `arrival` and `convergence`, and what came out `scoring`.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lsd.features import objectives, optimizers, parameterizations
from lsd.features.arrival import Arrival
from lsd.features.chance import Chance
from lsd.features.convergence import Convergence
from lsd.features.networks import Networks, resized
from lsd.features.objectives import Objective
from lsd.features.pictures import Job, Snapshot, generator, picture_size
from lsd.features.recipes import Recipe, Stage
from lsd.features.recorded import Recorded
from lsd.features.scoring import Made, finish, respond
from lsd.features.slope import Asked, Slope
from lsd.features.units import SIMILARITY
from lsd.models import ImageModel
from lsd.progress import report

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
    optimizer: torch.optim.Optimizer | None  # None until the first stage is entered
    chance: Chance
    arrival: Arrival
    convergence: Convergence
    asked: Asked | None = None
    values: list[Tensor] = field(default_factory=list)  # of the steps since they were last fetched
    warm: bool = False  # whether a step of this stage has been taken
    recorded: Recorded | None = None  # and the next ones need only be replayed


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
        self.units = [job.unit for job in self.jobs]
        self.networks = Networks(self.models, self.units, self.recipe, half=self.half, compiled=self.compiled)
        self.twins = self.networks.twins(1.0)
        self.slope = Slope(self.recipe, self.networks, self.twins)
        self.size = self._side(1.0)
        self.groups = torch.tensor([self.units.index(unit) for unit in self.units], device=self.device)
        self.photos = self._photo_activations()

    def _can_record(self) -> bool:
        """Whether all steps of a stage, once nobody is looked for, do the same, on a device that can be told so."""
        recipe = self.recipe
        varies = recipe.transforms_end is not None or recipe.blur_every or recipe.tolerance
        return self.device.type == "cuda" and recipe.optimizer == "adam" and not (varies or self.compiled)

    def _side(self, scale: float) -> tuple[int, int]:
        height, width = picture_size(self.recipe, self.model.spec)
        return max(8, round(height * scale)), max(8, round(width * scale))

    def _photo_activations(self):
        found = {}
        if self.photo is not None and objectives.needs_photo(self.units):
            with torch.no_grad():
                shown = self.networks.whole(self.photo.to(self.device))
            found = objectives.photo_activations(self.units, self.models, shown)
        if self.vector is not None:
            leaves = (leaf for unit in self.units for leaf in unit.leaves() if leaf.kind == SIMILARITY)
            found |= dict.fromkeys(leaves, self.vector.to(self.device, torch.float32))
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
            state.arrival.note(values)
            state.values.append(values)
            last = step + 1 == recipe.steps
            leaving = [] if last else state.convergence.follow(values, recipe)
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
        made = [Made(job, self.traces[i], self.restarts[i], self.reached[i]) for i, job in enumerate(self.jobs)]
        pictures = finish(images, made, self.networks, recipe, self.photos, seconds)
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
        self.twins = self.networks.twins(stage.input)
        self.slope = Slope(recipe, self.networks, self.twins)
        if state is None:
            state = self._first_state(new)
        else:
            state.numbers = parameterizations.carry_over(state.numbers.detach(), old, new)
        state.numbers.requires_grad_(True)
        state.optimizer = optimizers.make(recipe, state.numbers)
        state.warm, state.recorded = False, None
        self._ask(state)
        return new, state

    def _first_state(self, parameterization) -> "_State":
        rows, device = list(range(len(self.jobs))), self.device
        return _State(
            rows, self._start(parameterization, rows), None, Chance(self.jobs, self.recipe.transforms, device),
            Arrival.begin(len(rows), device), Convergence.begin(len(rows), device),
        )  # fmt: skip

    def _ask(self, state: "_State") -> None:
        """Make ready what is asked of the pictures in `state`, of each of their views, by the networks as they are now."""
        views = [row for row in state.rows for _ in range(self.recipe.transforms.views)]
        units = [self.units[row] for row in views]
        state.asked = Asked(
            Objective(units, self.twins, self.recipe.output, self.photos),
            self.groups[torch.tensor(views, dtype=torch.long, device=self.device)],
        )

    def _start(self, parameterization, rows: Sequence[int]) -> Tensor:
        recipe = self.recipe
        if self.start_from_photo:
            numbers = parameterization.encode(
                resized(self.photo.float().to(self.device), parameterization.size).clamp(0, 1)
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
        optimizers.set_rate(state.optimizer, self.recipe.rate_at(step))
        looking = (
            not self.compiled and step < self.redirect_steps + _LOOK_AGAIN and not bool(state.arrival.reached.all())
        )
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
        with torch.enable_grad():
            images = parameterization.decode(state.numbers)
            arrival = state.arrival if looking else None
            values, flow = self.slope.at(step, images, state.asked, drawn, noise, arrival, self.redirect_steps)
            gradient = torch.autograd.grad(images, state.numbers, flow)[0]
        optimizers.descend(state.optimizer, state.numbers, gradient, self.recipe, parameterization, step)
        return values.detach().float()

    def _fetch(self, images: Tensor, parameterization, state: "_State") -> None:
        """Bring from the device what the steps since the last time have found, and the pictures as they are now."""
        found = torch.stack([*state.values, state.arrival.reached.float()])
        with torch.no_grad():
            shown = resized(parameterization.decode(state.numbers).float(), self.size).clamp(0, 1)
            if self.device.type == "cuda":  # ten times as fast into memory that the GPU can write to by itself
                shown = torch.empty(shown.shape, pin_memory=True).copy_(shown)
        state.values.clear()
        for row, (*values, reached) in zip(state.rows, found.T.tolist(), strict=True):
            self.traces[row] += values
            self.reached[row] = bool(reached)
        images[state.rows] = shown.cpu()

    def _start_again(self, parameterization, state: "_State") -> None:
        """Give pictures that no gradient has reached fresh noise; they keep their place in the schedule."""
        reached = state.arrival.reached.tolist()
        for place, row in enumerate(state.rows):
            while not reached[place] and self.restarts[row] < _FRESH_STARTS:
                self.restarts[row] += 1
                state.numbers[place] = self._start(parameterization, [row])[0]
                images = parameterization.decode(state.numbers[place : place + 1])
                (reached[place],) = respond(
                    images, [self.units[row]], self.networks, self.recipe.output, self.photos
                ).arrives
        state.arrival.reached = torch.tensor(reached, device=self.device)

    def _without(self, state: "_State", leaving: Sequence[int]) -> "_State":
        """The state of the pictures that go on."""
        stay = [place for place in range(len(state.rows)) if place not in set(leaving)]
        keep = torch.tensor(stay, dtype=torch.long, device=self.device)
        numbers = state.numbers.detach()[keep].requires_grad_(True)
        optimizer = optimizers.carried(state.optimizer, state.numbers, self.recipe, numbers, keep)
        state = _State(
            [state.rows[place] for place in stay], numbers, optimizer, state.chance.of(keep), state.arrival.of(keep),
            state.convergence.of(keep), warm=state.warm,
        )  # fmt: skip
        if stay:
            self._ask(state)
        return state
