"""The scalar that is differentiated.

Each target is a function of the logits (N, C) and a class index per picture (N,) that gives one number a picture (N,).

- `logit`: z_t. Its gradient is not fixed by what the network says: adding any function of the picture to all logits
  leaves every probability as it is and changes every gradient (Srinivas & Fleuret, ICLR 2021).
- `probability`: softmax(z)_t. The same direction as the log-odds, but multiplied by p(1 − p), so in fp32 it fades away
  just where the network is sure.
- `log_odds` (default): log p/(1 − p) = z_t − log Σ_{k≠t} exp z_k. What `probability` means, without its fading: exact
  in fp32 however sure the network is, because no 1 − p is ever formed.
- `contrast`: z_a − z_b, why a rather than b; the log of the ratio of the two probabilities.

Of a network whose outputs are sigmoids, each class a question of its own, p is σ(z_t), and the log-odds are the logit.

Of a group G of classes (`lsd.groups`), "why a dog at all?" and "why this dog?":

- `group`: log P(G)/(1 − P(G)) = log Σ_{k∈G} exp z_k − log Σ_{k∉G} exp z_k, P(G) being what all of G have together.
- `within`: log P(t|G)/(1 − P(t|G)) = z_t − log Σ_{k∈G, k≠t} exp z_k, a class among its group alone.

No probability is formed for them either, and what the group is to the rest and the class within it are two questions that do
not meet: nothing that moves all of G's logits alike changes the second.

`similarity` needs no classes: the cosine of the network's embedding (`lsd.embedding`) with a reference's.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.groups import Group
from lsd.models import ImageModel

KINDS = ("log_odds", "logit", "probability", "contrast")


def logit(logits: Tensor, index: Tensor) -> Tensor:
    """z_t: logits (N, C), index (N,) → (N,)."""
    return logits.gather(1, index[:, None]).squeeze(1)


def probability(logits: Tensor, index: Tensor) -> Tensor:
    """softmax(z)_t: logits (N, C), index (N,) → (N,)."""
    return logit(logits.softmax(1), index)


def log_odds(logits: Tensor, index: Tensor) -> Tensor:
    """z_t − logsumexp_{k≠t} z_k: logits (N, C), index (N,) → (N,).

    Raises:
        UndefinedError: fewer than two classes.
    """
    if logits.shape[1] < 2:
        raise UndefinedError("Log-odds need at least two classes; choose the logit for a network with one output.")
    others = logits.scatter(1, index[:, None], float("-inf"))
    return logit(logits, index) - others.logsumexp(1)


def sigmoid(logits: Tensor, index: Tensor) -> Tensor:
    """σ(z_t): logits (N, C), index (N,) → (N,)."""
    return logit(logits, index).sigmoid()


def contrast(logits: Tensor, index: Tensor, against: Tensor) -> Tensor:
    """z_a − z_b: logits (N, C), index a (N,), against b (N,) → (N,)."""
    return logit(logits, index) - logit(logits, against)


def group_log_odds(logits: Tensor, members: Tensor) -> Tensor:
    """logsumexp_{k∈G} z_k − logsumexp_{k∉G} z_k: logits (N, C), members bool (C,) → (N,).

    Raises:
        UndefinedError: a group of no class, or of all.
    """
    if members.all() or not members.any():
        raise UndefinedError(
            "A group of all classes has nothing to be held against; name a narrower one."
            if members.all()
            else "A group needs a class."
        )
    inside, outside = (logits.masked_fill(left_out, float("-inf")).logsumexp(1) for left_out in (~members, members))
    return inside - outside


def log_odds_within(logits: Tensor, index: Tensor, members: Tensor) -> Tensor:
    """z_t − logsumexp_{k∈G, k≠t} z_k: logits (N, C), index (N,) of members, members bool (C,) → (N,).

    Raises:
        UndefinedError: a class that is not in the group, or is alone in it.
    """
    if not members[index].all():
        raise UndefinedError("The class is not one of the group; choose one of its own.")
    if members.sum() < 2:
        raise UndefinedError("A class that is alone in its group has nothing to be held against; name a wider one.")
    return log_odds(logits.masked_fill(~members, float("-inf")), index)


FUNCTIONS = {
    "classes": {"logit": logit, "probability": probability, "log_odds": log_odds},
    "sigmoid": {"logit": logit, "probability": sigmoid, "log_odds": logit},
}
"""By what the network's outputs are (`ImageModel.outputs`), then by the kind of target."""


