"""From a row of the gallery to where it can be had again: its recipe, its command line, the live tabs, a citation.

A row may be anybody's, so nothing it says is trusted: what has another hash than it claims is no recipe of it.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from gallery.queries import Entry
from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT, RECIPES, Recipe
from lsd.said import NOTHING, Said
from lsd.sayings import ALL, texts
from lsd.ui.shared.limits import MAX_SEEDS


def recipe_of(row: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a whole row; None if it cannot be read, or has another hash than the row says."""
    try:
        recipe = Recipe.from_dict(json.loads(row["recipe_json"]))
    except (LSDError, ValueError, TypeError, RecursionError):
        return None
    return recipe if recipe.hash == row["recipe_hash"] else None


def settings(recipe: Recipe) -> tuple[str, dict[str, str]]:
    """The shipped recipe that it comes from, and what differs, as `recipes.changed` takes it."""
    candidates = [recipe.name] if recipe.name in RECIPES else [DEFAULT, *RECIPES]
    changes = {name: _differences(RECIPES[name].to_dict(), recipe.to_dict()) for name in candidates}
    base = min(changes, key=lambda name: len(changes[name]))
    return base, changes[base]


def _differences(base: Mapping, wanted: Mapping) -> dict[str, str]:
    found = {}
    for name, value in wanted.items():
        if name == "name" or value == base[name]:
            continue
        if isinstance(value, dict) and isinstance(base[name], dict):
            found |= {f"{name}.{key}": _text(part) for key, part in value.items() if part != base[name][key]}
        else:
            found[name] = _text(value)
    return found


def _text(value: Any) -> str:
    """A setting as text, so that it is read as the same value again."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)


def said_of(row: Mapping[str, Any]) -> dict[str, Said] | None:
    """What was said of the networks of a whole row, by name; None if it cannot be read."""
    try:
        return {str(name): Said.from_dict(said) for name, said in json.loads(row.get("said") or "{}").items()}
    except (LSDError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def command(entry: Entry, recipe: Recipe, said: Mapping[str, Said]) -> str:
    """The command line that makes a row's picture again, for a POSIX shell.

    Args:
        said: what was said of its network, and of others, of which only those count that its unit names.
    """
    base, changes = settings(recipe)
    words = ["--model", entry.model, "--unit", entry.unit, "--recipe", base]
    for name in ("steps", "size"):
        if name in changes:
            words += [f"--{name}", changes.pop(name)]
    for name, value in changes.items():
        words += ["--set", f"{name}={value}"]
    words += ["--seed", str(entry.seed)]
    for name, of_it in said.items():
        if name == entry.model or f"{name}::" in entry.unit:
            found = texts(of_it, ALL if name == entry.model else name)
            words += [word for option, values in found.items() for value in values for word in (f"--{option}", value)]
    return f"python -m lsd features {shlex.join(words)}"


def live_address(entry: Entry, recipe: Recipe | None, said: Said = NOTHING) -> str:
    """The address at which the Features tab makes this unit live, at its own number of steps and pixels.

    The tab makes the seeds 0, 1, …, so it is asked for as many as it takes to come to the row's, if it makes so many.

    Args:
        said: of the row's network.
    """
    base, changes = settings(recipe) if recipe else (DEFAULT, {})
    pairs = [("tab", "features"), ("model", entry.model), ("unit", entry.unit), ("recipe", base)]
    pairs += [("set", f"{name}={value}") for name, value in changes.items() if name not in ("steps", "size")]
    if 0 < entry.seed < MAX_SEEDS:
        pairs.append(("seeds", str(entry.seed + 1)))
    pairs += _pairs(said)
    return f"?{urlencode(pairs, safe='/:')}"


def _pairs(said: Said) -> list[tuple[str, str]]:
    return [(option, value) for option, values in texts(said).items() for value in values]


def saliency_address(entry: Entry, said: Said = NOTHING, *, by_index: bool = False) -> str:
    """The address at which the Saliency tab explains this class to this model; "" for other units.

    Args:
        said: of the row's network.
        by_index: call the class by its index, because another has the same name.
    """
    if not entry.class_name:
        return ""
    of = str(entry.index) if by_index else entry.class_name
    pairs = [("tab", "saliency"), ("model", entry.model), ("of", of), *_pairs(said)]
    return f"?{urlencode(pairs, safe='/:')}"


def reasons_address(entry: Entry, said: Said = NOTHING) -> str:
    """The address at which the Reasons tab shows this channel in a picture; "" for other units, and where something is said of
    the network, which that tab does not hear."""
    if entry.kind != "channel" or entry.unit != f"{entry.layer}/channel/{entry.index}" or said != NOTHING:
        return ""
    pairs = [
        ("tab", "reasons"),
        ("model", entry.model),
        ("layer", entry.layer),
        ("view", "channels"),
        ("unit", str(entry.index)),
    ]
    return f"?{urlencode(pairs, safe='/:')}"


def citation(entry: Entry) -> str:
    """How to cite a row, as BibTeX; its id and the hash of its pixels say which picture is meant."""
    title = entry.title.translate({ord(c): None for c in "{}\\"})
    year = entry.created[:4] if entry.created[:4].isdecimal() else ""
    weights = entry.weights_digest or entry.weights_sha256
    lines = [
        f"title = {{Feature visualization of {title} in {entry.model}}}",
        "howpublished = {LSD gallery of feature visualizations}",
        *([f"year = {{{year}}}"] if year else []),
        f"note = {{{entry.unit_id}; weights {weights[:12]}; pixels {entry.pixels_sha256[:12]}}}",
    ]
    return "@misc{lsd-gallery-" + entry.pixels_sha256[:8] + ",\n  " + ",\n  ".join(lines) + "\n}"
