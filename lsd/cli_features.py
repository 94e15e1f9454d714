"""The command line of feature visualization: `python -m lsd features …`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lsd import cli_again, cli_said
from lsd.errors import LSDError


def add_parser(commands) -> None:
    """Add the command to those of `lsd.cli`."""
    parser = commands.add_parser("features", help="what does a class, channel or neuron respond to most?")
    parser.add_argument("--model", metavar="NAME", help="python -m lsd models lists them")
    cli_said.add_options(parser)
    parser.add_argument(
        "--unit", action="append", default=[], metavar="UNIT",
        help="class/207, class/tabby, layer3/channel/12, layer3/neuron/12/7/7, blocks.5.attn/head/2, … (several times)",
    )  # fmt: skip
    parser.add_argument(
        "--units", action="append", default=[], metavar="PATTERN",
        help="many at once: class:all, class:7,27,40-49, layer3:channels, layer3:channels:16, layer:curated:16",
    )  # fmt: skip
    parser.add_argument(
        "--recipe",
        help="a name (--list-recipes) or a JSON file (default: lsd, made for classes; texture suits channels)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the recipe, such as steps=256"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="pictures of each unit (default: 1)")
    parser.add_argument("--seed", type=int, action="append", metavar="K", help="this seed alone (several times)")
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="longer side of the picture (default: what the model takes)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="of the ascent (default: the recipe's)")
    parser.add_argument("--effort", help="draft, normal or fine: .3, 1 or 4 times the recipe's steps")
    parser.add_argument(
        "--photo", type=Path,
        help="for LAYER/inversion, LAYER/caricature and similarity, and for --start photo; or example:NAME, or for "
        "similarity an .npy file with a vector",
    )  # fmt: skip
    parser.add_argument("--start", choices=("noise", "photo"), default="noise", help="what the ascent starts from")
    parser.add_argument("--verifier", action="append", default=[], metavar="NAME", help="a model that is asked too")
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="photos whose strongest answer scores are held against"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures at once (default: what suits the device)")
    parser.add_argument("--list-layers", action="store_true", help="the model's layers, and their units")
    parser.add_argument("--list-recipes", action="store_true", help="describe the recipes")
    parser.add_argument("--from", dest="manifest", type=Path, help="make the pictures of a manifest again and compare")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the files go (default: lsd-features)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    if options.list_recipes:
        return _list_recipes()
    if options.manifest:
        return _reproduce(options)
    if not options.model:
        raise LSDError("Which model? Give --model NAME; python -m lsd models lists them.")
    return _list_layers(options) if options.list_layers else _make(options)


def _list_recipes() -> int:
    import json
    import textwrap

    from lsd.features.recipes import RECIPES

    for recipe in RECIPES.values():
        print(f"{recipe.name} ({recipe.hash})")
        print(textwrap.fill(recipe.about, 110, initial_indent="    ", subsequent_indent="    "))
        print(textwrap.fill(json.dumps(recipe.to_dict()), 110, initial_indent="    ", subsequent_indent="    ") + "\n")
    return 0


def _list_layers(options: argparse.Namespace) -> int:
    from lsd.layers import as_said, attention_layers, curated_layers, list_layers, runs_of
    from lsd.models import get_model

    sayings = cli_said.sayings(options)
    sayings.check([options.model])
    model = as_said(get_model(options.model), sayings.of(options.model))
    curated = curated_layers(model)
    names = {layer.name for layer in curated}
    print(f"{model.name}: stages and blocks")
    for layer in curated:
        _tell(layer, runs_of(model, layer))
    heads = attention_layers(model)
    if heads:
        print("attention heads")
        for layer, count in heads.items():
            print(f"  {layer:<32}{count} heads: {layer}/head/0 …")
    print("everything else")
    for layer in list_layers(model):
        if layer.name not in names and layer.layout != "other":
            _tell(layer, runs_of(model, layer))
    refused = [layer for layer in list_layers(model) if layer.refused]
    if refused:
        print("no units, though they look as if they had places")
        for layer in refused:
            print(f"  {layer.name:<32}{layer.refused}")
    return 0


def _tell(layer, runs) -> None:
    """A layer's units, and those of its runs where they are others."""
    print(f"  {layer.name:<32}{_shape(layer)}" + (f", runs {layer.runs} times: the last is meant" if runs else ""))
    for run in runs:
        alike = _shape(run) == _shape(layer) and run.layout == layer.layout
        print(f"    {run.name:<30}" + ("the same" if alike else _shape(run)))


