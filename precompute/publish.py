"""A run's folder as a data set: few large shards in browsing order, an index, a card; and its way to the Hub.

However many pictures a model has, those of some row groups are in memory at a time. What was written is read back, counted
and compared with what was to be.
"""

import hashlib
import io
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import lsd
from gallery import shards
from gallery.index import NAME, ORDER, SCRATCH, build, find_shards
from gallery.schema import ROW_GROUP
from lsd.errors import LSDError
from lsd.provenance import slug
from lsd.recent import Recent
from precompute.card import RESERVED, TITLE, Source, card, front_matter
from precompute.croissant import FILE, croissant
from precompute.storage import Storage

SHARD_BYTES = 256 * 2**20  # of pictures in one file
_READ_AHEAD = 192 * 2**20  # bytes of row groups that are kept, of which other rows are wanted soon


def assemble(folder: Path, repo: str, output: Path, told=lambda name: None, shard_bytes: int = SHARD_BYTES) -> int:
    """Write the data set of a run's folder into `output`, and return its number of rows.

    What is in `output` already is replaced, if it is a data set of this program.

    Args:
        repo: "user/name", for the card.
        told: is called with each model's name before its shards are put together.
        shard_bytes: of the pictures in one file, at most, unless a single one is larger; thumbnails and the rest come on top.

    Raises:
        LSDError: there is nothing to publish, `output` holds something else, or what was written is not what was to be.
    """
    by_model: dict[str, list[Path]] = defaultdict(list)
    for path in find_shards(folder):
        for model in shards.read_table(path, ["model"])["model"].unique().to_pylist():
            by_model[model].append(path)
    if not by_model:
        raise LSDError(f"There are no pictures in {folder}; python -m precompute run makes some.")
    storage = Storage(str(output))
    storage.clean()
    _clear(output)
    storage.put("README.md", front_matter().encode())  # first, so that what is left of a killed run is known for ours
    names = folders(by_model)
    sources, recipes, kinds, states, created = [], Counter(), Counter(), Counter(), ""
    for model, paths in sorted(by_model.items()):
        told(model)
        rows = _Rows.of(model, paths)
        for number, part in enumerate(_parts(rows.tables(), shard_bytes)):
            buffer = io.BytesIO()
            count = shards.write(part, buffer)
            data = buffer.getvalue()
            del buffer
            storage.put(f"data/{names[model]}/{number:05}.parquet", data, lambda d, n=count: shards.check(d, n))
        first = rows.light.slice(0, 1).to_pylist()[0]
        weights = first["weights_repo"] + (f" at {first['weights_revision'][:10]}" if first["weights_revision"] else "")
        weights += f", digest {first['weights_digest'][:12]}" if first["weights_digest"] else ""
        sources.append(Source(model, names[model], weights, licence(model), len(rows.light)))
        for counter, column in ((recipes, "recipe"), (kinds, "kind"), (states, "status")):
            counter.update(rows.light.column(column).to_pylist())
        created = max(created, pc.max(rows.light["created"]).as_py() or "")
    built = build(output)
    _compare(built.path, {source.model: source.rows for source in sources})
    about = card(repo, lsd.__version__, sources, sorted(recipes), sorted(kinds), states["failed"], states["dead"])
    storage.put("README.md", about.encode())
    described = f"{built.rows:,} feature visualizations of {len(sources)} image models, by LSD {lsd.__version__}."
    storage.put(FILE, croissant(output, repo, described, created[:10]).encode())
    return built.rows


def folders(models: Collection[str]) -> dict[str, str]:
    """A folder for each model and none for two: its slug, and where several models have the same, with a hash of the name.

    It is a configuration's name as well. Upper and lower case make no difference, as on many disks.
    """
    times = Counter([*(slug(model).lower() for model in models), *RESERVED])
    return {
        model: slug(model) if times[slug(model).lower()] == 1 else f"{slug(model)}-{_hash(model)}" for model in models
    }


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _compare(index: Path, expected: dict[str, int]) -> None:
    """Raise LSDError unless the index, which was made from the files as they are, has so many rows of each model."""
    counts = pq.read_table(index, columns=["model"])["model"].value_counts().to_pylist()
    found = Counter({one["values"]: one["counts"] for one in counts})
    for model in sorted({*expected, *found}):
        if found[model] != expected.get(model, 0):
            raise LSDError(
                f"Of {model} {expected.get(model, 0):,} rows were to be published, and {found[model]:,} are in {index.parent}: "
                "is there enough room, and does nobody else write there? Run the same command again."
            )


