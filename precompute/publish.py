"""A run's folder as a data set: few large shards in browsing order, an index, a card; and its way to the Hub."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import lsd
from gallery import shards
from gallery.index import ORDER, SCRATCH, build, find_shards
from lsd.errors import LSDError
from lsd.provenance import slug
from precompute.card import TITLE, Source, card, front_matter
from precompute.storage import Storage

SHARD_BYTES = 256 * 2**20  # of pictures in one file


def assemble(folder: Path, repo: str, output: Path, told=lambda name: None, shard_bytes: int = SHARD_BYTES) -> int:
    """Write the data set of a run's folder into `output`, and return its number of rows.

    One model at a time is held in memory. What is in `output` already is replaced, if it is a data set of this program.

    Args:
        repo: "user/name", for the card.
        told: is called with each model's name before its shards are put together.
        shard_bytes: of the pictures in one file, at most, unless a single one is larger; thumbnails and the rest come on top.

    Raises:
        LSDError: there is nothing to publish, or `output` holds something else.
    """
    by_model: dict[str, list[Path]] = defaultdict(list)
    for path in find_shards(folder):
        by_model[shards.read_rows(path, ["model"])[0]["model"]].append(path)
    if not by_model:
        raise LSDError(f"There are no pictures in {folder}; python -m precompute run makes some.")
    storage = Storage(str(output))
    storage.clean()
    _clear(output)
    storage.put("README.md", front_matter().encode())  # first, so that what is left of a killed run is known for ours
    sources, recipes, kinds, states = [], Counter(), Counter(), Counter()
    for model, paths in sorted(by_model.items()):
        told(model)
        table = _sorted(pa.concat_tables(shards.read_table(path) for path in paths))
        for number, part in enumerate(_parts(table, shard_bytes)):
            data = shards.table_bytes(part)
            storage.put(f"data/{slug(model)}/{number:05}.parquet", data, lambda d, n=part.num_rows: shards.check(d, n))
        row = table.slice(0, 1).select(["weights_repo", "weights_revision", "weights_digest"]).to_pylist()[0]
        weights = row["weights_repo"] + (f" at {row['weights_revision'][:10]}" if row["weights_revision"] else "")
        weights += f", digest {row['weights_digest'][:12]}" if row["weights_digest"] else ""
        sources.append(Source(model, weights, licence(model), table.num_rows))
        for counter, column in ((recipes, "recipe"), (kinds, "kind"), (states, "status")):
            counter.update(table.column(column).to_pylist())
    storage.put(
        "README.md",
        card(repo, lsd.__version__, sources, sorted(recipes), sorted(kinds), states["failed"], states["dead"]).encode(),
    )
    return build(output).rows


def _clear(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir() or any(output.iterdir()):
        readme = output / "README.md"
        if not readme.is_file() or TITLE not in readme.read_text("utf-8", "replace") or (output / "plans").exists():
            raise LSDError(f"{output} holds something else; give an empty folder.")
    for folder in (output / "data", *output.glob(f"{SCRATCH}*")):
        shutil.rmtree(folder, ignore_errors=True)
    (output / "index.parquet").unlink(missing_ok=True)


def _sorted(table: pa.Table) -> pa.Table:
    """In browsing order, of rows with one `unit_id` the one that `gallery.index` keeps."""
    order = table.select(["unit_id", "created"]).append_column("at", pa.array(range(len(table))))
    order = order.append_column("made", pc.not_equal(table["status"], "failed"))
    latest = order.sort_by([(name, "ascending") for name in ("unit_id", "made", "created")]).to_pydict()
    keep = sorted(dict(zip(latest["unit_id"], latest["at"], strict=True)).values())
    table = table.take(keep)
    return table.take(pc.sort_indices(table.select(ORDER), sort_keys=[(name, "ascending") for name in ORDER]))


def _parts(table: pa.Table, most: int) -> Iterator[pa.Table]:
    sizes = pc.fill_null(pc.binary_length(pc.struct_field(table.column("picture"), "bytes")), 0).to_pylist()
    start = total = 0
    for i, size in enumerate(sizes):
        if total and total + size > most:
            yield table.slice(start, i - start)
            start, total = i, 0
        total += size
    yield table.slice(start)


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
    """Send an assembled data set to the Hub; its address. Files that are there already are not sent again.

    Raises:
        LSDError: not logged in, no network, or no rights.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(repo, repo_type="dataset", exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, repo_type="dataset", delete_patterns="data/*"))
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