@dataclass(frozen=True)
class Target:
    """A kind of target bound to its class: calling it with logits (N, C) gives (N,).

    Attributes:
        index: the class t (for a contrast, a): one for all pictures, or one a picture; ints, or NumPy's or torch's.
        kind: one of `KINDS`.
        against: class b of a contrast, as `index`; None for the other kinds.
        outputs: what the logits are of, "classes" or "sigmoid".

    Raises:
        UndefinedError: an unknown kind, a class that is no whole number, or `against` missing or out of place.
    """

    index: int | tuple[int, ...]
    kind: str = "log_odds"
    against: int | tuple[int, ...] | None = None
    outputs: str = "classes"

    def __post_init__(self):
        object.__setattr__(self, "index", as_index(self.index))
        object.__setattr__(self, "against", None if self.against is None else as_index(self.against))
        if self.kind not in KINDS:
            raise UndefinedError(f"There is no target “{self.kind}”; choose one of {', '.join(KINDS)}.")
        if self.outputs not in FUNCTIONS:
            raise UndefinedError(f"Classes are told by {' or '.join(FUNCTIONS)}, not by “{self.outputs}”.")
        if (self.kind == "contrast") != (self.against is not None):
            raise UndefinedError("A contrast needs a second class to hold the first against, and no other target does.")
        if self.kind == "contrast" and self._meets_itself():
            raise UndefinedError("A contrast of a class with itself is zero everywhere; choose two different classes.")

    def _meets_itself(self) -> bool:
        sides = (self.index, self.against)
        pictures = max(len(side) if isinstance(side, Sequence) else 1 for side in sides)
        return any(
            a == b for a, b in zip(*(s if isinstance(s, Sequence) else [s] * pictures for s in sides), strict=False)
        )

    def __call__(self, logits: Tensor) -> Tensor:
        """Raises UndefinedError for a class that the logits do not have."""
        index = _as_index(self.index, logits)
        if self.against is not None:
            return contrast(logits, index, _as_index(self.against, logits))
        return FUNCTIONS[self.outputs][self.kind](logits, index)

    def of(self, i: int) -> "Target":
        """The target of picture `i` alone."""
        return replace(self, index=_pick(self.index, i), against=_pick(self.against, i))

    def to_dict(self) -> dict:
        """As plain JSON values."""
        more = {"against": self.against, "outputs": None if self.outputs == "classes" else self.outputs}
        return {"kind": self.kind, "index": self.index} | {
            key: value for key, value in more.items() if value is not None
        }


def of_class(model: ImageModel, index: int, kind: str = "log_odds", against: int | None = None) -> Target:
    """The target of a class as the network's outputs have it, softmax or sigmoid; arguments as for `Target`.

    Raises:
        UndefinedError: a network without classes, or what `Target` raises.
    """
    if model.outputs == "embedding":
        model.refuse_classes()
    return Target(index, kind, against, model.outputs)


@dataclass(frozen=True)
class GroupTarget:
    """A group's log-odds, or those of a class within it: calling it with logits (N, C) gives (N,).

    Attributes:
        group: the classes.
        index: the class t that is held against the others of the group, as for `Target`; None for the group against the rest.
    """

    group: Group
    index: int | tuple[int, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "index", None if self.index is None else as_index(self.index))

    @property
    def kind(self) -> str:
        """ "group" or "within"."""
        return "group" if self.index is None else "within"

    def __call__(self, logits: Tensor) -> Tensor:
        """Raises UndefinedError for classes that the logits do not have, and what `group_log_odds` or `log_odds_within` raises."""
        _check_classes(self.group.members, logits)
        members = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
        members[list(self.group.members)] = True
        if self.index is None:
            return group_log_odds(logits, members)
        return log_odds_within(logits, _as_index(self.index, logits), members)

    def of(self, i: int) -> "GroupTarget":
        """The target of picture `i` alone."""
        return replace(self, index=_pick(self.index, i))

    def to_dict(self) -> dict:
        """As plain JSON values."""
        index = {} if self.index is None else {"index": self.index}
        return {
            "kind": self.kind,
            **index,
            "group": self.group.name,
            "synset": self.group.synset,
            "members": self.group.members,
        }