def _clear(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir() or any(output.iterdir()):
        readme = output / "README.md"
        if not readme.is_file() or TITLE not in readme.read_text("utf-8", "replace") or (output / "plans").exists():
            raise LSDError(f"{output} holds something else; give an empty folder.")
    for folder in (output / "data", *output.glob(f"{SCRATCH}*")):
        shutil.rmtree(folder, ignore_errors=True)
    for name in (NAME, FILE):
        (output / name).unlink(missing_ok=True)


_LIGHT = (
    *("unit_id", "status", "created", *(name for name in ORDER if name != "unit")),
    *("unit", "weights_repo", "weights_revision", "weights_digest"),
)


@dataclass(frozen=True)
class _Rows:
    """A model's rows in browsing order.

    Attributes:
        light: `_LIGHT` of each, and where the rest lies: path (its place among `paths`), group, row (in the row group).
    """

    paths: list[Path]
    light: pa.Table

    @classmethod
    def of(cls, model: str, paths: list[Path]) -> "_Rows":
        """Those of `model`, each `unit_id` once."""
        found = []
        for number, path in enumerate(paths):
            with shards.open_shard(path) as file:
                sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            table = shards.read_table(path, list(dict.fromkeys((*_LIGHT, "model"))))
            for name, values in (
                ("path", np.full(len(table), number)),
                ("group", np.repeat(np.arange(len(sizes)), sizes)),
                ("row", np.concatenate([np.arange(size) for size in sizes] or [np.arange(0)])),
            ):
                table = table.append_column(name, pa.array(values, pa.int64()))
            found.append(table.filter(pc.equal(table["model"], model)))
        return cls(paths, _sorted(pa.concat_tables(found)))

    def tables(self) -> Iterator[pa.Table]:
        """All columns, a row group's worth at a time."""
        read: Recent[pa.Table] = Recent(_READ_AHEAD, lambda table: table.nbytes)
        for start in range(0, len(self.light), ROW_GROUP):
            places = self.light.slice(start, ROW_GROUP).select(["path", "group", "row"]).to_pylist()
            wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
            for at, place in enumerate(places):
                wanted[place["path"], place["group"]].append(at)
            parts = [
                read.get(key, lambda key=key: shards.read_group(self.paths[key[0]], key[1])).take(
                    [places[at]["row"] for at in ats]
                )
                for key, ats in wanted.items()
            ]
            yield pa.concat_tables(parts).take(np.argsort([at for ats in wanted.values() for at in ats]))


def _sorted(table: pa.Table) -> pa.Table:
    """In browsing order, of rows with one `unit_id` the one that `gallery.index` keeps."""
    order = table.select(["unit_id", "created"]).append_column("at", pa.array(range(len(table)), pa.int64()))
    order = order.append_column("made", pc.not_equal(table["status"], "failed"))
    latest = order.sort_by([(name, "ascending") for name in ("unit_id", "made", "created", "at")]).to_pydict()
    table = table.take(list(dict(zip(latest["unit_id"], latest["at"], strict=True)).values()))
    return table.sort_by([(name, "ascending") for name in (*ORDER, "unit_id")])


def _parts(tables: Iterable[pa.Table], most: int) -> Iterator[Iterator[pa.Table]]:
    """The same rows in parts with at most so many bytes of pictures each, unless a single one has more.

    Each part is to be used up before the next one is asked for.
    """
    rows = (table.slice(i, 1) for table in tables for i in range(len(table)))
    waiting = next(rows, None)

    def part() -> Iterator[pa.Table]:
        nonlocal waiting
        total = 0
        while waiting is not None and (not total or total + _picture_bytes(waiting) <= most):
            total += _picture_bytes(waiting)
            yield waiting
            waiting = next(rows, None)

    while waiting is not None:
        yield part()


def _picture_bytes(row: pa.Table) -> int:
    picture = row["picture"][0].as_py()
    return len(picture["bytes"] or b"") if picture else 0


def licence(model: str) -> str:
    """The licence of a model's weights, as timm or the model's own configuration states it."""
    import timm

    from lsd.weights import local_models, locate, read_config

    if model.startswith("demo:"):
        return "apache-2.0"
    if model in local_models():
        config = read_config(locate(model))
        stated = config.get("license") or (config.get("pretrained_cfg") or {}).get("license")
        if stated:
            return stated
    try:
        found = timm.get_pretrained_cfg(model)
    except RuntimeError:  # a tag that timm does not know: a model of somebody's own
        found = None
    return (found and found.license) or "not stated"


def upload(folder: Path, repo: str) -> str:
    """Send an assembled data set to the Hub; its name there, pinned to the commit: “user/name@…”, as `LSD_GALLERY_REPO` takes it.

    Files that are there already are not sent again.

    Raises:
        LSDError: not logged in, no network, or no rights.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(repo, repo_type="dataset", exist_ok=True)
        sent = api.upload_folder(repo_id=repo, folder_path=folder, repo_type="dataset", delete_patterns="data/*")
        return f"{repo}@{sent.oid}"
    except HFValidationError as error:
        raise LSDError(f"“{repo}” is not the name of a repository on the Hub; write user/name.") from error
    except LocalTokenNotFoundError as error:
        raise LSDError("You are not logged in to the Hugging Face Hub; run hf auth login.") from error
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", None)
        reason = "log in with hf auth login" if code == 401 else f"the Hub said: {' '.join(str(error).split())[:300]}"
        raise LSDError(f"{repo} could not be published: {reason}; run the same command again to go on.") from error
    except Exception as error:  # whatever its transport raises
        raise LSDError(
            f"{repo} could not be published: the Hub is out of reach ({type(error).__name__}); "
            "run the same command again to go on."
        ) from error
