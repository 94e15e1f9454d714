"""A small gallery made up for tests: three models with classes, channels and heads, and pictures that all differ."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gallery import pictures, shards
from gallery.index import ORDER
from gallery.schema import OF_PHOTOS, unit_id
from lsd import labels
from lsd.features.notes import HIGHEST
from lsd.provenance import slug

# Dogs, cats and cars; "dog" is in none of their names, only above them in WordNet's tree.
CLASSES = (207, 208, 281, 282, 292, 817, 954)
MODELS = (
    ("resnet50.a1_in1k", "resnet", (("layer1.0.conv2", "channel"), ("layer3.5", "channel"))),
    ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "vision_transformer", (("blocks.5.attn", "head"),)),
    ("convnext_atto.d2_in1k", "convnext", (("stages.2", "channel"),)),
)


def make_row(
    model: str = MODELS[0][0],
    unit: str = "class/207",
    recipe: str = "lucid",
    seed: int = 0,
    *,
    family: str = "resnet",
    depth: int = 9,
    status: str = "ok",
    **columns,
) -> dict:
    """One row as `gallery.shards.to_table` takes it; what is not given follows from the unit, or is made up."""
    *layers, kind, number = unit.split("/")
    layer, number = "/".join(layers), int(number)
    name = labels.class_names(1000)[number] if not layer else ""
    random = np.random.default_rng(_number(f"{model}{unit}{recipe}{seed}"))
    pixels = (random.random((4, 6, 3)) * 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    failed = status == "failed"
    values = {
        "unit_id": unit_id(model, unit, recipe, seed),
        "model": model,
        "architecture": model.partition(".")[0],
        "family": family,
        "layer": layer,
        "depth": depth,
        "kind": kind,
        "index": number,
        "unit": unit,
        "title": labels.short(name) or unit,
        "class_name": name,
        "synset": labels.synsets(1000)[number] if not layer else "",
        "recipe": recipe,
        "recipe_hash": f"{_number(recipe):016x}",
        "seed": seed,
        "picture": None if failed else pictures.webp(pixels),
        "thumbnail": None if failed else pictures.thumbnail(pixels),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "status": status,
        "notes": [],
        "error": "It went wrong." if failed else "",
        "score": None if failed else float(random.normal(10, 3)),
        "own_top": [{"index": number, "name": labels.short(name), "probability": 0.5}] if name and not failed else [],
        "own_probability": float(random.random()) if name and not failed else None,
        "verifiers": [],
        "agreement": float(random.integers(0, 4)) / 3 if name and not failed else None,
        "spread": float(random.random()),
        "fine_energy": None if failed else float(random.random()),
        "contrast": None if failed else 0.2,
        "clipped": None if failed else 0.01,
        "flat": "",
        "trace": [] if failed else np.linspace(0, 10, 16).tolist(),
        "restarts": 0,
        "weights_source": "hub",
        "weights_repo": f"timm/{model}",
        "weights_revision": "0" * 40,
        "weights_sha256": "1" * 64,
        "weights_digest": "2" * 64,
        "recipe_json": "{}",
        "steps": 512,
        "batch": 0,
        "batch_size": 8,
        "batch_place": number % 8,
        "pixels_sha256": f"{random.integers(2**60):064x}",
        "environment": "{}",
        "seconds": 1.5,
        "created": "2026-01-01T00:00:00Z",
        "task": "0" * 16,
        "said": "{}",
        "names_assumed": [],
        **dict.fromkeys(OF_PHOTOS),
    }
    return values | columns


def make_rows() -> list[dict]:
    """The rows of the whole gallery: classes with two recipes and some with two seeds, layers with one of each."""
    rows = []
    for model, family, layers in MODELS:
        for number in CLASSES:
            for recipe, seed in (("lucid", 0), ("lucid", 1), ("maco", 0)):
                if (model, seed) == (MODELS[2][0], 1) or (model, number, recipe) == (MODELS[1][0], 207, "lucid"):
                    continue  # so that not everything is everywhere
                status = "failed" if (model, number) == (MODELS[0][0], 954) else "ok"
                rows.append(make_row(model, f"class/{number}", recipe, seed, family=family, status=status))
        for depth, (layer, kind) in enumerate(layers):
            for number in range(3 if kind == "head" else 20):
                status = "dead" if number == 3 else "ok"
                rows.append(make_row(model, f"{layer}/{kind}/{number}", family=family, depth=depth, status=status))
    contrast = {"kind": "contrast", "class_name": "", "synset": "", "title": "golden retriever − Labrador retriever"}
    rows.append(make_row(unit="class/207", **contrast) | _named("contrast/207/208"))
    bound = {"status": "dead", "notes": [HIGHEST], "class_name": "", "synset": "", "kind": "expression"}
    rows.append(make_row(unit="class/207", **bound) | _named("-1 * layer3.5/channel/12", True))
    summed = {"kind": "expression", "index": -1, "class_name": "", "synset": ""}
    rows.append(make_row(unit="class/207", **summed) | _named("class/207 + 0.5 * layer3.5/channel/12", True))
    return sorted(rows, key=lambda row: [row[name] for name in ORDER])


def _number(text: str) -> int:
    """The same 60-bit number for the same text in every process, which `hash` does not give."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


def _named(unit: str, title: bool = False) -> dict:
    names = {"unit": unit, "unit_id": unit_id(MODELS[0][0], unit, "lucid", 0)}
    return names | ({"title": unit} if title else {})


def write_shard(folder: Path, name: str, rows: Sequence[dict]) -> Path:
    """Rows of one model as the shard `name` of the gallery in `folder`."""
    path = Path(folder) / "data" / slug(rows[0]["model"]) / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(shards.table_bytes(shards.to_table(rows)))
    return path


def make_gallery(folder: Path, rows: Sequence[dict] | None = None, shard_rows: int = 30) -> Path:
    """Write a gallery, without an index, into `folder`, and return it."""
    rows = make_rows() if rows is None else rows
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        for start in range(0, len(of_model), shard_rows):
            write_shard(folder, f"part-{start:06d}", of_model[start : start + shard_rows])
    return Path(folder)