def of_group(model: ImageModel, group: Group, index: int | None = None) -> GroupTarget:
    """The target of a group of a network's classes, or of a class within it; arguments as for `GroupTarget`.

    Raises:
        UndefinedError: a network without classes, or one whose classes do not exclude each other.
    """
    if model.outputs == "embedding":
        model.refuse_classes()
    if model.outputs == "sigmoid":
        raise UndefinedError(
            f"The outputs of {model.name} are each a question of its own: several of a group can be true at once, and how often "
            "they are the network does not say, so a group has no log-odds; ask for one class."
        )
    return GroupTarget(group, index)


@dataclass(frozen=True)
class Similarity:
    """Cosine with a reference: calling it with embeddings (N, D), not logits, gives (N,), from −1 to 1.

    Attributes:
        vector: the reference's embedding (D,).
        source: plain values that say what the reference is.
    """

    vector: Tensor = field(repr=False)
    source: dict
    kind: ClassVar[str] = "similarity"
    index: ClassVar[None] = None

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Raises UndefinedError for embeddings of another length."""
        return cosine(embeddings, self.vector)

    def of(self, i: int) -> "Similarity":
        """The target of picture `i` alone: the same for all."""
        return self

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return {"kind": self.kind, "reference": self.source}


def cosine(embeddings: Tensor, vector: Tensor) -> Tensor:
    """⟨e, v⟩ / (‖e‖ ‖v‖): embeddings (N, D), vector (D,) → (N,).

    Raises:
        UndefinedError: a vector of another length.
    """
    if embeddings.ndim != 2 or embeddings.shape[1:] != vector.shape:
        raise UndefinedError(
            f"The vector has {len(vector)} numbers, and this network's embedding has {' × '.join(map(str, embeddings.shape[1:]))}; "
            "only a vector from the same network can be compared with it."
        )
    return torch.cosine_similarity(embeddings, vector.to(embeddings)[None])


AnyTarget = Target | GroupTarget | Similarity


def joined(targets: Sequence[AnyTarget]) -> AnyTarget:
    """One target for several pictures, of the targets of each, which differ in their classes alone."""
    first = targets[0]
    if len(targets) == 1 or first.index is None:
        return first
    if isinstance(first, GroupTarget):
        return replace(first, index=tuple(target.index for target in targets))
    against = None if first.against is None else tuple(target.against for target in targets)
    return replace(first, index=tuple(target.index for target in targets), against=against)


def as_index(index: object) -> int | tuple[int, ...]:
    """A class index, or several, as Python's own integers.

    Raises:
        UndefinedError: no whole numbers.
    """
    if isinstance(index, np.ndarray | Tensor):
        index = index.tolist()  # Python's own numbers, in lists
    return tuple(map(_whole, index)) if isinstance(index, list | tuple) else _whole(index)


def _whole(index: object) -> int:
    if isinstance(index, np.generic | Tensor):
        index = index.tolist()
    try:  # a bool is an int for Python, and no index for anybody
        return operator.index(None if isinstance(index, bool) else index)
    except TypeError:
        raise UndefinedError(f"A class is told by its index, a whole number, and not by {index!r}.") from None


def _pick(index: int | Sequence[int] | None, i: int) -> int | None:
    return index[i] if isinstance(index, Sequence) else index


def _as_index(index: int | Sequence[int], logits: Tensor) -> Tensor:
    values = list(index) if isinstance(index, Sequence) else [index] * len(logits)
    _check_classes(values, logits)
    if len(values) != len(logits):
        raise UndefinedError(
            f"{len(values)} target classes were given for {len(logits)} pictures; give one, or one a picture."
        )
    return torch.tensor(values, device=logits.device)


def _check_classes(values: Sequence[int], logits: Tensor) -> None:
    """Raises UndefinedError unless the logits have all these classes."""
    if logits.ndim != 2:
        raise UndefinedError(
            f"This network puts out {' × '.join(map(str, logits.shape[1:]))} numbers and not one a class, so there is no class to "
            "explain; its layers' channels can be looked at."
        )
    classes = logits.shape[1]
    if classes == 0:
        raise UndefinedError("This network has no classifier, so there is no class to explain.")
    for value in values:
        if not 0 <= value < classes:
            raise UndefinedError(
                f"Class {value} is out of range: this model has {classes} classes, 0 to {classes - 1}."
            )