def _shape(layer) -> str:
    if layer.layout == "other":
        return f"no units: {layer.refused}" if layer.refused else "no units"
    places = f"{layer.height} × {layer.width} places" if layer.height else "no places"
    prefix = f", {layer.prefix} prefix tokens" if layer.prefix else ""
    return f"{layer.channels:5} channels, {places}{prefix}"


def _make(options: argparse.Namespace) -> int:
    from lsd.features.bundle import Request
    from lsd.features.recipes import DEFAULT, described
    from lsd.features.units import expand, other_models
    from lsd.images import file_sha256, picture_path
    from lsd.layers import as_said
    from lsd.models import get_model

    if not (options.unit or options.units):
        raise LSDError("Which unit? Give --unit class/207 or --units class:all; --list-layers shows a model's layers.")
    if options.seeds < 1:
        raise LSDError(f"--seeds must be at least 1, and is {options.seeds}.")
    seeds = dict.fromkeys(options.seed or range(options.seeds))
    recipe = described(
        options.recipe or DEFAULT, options.set, size=options.size, steps=options.steps, effort=options.effort
    )
    sayings = cli_said.sayings(options)
    model = as_said(get_model(options.model), sayings.of(options.model))
    units = list(dict.fromkeys(u for pattern in options.unit + options.units for u in expand(pattern, model)))
    others = other_models(units, model.name)
    judging = [*others, *options.verifier]
    sayings.check([options.model, *judging])
    said_of_others = {name: said for name in judging if (said := sayings.of(name, asked=name == options.model))}
    photo = None
    if options.photo:
        options.photo = picture_path(options.photo)
        photo = {"file": options.photo.name, "path": str(options.photo), "sha256": file_sha256(options.photo)}
    request = Request(
        model.name, tuple(map(str, units)), tuple(seeds), recipe, options.batch_size, tuple(others),
        photo, options.start == "photo", model.said,
        tuple(said_of_others.items()),
    )  # fmt: skip
    folder = options.output or Path("lsd-features")
    verifiers, failures = _verifiers(options.verifier, said_of_others)
    pictures = _run(request, options.photo, folder, verifiers, options.photos)
    for failure in failures:
        print(f"lsd: {failure}", file=sys.stderr)
    return 2 if failures else 0 if all(picture.status == "ok" for picture in pictures) else 1


def _verifiers(names: Sequence[str], told: dict) -> tuple[list, list[LSDError]]:
    """The verifiers that can be asked, and why the others cannot: the pictures are made all the same."""
    from lsd.layers import as_said
    from lsd.models import get_model
    from lsd.said import NOTHING

    models, failures = [], []
    for name in names:
        try:
            models.append(as_said(get_model(name), told.get(name, NOTHING)))
        except LSDError as error:
            failures.append(error)
    return models, failures


def _run(
    request,
    photo_path: Path | None,
    folder: Path | None,
    judges: Sequence = (),
    photos: Path | None = None,
    batches: Sequence[int] | None = None,
) -> list:
    """Make the pictures and write them as they come; the finished ones, whatever interrupts the rest.

    Args:
        judges: models that are asked what they take the pictures for, besides their own.
        batches: the sizes of another run's batches, to do as it did.
    """
    from lsd.features import bundle
    from lsd.features.ascent import ascend
    from lsd.features.judge import spreads
    from lsd.features.photos import held_against
    from lsd.features.units import parse
    from lsd.layers import as_said
    from lsd.models import get_model
    from lsd.progress import bar
    from lsd.provenance import write_files
    from lsd.reference import open_reference
    from lsd.said import NOTHING

    model = as_said(get_model(request.model), request.said)
    told = dict(request.said_of_others)
    others = [as_said(get_model(name), told.get(name, NOTHING)) for name in request.others]
    reference = open_reference(photo_path) if photo_path else None
    units = [parse(unit) for unit in request.units]
    strongest = _strongest(units, model, photos, request.recipe.output) if photos else {}
    film, pictures, results, sizes = bundle.Film(), [], [], []
    try:
        with bar(request.model, "step"):
            for snapshot in ascend(
                model, units, request.recipe, request.seeds,
                others=others, **held_against(reference, model),
                start_from_photo=request.start_from_photo, batch_size=batches or request.batch_size,
            ):  # fmt: skip
                film.add(snapshot)
                pictures += snapshot.finished
                sizes += [len(snapshot.finished)] if snapshot.finished else []
                if snapshot.finished and folder:
                    results += bundle.results(snapshot.finished, model, judges, strongest)
                    files = {bundle.file_name(p.job): bundle.png(_image(p)) for p in snapshot.finished}
                    write_files(folder, files)
    finally:
        if folder and pictures:
            titles = [r["title"] for r in results]
            apart = spreads(((p.job.unit, p.pixels) for p in pictures), model)
            record = bundle.manifest(request, model, results, sizes, apart)
            extra = {
                "sheet.png": bundle.sheet(pictures, titles, f"{model.name}, recipe {request.recipe.name}"),
                "ascent.gif": film.gif(),
                "manifest.json": bundle.manifest_bytes(record),
            }
            write_files(folder, {name: data for name, data in extra.items() if data})
            print(f"wrote {folder}/: {len(pictures)} pictures, sheet.png, ascent.gif, manifest.json")
            _print_results(results)
            for unit, distance in apart.items():
                print(f"{unit}: its seeds' pictures are {distance:.2f} apart (0 the same, 1 nothing in common)")
            cli_said.print_notes([model, *judges])
    return pictures


