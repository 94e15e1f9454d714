"""Which saliency method for this network? What is defined for it, and what did best on networks of its family in the study.

Nothing is measured here: the figures are those of docs/choices.md (`lsd.evaluation.choices`). For each score and each network of
the family, the methods are ranked by their means; a method's place is the share of the others that it is ahead of, over all of
these. A method that does not notice that its network has forgotten its classes is not recommended, however it scores.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from lsd.catalogue import common_name
from lsd.errors import UndefinedError
from lsd.evaluation.choices import CHOICES, passes, summary
from lsd.evaluation.variants import FACTORS
from lsd.footprint import hollow
from lsd.models import ImageModel, get_model
from lsd.saliency.methods import METHODS, Method, attribute
from lsd.saliency.targets import of_class

BLIND = (
    0.9  # rank correlation of maps before and after the classifier is drawn anew: above, a method is not recommended
)
_LEAST = {"samples": 2, "steps": 1, "masks": 1, "batch_size": 1}  # settings by which a method of many passes is tried


@dataclass(frozen=True)
class Place:
    """How a method did on a family's networks.

    Attributes:
        level: what the study calls it; `method`, its name among `METHODS`.
        ahead: the share of the other methods that it is ahead of, in [0, 1], over scores and networks; ties count half.
        scores: over how many of these.
        passes: of one map at the study's settings.
        is_dear: whether the study takes it for dear: many passes, or Captum's hooks.
        forgets: mean rank correlation of its maps before and after the classifier is drawn anew; None where it was not tried.
    """

    level: str
    method: str
    ahead: float
    scores: int
    passes: int
    is_dear: bool
    forgets: float | None

    @property
    def is_blind(self) -> bool:
        """Whether it hardly notices that its network has forgotten its classes."""
        return self.forgets is not None and self.forgets > BLIND


@dataclass(frozen=True)
class Recommendation:
    """What is to be said of the methods for a network.

    Attributes:
        family: what the study's networks have in common with this one: "resnet", timm's module, or "transformers",
            "convolutional networks".
        networks: of the study, that are of the family.
        places: the methods that were scored on them, best first.
        refused: method → why it is not defined for the network; None where that was not tried, and then only methods that all
            networks of the study have are recommended.
    """

    family: str
    networks: tuple[str, ...]
    places: tuple[Place, ...]
    refused: Mapping[str, str] | None = None

    @property
    def best(self) -> Place | None:
        """The first of those that are defined, not dear and not blind."""
        return next((p for p in self._defined() if not p.is_dear and not p.is_blind), None)

    @property
    def dearer(self) -> Place | None:
        """The first of all that are defined and not blind, if that is a dear one."""
        first = next((p for p in self._defined() if not p.is_blind), None)
        return first if first and first.is_dear else None

    def _defined(self) -> Iterator[Place]:
        against = summary()["factors"]["method"]["against"]
        for place in self.places:
            if self.refused is None:
                if against.get(place.level, {"everywhere": True})[
                    "everywhere"
                ]:  # the default is not held against itself
                    yield place
            elif place.method not in self.refused:
                yield place

    def __str__(self) -> str:
        """One line."""
        if self.best is None:
            return "None of the methods that were scored is defined for this network."
        told = (
            f"On the {self.family} of the study ({', '.join(map(common_name, self.networks))}), of what takes one pass "
            f"{_title(self.best)} did best, ahead of the other methods in {self.best.ahead:.0%} of the comparisons"
        )
        if self.dearer:
            cost = f", at {self.dearer.passes} passes" if self.dearer.passes > 1 else ""
            told += f"; {_title(self.dearer)} in {self.dearer.ahead:.0%}{cost}"
        return f"{told}."


def _is_dear(level: str) -> bool:
    return summary()["factors"]["method"]["against"].get(level, {"dear": False})["dear"]


def _title(place: Place) -> str:
    return CHOICES["method"].levels[place.level]


def recommend(model: ImageModel, refused: Mapping[str, str] | None = None) -> Recommendation:
    """The recommendation for a network.

    Args:
        refused: from `refusals`, where the methods were tried.
    """
    family, networks = _alike(model)
    return Recommendation(family, networks, places(networks), refused)


def refusals(model: ImageModel, image: Tensor, methods: Sequence[str] = tuple(METHODS)) -> dict[str, str]:
    """Method → why it is not defined for the network and a picture (1, 3, H, W), of those that are not: each is tried on the first
    choice, with as few passes as it can do with."""
    index = int(model(image).argmax(1))
    found = {}
    for name in methods:
        kind = "logit" if name == "captum:deep_lift" else "log_odds"  # it has no rule for another
        try:
            attribute(name, model, image, of_class(model, index, kind), **_least(METHODS[name], image))
        except UndefinedError as error:
            found[name] = str(error)
    return found


def _least(method: Method, image: Tensor) -> dict:
    side = min(image.shape[2:])
    least = _LEAST | {"window": side, "stride": side}
    return {setting.name: least[setting.name] for setting in method.settings if setting.name in least}


@functools.cache
def places(networks: tuple[str, ...]) -> tuple[Place, ...]:
    """The methods that were scored on these networks of the study, best first."""
    told = summary()
    levels, better = told["factors"]["method"]["levels"], {m["name"]: m["better"] for m in told["metrics"]}
    shares: dict[str, list[float]] = {}
    for metric, way in better.items():
        for network in networks:
            own = {
                n: at[metric]["models"][network][0]
                for n, at in levels.items()
                if network in at.get(metric, {}).get("models", {})
            }
            for name, value in own.items() if len(own) > 1 else ():
                others = np.array([v for other, v in own.items() if other != name])
                sign = 1 if way == "higher" else -1
                ahead = (sign * value > sign * others) + 0.5 * (value == others)
                shares.setdefault(name, []).append(float(ahead.mean()))
    sources = {variant.level: variant.source for variant in FACTORS["method"].levels}
    found = [
        Place(
            name,
            sources[name].method,
            float(np.mean(own)),
            len(own),
            passes("method", name),
            _is_dear(name),
            _forgets(name, networks),
        )
        for name, own in shares.items()
    ]
    return tuple(sorted(found, key=lambda place: -place.ahead))


def _forgets(level: str, networks: Sequence[str]) -> float | None:
    tried = summary()["trust"].get(level, {}).get("rank_abs/0", {})
    values = [tried[network] for network in networks if network in tried]
    return float(np.mean(values)) if values else None


def _alike(model: ImageModel) -> tuple[str, tuple[str, ...]]:
    """What some of the study's networks have in common with this one, in words, and which these are."""
    known = {name: _known(name) for name in summary()["models"]}
    same = tuple(name for name, (family, _) in known.items() if family == model.family)
    if same:
        return f"{model.family} networks", same
    kind = _kind(model.net)
    return kind, tuple(name for name, (_, other) in known.items() if other == kind)


@functools.cache
def _known(name: str) -> tuple[str, str]:
    """timm's module and the kind of a network of the study, which need not be here."""
    if name.startswith("demo:"):
        model = get_model(name)
        return model.family, _kind(model.net)
    import timm  # late, as it takes seconds

    architecture = name.partition(".")[0]
    family = timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
    return family, _kind(hollow(lambda: timm.create_model(architecture)))


def _kind(net: nn.Module) -> str:
    """By whether it has heads of attention."""
    return "transformers" if any(hasattr(module, "num_heads") for module in net.modules()) else "convolutional networks"
