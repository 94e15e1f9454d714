"""One task: at most 64 units of one model under one recipe, with all their seeds.

Loading a model then amortises, the batches are full, and a run that dies loses little. A task is JSON, and its name is a
hash of all that determines its rows, so that changed settings never take up old results.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gallery.pictures import QUALITY
from lsd.errors import LSDError
from lsd.features.recipes import Recipe
from lsd.provenance import slug
from lsd.said import Said
from precompute.photos import Photos

UNITS = 64
FORMAT = 2  # of the making of rows, not of their files: another number makes all of them again, under other names


@dataclass(frozen=True)
class Task:
    """What one worker does at a time.

    Attributes:
        model: its name.
        weights_digest: of its weights: others make another task.
        units: as strings, in order.
        recipe, seeds, batch_size, quality: as in `precompute.settings`.
        verifiers: (name, digest of the weights) of the models that are asked.
        others: the same of further models whose units these are in part (`MODEL::UNIT`).
        said: (name, what was said of it), of all these models of which something was.
        photos: in which the places are looked for that excite the units most; None for in none.
    """

    model: str
    weights_digest: str | None
    units: tuple[str, ...]
    recipe: Recipe
    seeds: tuple[int, ...]
    verifiers: tuple[tuple[str, str | None], ...] = ()
    batch_size: int | None = None
    quality: int = QUALITY
    others: tuple[tuple[str, str | None], ...] = ()
    said: tuple[tuple[str, Said], ...] = ()
    photos: Photos | None = None

    @property
    def pictures(self) -> int:
        """How many rows it makes."""
        return len(self.units) * len(self.seeds)

    @property
    def title(self) -> str:
        """What people call it: the model, the units, the recipe."""
        units = self.units[0] if len(self.units) == 1 else f"{self.units[0]} to {self.units[-1]}"
        return f"{self.model}, {units}, {self.recipe.name}"

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits."""
        values = self.to_dict() | {"recipe": self.recipe.hash, "name": self.recipe.name, "format": FORMAT}
        if self.photos:
            values["photos"] = self.photos.identity()  # wherever they lie
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def shard(self) -> str:
        """Where its rows go, below the run's folder."""
        return f"data/{slug(self.model)}/{self.hash}.parquet"

    @property
    def marker(self) -> str:
        """What says that the shard is there, whole."""
        return f"done/{self.hash}.json"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; "said" and "photos" only where there are any, so that other tasks keep their hash."""
        values = vars(self) | {
            "recipe": self.recipe.to_dict(), "units": list(self.units), "seeds": list(self.seeds),
            "verifiers": [list(pair) for pair in self.verifiers], "others": [list(pair) for pair in self.others],
            "said": {name: said.to_dict() for name, said in self.said}, "photos": self.photos and dict(vars(self.photos)),
        }  # fmt: skip
        return {key: value for key, value in values.items() if key not in ("said", "photos") or value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Task":
        """The inverse of `to_dict`.

        Raises:
            LSDError: not a task.
        """
        try:
            return cls(
                **dict(values) | {
                    "recipe": Recipe.from_dict(values["recipe"]), "units": tuple(values["units"]),
                    "seeds": tuple(values["seeds"]), "verifiers": tuple((n, s) for n, s in values["verifiers"]),
                    "others": tuple((n, s) for n, s in values["others"]), "said": all_said(values.get("said", {})),
                    "photos": Photos.from_dict(values["photos"]) if "photos" in values else None,
                }
            )  # fmt: skip
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            if isinstance(error, LSDError):
                raise
            raise LSDError("That is not a task of this program; plan the run again.") from error


def all_said(values: Mapping[str, Any]) -> tuple[tuple[str, Said], ...]:
    """The inverse of what `Task.to_dict` makes of `Task.said`. Raises LSDError for a saying that is none."""
    return tuple((name, Said.from_dict(said)) for name, said in values.items())