def _image(picture):
    from PIL import Image

    return Image.fromarray(picture.pixels)


def _strongest(units, model, folder: Path, output: str) -> dict:
    """Unit → its largest value over a folder's photos; units that are held against a photo of their own are left out."""
    from lsd.features.judge import answers
    from lsd.features.objectives import needs_photo
    from lsd.features.photos import photo_batches

    asked = [unit for unit in units if not needs_photo([unit])]
    if not asked:
        return {}
    strongest = answers(asked, model, photo_batches(folder, model), output).amax(1)
    return dict(zip(asked, strongest.tolist(), strict=True))


def _print_results(results: Sequence[dict]) -> None:
    for r in results[:64]:
        first = f"; taken for {r['top'][0]['name']} ({r['top'][0]['probability']:.0%})" if r["top"] else ""
        others = "".join(f"; {m}: {top[0]['name']} ({top[0]['probability']:.0%})" for m, top in r["verifiers"].items())
        state = "" if r["status"] == "ok" else f"; {r['status'].upper()}"
        score = "not finite" if r["score"] is None else f"{r['score']:.3g}"
        named = "" if r["title"] == r["unit"] else f" ({r['title']})"
        photo = "" if r["strongest_photo"] is None else f" (strongest photo: {r['strongest_photo']:.3g})"
        print(f"{r['unit']}{named}, seed {r['seed']}: {score}{photo}{first}{others}{state}")
    if len(results) > 64:
        print(f"… and {len(results) - 64} more in manifest.json")
    for note in dict.fromkeys(note for r in results for note in r["notes"]):
        of = list(dict.fromkeys(r["unit"] for r in results if note in r["notes"]))
        print(f"{', '.join(of[:5])}{f' and {len(of) - 5} more' if len(of) > 5 else ''}: {note}")


def _reproduce(options: argparse.Namespace) -> int:
    """Make a manifest's pictures again; 0 if all are the same bit for bit, 1 if not."""
    from lsd.features import bundle
    from lsd.models import get_model

    record = cli_again.read(options.manifest, bundle.read_manifest)
    request = bundle.Request.from_dict(record["request"])
    model = get_model(request.model)
    cli_again.check_weights(model, record["weights"])
    photo = request.photo and cli_again.find_file(
        request.photo, options.photo, options.manifest, "photo", "with --photo"
    )
    pictures = _run(request, photo, options.output, batches=record.get("batches"))  # manifests of before have none
    before = {(r["unit"], r["seed"]): r for r in record["results"]}
    same = 0
    for picture in pictures:
        old = before.get((str(picture.job.unit), picture.job.seed))
        if old is None:
            continue
        verdict = _compare(picture, old, options.manifest.parent)
        same += verdict == "identical, bit for bit"
        print(f"{old['unit']}, seed {old['seed']}: {verdict}")
    return 0 if same == len(before) else 1


def _compare(picture, old: dict, folder: Path) -> str:
    import numpy as np
    from skimage.metrics import structural_similarity

    from lsd.features.bundle import pixels_sha256
    from lsd.images import open_image

    if pixels_sha256(picture.pixels) == old["sha256"]:
        return "identical, bit for bit"
    path = folder / old["file"]
    if not path.is_file():
        return "different (the picture is not beside the manifest, so by how much is not known)"
    kept = np.asarray(open_image(path))
    if kept.shape != picture.pixels.shape:
        return "different: another size"
    similar = structural_similarity(kept, picture.pixels, channel_axis=2)
    return f"{'similar' if similar > 0.9 else 'different'} (SSIM {similar:.3f}): another machine, version or number of threads?"
