"""The data set's card: what `datasets` needs to open it, and what people need to use it."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from datasets import Image, Value

from gallery.schema import FEATURES
from precompute.columns import COLUMNS

TITLE = "LSD feature visualizations"  # by which a folder is known for one of these data sets

_ALL = "data/*/*.parquet"
# What is looked at first where the data set is looked at row by row: no column of it is a long text or a large picture.
_SHOWN = ["thumbnail", "title", "model", "layer", "unit", "recipe", "own_probability", "agreement", "status", "unit_id"]
RESERVED = ("default", "index", "thumbnails")  # names of configurations that are no model's

_ABOUT = """\
# {title}

{rows:,} feature visualizations: for each unit (a class, a channel, a head, …) of {models} image models the picture that it
responds to most, found by gradient ascent from noise. No photo has been used in making them.

```python
from datasets import load_dataset

of_one = load_dataset("{repo}", "{folder}", split="train")     # one model's rows: its name, or with _ for : and /
pictures = load_dataset("{repo}", split="train", streaming=True,
                        columns=["unit_id", "title", "picture"], filters=[("kind", "==", "class")])
small = load_dataset("{repo}", "thumbnails", split="train")    # pictures of 128 pixels, and what they show
index = load_dataset("{repo}", "index", split="train")         # everything but the pictures
```

`croissant.json` describes the same rows to whatever reads [Croissant](https://mlcommons.org/croissant/).

## What is in it

| model | weights | licence of the weights | rows |
|---|---|---|---|
{table}

Recipes: {recipes}. Kinds of units: {kinds}. {failed:,} rows have no picture (`status` failed, with the reason in `error`), and
{dead:,} show what is left of the noise because no gradient reaches them (`status` dead).

## The columns

| column | type | what it is |
|---|---|---|
{columns}

## How they were made

By LSD {version}, which also makes any of them again: a row holds the model and a
digest of its weights, the unit, the whole recipe, the seed, the batch it was made in and the versions of what made it.
`python -m precompute verify FOLDER --sample 1%` does so and compares.

`own_top` is what the model itself takes the finished picture for, `verifiers` what other models do, `agreement` the share of
them whose first answer is the unit's class. Pictures are WebP; scores belong to the pixels before that.

## What to keep in mind

- A picture shows what a unit *can* be driven by, which need not be what drives it on photos (Geirhos et al., 2024).
- That a model recognises its own pictures says little: noise can be made to convince it. Look at `agreement`.
- Class names are ImageNet's, with its gaps and its biases.
- The pictures are offered under the licence above; the weights they come from have licences of their own.
"""


@dataclass(frozen=True)
class Source:
    """One model's part.

    Attributes:
        folder: below data/.
        weights: their repository and digest.
        licence: of the weights, as timm states it.
        rows: how many are its own.
    """

    model: str
    folder: str
    weights: str
    licence: str
    rows: int


def front_matter(rows: int | None = None, folders: Sequence[str] = ()) -> str:
    """The YAML at the top, with which `datasets` opens the folder or the repository: all of it, or one of the models' folders."""
    values: dict = {"license": "apache-2.0", "pretty_name": TITLE}
    values["configs"] = [
        _config("default", _ALL),
        _config("thumbnails", _ALL) | {"columns": _SHOWN},
        _config("index", "index.parquet"),
        *(_config(folder, f"data/{folder}/*.parquet") for folder in folders),
    ]
    values["tags"] = ["feature-visualization", "explainability", "interpretability", "timm"]
    if rows is not None:
        sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
        values["size_categories"] = [next((name for limit, name in sizes if rows < limit), "1M<n<10M")]
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def _config(name: str, files: str) -> dict:
    return {"config_name": name, "data_files": [{"split": "train", "path": files}]}


def _type(feature: object) -> str:
    """A column's type in a word or two."""
    if isinstance(feature, Image):
        return "image"
    if isinstance(feature, Value):
        return feature.dtype
    if isinstance(feature, dict):
        return f"{{{', '.join(feature)}}}"
    inner = feature.feature
    return f"list of {{{', '.join(inner)}}}" if isinstance(inner, dict) else f"list of {_type(inner)}"


def card(
    repo: str,
    version: str,
    sources: Sequence[Source],
    recipes: Sequence[str],
    kinds: Sequence[str],
    failed: int,
    dead: int,
) -> str:
    """The whole README.md of the data set."""
    rows = sum(source.rows for source in sources)
    table = "\n".join(f"| {s.model} | {s.weights} | {s.licence} | {s.rows:,} |" for s in sources)
    columns = "\n".join(f"| `{name}` | {_type(feature)} | {COLUMNS[name]} |" for name, feature in FEATURES.items())
    about = _ABOUT.format(
        title=repo.rpartition("/")[2], repo=repo, rows=rows, models=len(sources), folder=sources[0].folder,
        table=table, columns=columns, recipes=", ".join(recipes), kinds=", ".join(kinds), failed=failed, dead=dead, version=version,
    )  # fmt: skip
    return front_matter(rows, [source.folder for source in sources]) + "\n" + about
