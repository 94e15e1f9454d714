"""What a run is asked for, from the command line, a TOML file, or both."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gallery.pictures import QUALITY
from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT, Recipe, described
from lsd.sayings import NOTHING_OF_ANY, Sayings
from precompute.photos import Photos


@dataclass(frozen=True)
class Settings:
    """A run.

    Attributes:
        models: names, or timm's wildcards (`vit_tiny_patch16_224.*`).
        units: patterns of `lsd.features.units.expand`, applied to every model.
        recipes: each unit is made with every one.
        seeds: pictures of each unit and recipe, with the seeds 0, 1, ….
        verifiers: models that say what they take the pictures for; none judges its own.
        batch_size: pictures at once; None for what suits the device.
        quality: of the WebP pictures, 1 to 100.
        sayings: what the networks do not say of themselves: their outputs, layers' layouts.
        photos: in which the places are looked for that excite the units most.
    """

    models: tuple[str, ...]
    units: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    seeds: int = 1
    verifiers: tuple[str, ...] = ()
    batch_size: int | None = None
    quality: int = QUALITY
    sayings: Sayings = NOTHING_OF_ANY
    photos: Photos | None = None


_LISTS = ("models", "units", "recipe", "verifiers", "set", "outputs", "layout")
_NUMBERS = ("seeds", "size", "steps", "batch_size", "quality")
_TEXTS = ("effort", "photos")
_SWITCHES = ("crops",)
KEYS = (*_LISTS, *_NUMBERS, *_TEXTS, *_SWITCHES)  # what the command line and a file may say


def read_parts(values: Mapping[str, Any], file: Path | None = None) -> tuple[Settings, ...]:
    """Settings from what the command line says (None where it says nothing), over those of a TOML file.

    Both know the `KEYS`. A file may have several parts, `[[part]]`, each of which has what stands above them unless it says
    otherwise; what the command line says holds for all.

    Raises:
        LSDError: an unknown key, a value of the wrong kind or out of range, or a file that cannot be read.
    """
    said = {key: value for key, value in values.items() if value is not None}
    return tuple(dict.fromkeys(_read(part | said) for part in (_from_file(file) if file else [{}])))


def read(values: Mapping[str, Any], file: Path | None = None) -> Settings:
    """`read_parts` of what has one part.

    Raises:
        LSDError: as there, or the file has several.
    """
    parts = read_parts(values, file)
    if len(parts) > 1:
        raise LSDError(f"{file} has {len(parts)} parts, where one is wanted.")
    return parts[0]


def _read(given: dict[str, Any]) -> Settings:
    for key in ("models", "units"):
        if not given.get(key):
            raise LSDError(f"Which {key}? Give --{key} …, or {key} = […] in the file of --config.")
    for key in _LISTS:
        value = given.get(key)
        if value is not None and not (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
            raise LSDError(f"{key} is a list of texts, not {value!r}.")
    for key in _NUMBERS:
        if key in given and type(given[key]) is not int:
            raise LSDError(f"{key} is a whole number, not {given[key]!r}.")
    for key in _TEXTS:
        if key in given and not isinstance(given[key], str):
            raise LSDError(f"{key} is a text, not {given[key]!r}.")
    for key in _SWITCHES:
        if key in given and not isinstance(given[key], bool):
            raise LSDError(f"{key} is true or false, not {given[key]!r}.")
    if given.get("crops") and not given.get("photos"):
        raise LSDError("Crops of which photos? Give --photos DIR, or photos = … in the file of --config.")
    names = given.get("recipe") or [DEFAULT]
    recipes = tuple(
        dict.fromkeys(
            described(name, given.get("set", ()), **{k: given.get(k) for k in ("size", "steps", "effort")})
            for name in names
        )
    )
    settings = Settings(
        tuple(given["models"]), tuple(given["units"]), recipes, given.get("seeds", 1),
        tuple(dict.fromkeys(given.get("verifiers", ()))), given.get("batch_size"), given.get("quality", QUALITY),
        Sayings.read(given.get("outputs", ()), given.get("layout", ())),
        Photos.of(given["photos"], given.get("crops", False)) if given.get("photos") else None,
    )  # fmt: skip
    for name, low, high in (("seeds", 1, 1000), ("quality", 1, 100), ("batch_size", 1, 4096)):
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise LSDError(f"{name} lies between {low} and {high}, not {value}.")
    return settings


def _from_file(file: Path) -> list[dict[str, Any]]:
    """What each part of it says, with what stands above the parts."""
    try:
        given = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise LSDError(f"{file} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LSDError(f"{file} is not TOML: {error}.") from error
    parts = given.pop("part", [{}])
    if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
        raise LSDError(f"A part of {file} begins with [[part]], and its settings stand below that.")
    for key in (key for values in (given, *parts) for key in values):
        if key not in KEYS:
            raise LSDError(f"“{key}” is not a setting of a run; there are {', '.join(KEYS)}.")
    return [given | part for part in parts]
