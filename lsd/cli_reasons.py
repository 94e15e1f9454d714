"""The command line of reasons: `python -m lsd reasons …`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lsd import cli_again, cli_said
from lsd.errors import LSDError


def add_parser(commands) -> None:
    """Add the command to those of `lsd.cli`."""
    parser = commands.add_parser("reasons", help="which few things made it say so?")
    parser.add_argument(
        "image", nargs="?", type=Path, help="the picture, or example:NAME (with --from: where it lies now)"
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="may be given several times")
    parser.add_argument(
        "--target", default="top1", help="class index or name, or top1, top2: the model's own choices (default: top1)"
    )
    parser.add_argument(
        "--against", default="top2", metavar="CLASS",
        help="why --target rather than this class (index, name, top1 or top2), or none for its log-odds (default: top2)",
    )  # fmt: skip
    parser.add_argument(
        "--layer", action="append", default=[], metavar="[MODEL=]LAYER",
        help="whose channels are looked at (several times; default: what docs/reasons.md says)",
    )  # fmt: skip
    parser.add_argument(
        "--method", help="how channels are ranked, such as integrated (default: what docs/reasons.md says)"
    )
    parser.add_argument(
        "--kind", choices=("channel", "head", "position"), default="channel",
        help="what the reasons are: channels, heads of an attention layer, or places of a layer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=10, metavar="N", help="channels that are told (default: 10)")
    parser.add_argument(
        "--view", default="evaluated", metavar="WHAT",
        help="what of the picture the models are shown, as for saliency (default: %(default)s)",
    )  # fmt: skip
    cli_said.add_options(parser)
    parser.add_argument(
        "--missing", action="store_true",
        help="what the picture lacks of the class of --against (with none: of --target), whose own picture is drawn",
    )  # fmt: skip
    parser.add_argument("--no-pictures", action="store_true", help="draw no pictures of units")
    parser.add_argument(
        "--verifier", action="append", default=[], metavar="NAME",
        help="a model that is asked what it sees in the units' pictures, besides the others of --model",
    )  # fmt: skip
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos whose patches that excite units are shown")
    parser.add_argument("--from", dest="manifest", type=Path, help="make the numbers of a manifest again and compare")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the files go (default: lsd-reasons)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    return _reproduce(options) if options.manifest else _explain(options)


def _explain(options: argparse.Namespace) -> int:
    from lsd.images import picture_path
    from lsd.reasons.bundle import Request
    from lsd.reasons.defaults import method_of
    from lsd.saliency.explain import TargetSpec
    from lsd.view import View

    if options.image is None:
        raise LSDError("Which picture? Give its path: python -m lsd reasons IMAGE --model NAME.")
    if not options.model:
        raise LSDError("Which model? Give --model NAME; python -m lsd models lists them.")
    if options.count < 1:
        raise LSDError(f"--count must be at least 1, and is {options.count}.")
    sayings = cli_said.sayings(options)
    sayings.check(options.model)
    contrast = options.against.lower() != "none"
    request = Request(
        tuple(options.model), tuple(_layers(options.layer, options.model)),
        tuple(sayings.of(name) for name in options.model),
        TargetSpec(options.target, "contrast", options.against) if contrast else TargetSpec(options.target),
        options.method or method_of(options.kind), options.count, str(View.parse(options.view)), options.missing,
        not options.no_pictures,
        tuple(options.verifier), None if options.photos is None else str(options.photos), options.kind,
    )  # fmt: skip
    path = picture_path(options.image)
    failures: list[LSDError] = []
    answers = _answers(path, request, options.kept, failures)
    if not answers:
        raise LSDError("\nlsd: ".join(map(str, failures)))
    record = _write(options.output or Path("lsd-reasons"), path, request, answers)
    _print(record)
    cli_said.print_notes(found.model for found in answers)
    for failure in failures:
        print(f"lsd: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _layers(given: Sequence[str], models: Sequence[str]) -> list[str | None]:
    """The layer of each model: what names it, else what names none, else None."""
    pairs = [text.rpartition("=") for text in given]
    for model, equals, _ in pairs:
        if equals and model not in models:
            raise LSDError(f"--layer names {model or 'no model'}, which is none of --model: {', '.join(models)}.")
    of_all = next((layer for model, _, layer in reversed(pairs) if not model), None)
    return [next((layer for own, _, layer in reversed(pairs) if own == model), of_all) for model in models]


def _answers(path: Path, request, kept, failures: list[LSDError] | None = None, *, numbers_only: bool = False) -> list:
    """What each model answers.

    Args:
        kept: who keeps pictures of units (`lsd.reasons.drawn.Kept`), or None.
        failures: where it goes if a model has no answer, and the others go on; None to raise it.
        numbers_only: leave pictures of units out, and patches.
    """
    from lsd.images import open_image
    from lsd.models import get_model
    from lsd.reasons.answer import with_patches, with_pictures

    picture = open_image(path)
    asked = zip(request.models, request.layers, request.said, strict=True)
    answers = [_attempt(partial(_answer, picture, request, *one, kept), None, one[0], failures) for one in asked]
    answers = [found for found in answers if found]
    if numbers_only:
        return answers
    if request.pictures:
        verifiers = [_attempt(partial(get_model, name), None, name, failures) for name in request.verifiers]
        judges = [*(found.model for found in answers), *(judge for judge in verifiers if judge)]
        for n, found in enumerate(answers):
            others = [judge for judge in judges if judge.name != found.model.name]
            step = partial(with_pictures, found, others, kept=kept)
            answers[n] = _attempt(step, found, f"{found.model.name}: pictures", failures)
    if request.photos:
        for n, found in enumerate(answers):
            step = partial(with_patches, found, Path(request.photos))
            answers[n] = _attempt(step, found, f"{found.model.name}: photos", failures)
    return answers


def _attempt(step: Callable, otherwise, title: str, failures: list[LSDError] | None):
    """What a step gives, under a bar with that title; `otherwise`, and why, where it cannot and others go on."""
    from lsd.progress import bar

    try:
        with bar(title, "step"):
            return step()
    except LSDError as error:
        if failures is None:
            raise
        failures.append(error)
        return otherwise


def _answer(picture, request, name: str, layer: str | None, said, kept):
    from lsd.layers import as_said
    from lsd.models import get_model
    from lsd.reasons.answer import answer, with_missing
    from lsd.view import View

    found = answer(
        as_said(get_model(name), said), picture, request.spec, view=View.parse(request.view), layer=layer,
        method=request.method, count=request.count, kind=request.kind,
    )  # fmt: skip
    return with_missing(found, kept=kept) if request.missing else found


def _write(folder: Path, path: Path, request, answers: Sequence) -> dict:
    from dataclasses import replace

    from lsd.images import file_sha256
    from lsd.provenance import write_files
    from lsd.reasons.bundle import files, manifest

    there = {found.model.name for found in answers}
    kept = [i for i, name in enumerate(request.models) if name in there]
    asked = replace(
        request, **{name: tuple(getattr(request, name)[i] for i in kept) for name in ("models", "layers", "said")}
    )
    record = manifest({"file": path.name, "path": str(path), "sha256": file_sha256(path)}, asked, answers)
    bundle = files(answers, record)
    write_files(folder, bundle)
    print(f"wrote {folder}/: {', '.join(sorted(bundle))}")
    return record


def _print(record: dict) -> None:
    from lsd.reasons import words

    for result in record["results"]:
        print(f"{result['model']}: {result['sentence']['text']}")
        for line in words.test(result):
            print(f"  {line}")
        if "missing" in result:
            names = [words.name(one["unit"], result["layer"]) for one in result["missing"]["channels"]]
            print(f"  Missing for {result['missing']['class']['name']}: {', '.join(names) or 'nothing'}.")


def _reproduce(options: argparse.Namespace) -> int:
    """Make the numbers of a manifest again; 0 if they are the same bit for bit, 1 if not."""
    from lsd.reasons.bundle import Request, array_name, numbers, read_manifest
    from lsd.saliency.bundle import values_sha256

    record = cli_again.read(options.manifest, read_manifest)
    path = cli_again.find_file(record["image"], options.image, options.manifest, "picture", "as IMAGE")
    request = Request.from_dict(record["request"])
    answers = _answers(path, request, options.kept, numbers_only=options.output is None)
    for found, before in zip(answers, record["results"], strict=True):
        cli_again.check_weights(found.model, before["weights"])
    if options.output:
        _write(options.output, path, request, answers)
    same = True
    arrays = options.manifest.parent / "numbers.npz"
    for found, before in zip(answers, record["results"], strict=True):
        new, digests = numbers(found), before["numbers_sha256"]
        others = [name for name in {**digests, **new} if name not in new or name not in digests]
        told = [f"{name}: not among both" for name in others] + [
            f"{name}: {cli_again.difference(values, arrays, array_name(before, name))}"
            for name, values in new.items()
            if name in digests and values_sha256(values) != digests[name]
        ]
        same = same and not told
        print(f"{before['model']}: {'; '.join(told) or 'identical, bit for bit'}")
    return 0 if same else 1
