"""The command line: `python -m lsd saliency …`, `features …`, `reasons …`, `attention …`, `methods …` and `models`.

Errors that are meant for the user are one line on standard error and exit status 2, also where they are of one of several
models, whose others' results are written; a reproduction that differs from its manifest is exit status 1.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lsd import cli_again, cli_attention, cli_features, cli_methods, cli_reasons, cli_said
from lsd.errors import LSDError
from lsd.saliency import defaults


def main(arguments: Sequence[str] | None = None, *, kept=None) -> int:
    """Run one command and return its exit status.

    Args:
        kept: who keeps pictures of units (`lsd.reasons.drawn.Kept`); None for nobody, and all are drawn.
    """
    parser = _parser()
    options = parser.parse_args(arguments, argparse.Namespace(kept=kept))
    try:
        return options.run(options)
    except LSDError as error:
        print(f"lsd: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough: `python -m lsd models | head`
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("lsd: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lsd", description="A simulator for explainable deep learning.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    models = commands.add_parser("models", help="list the models that can be had")
    models.add_argument("filter", nargs="?", help="part of a name, or a wildcard (“resnet*”), over all of timm")
    models.set_defaults(run=_models)

    saliency = commands.add_parser("saliency", help="which pixels moved the output?")
    saliency.add_argument(
        "image", nargs="?", type=Path, help="the picture, or example:NAME (with --from: where it lies now)"
    )
    saliency.add_argument("--model", action="append", default=[], metavar="NAME", help="may be given several times")
    saliency.add_argument("--method", default=defaults.METHOD, help="see --list-methods (default: %(default)s)")
    saliency.add_argument("--list-methods", action="store_true", help="describe the methods and their settings")
    saliency.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method, such as samples=64"
    )
    saliency.add_argument(
        "--target",
        default="top1",
        help="class index or name, or top1, top2: the model's own choices (default: %(default)s)",
    )
    saliency.add_argument("--against", help="explain why --target rather than this class (index, name, top1 or top2)")
    saliency.add_argument(
        "--group",
        metavar="NAME",
        help="explain why a dog (bird, vehicle, …) at all: that group of classes against all others",
    )
    saliency.add_argument(
        "--within", metavar="NAME", help="explain why --target rather than the others of this group: dog"
    )
    saliency.add_argument(
        "--classes", type=int, metavar="N",
        help=f"explain the model's first N choices, 2 to {defaults.MOST_CLASSES}, each by itself and all in one figure",
    )  # fmt: skip
    saliency.add_argument(
        "--like", type=Path, metavar="FILE",
        help="explain how alike the picture and this one are to the model, or this vector (.npy) and its embedding",
    )  # fmt: skip
    saliency.add_argument(
        "--both-ways", action="store_true", help="explain the picture of --like too: what in it makes it like IMAGE"
    )
    saliency.add_argument(
        "--output-of", dest="kind", choices=("log_odds", "logit", "probability"), default=defaults.KIND,
        help="what is differentiated; --against makes it a contrast of logits (default: %(default)s)",
    )  # fmt: skip
    saliency.add_argument(
        "--view", default="evaluated", metavar="WHAT",
        help="what of the picture the models are shown: evaluated (resized and cropped as they are evaluated), squashed (all of "
        "it, its aspect not kept), padded (all of it, with their mean around it), or a square of it, LEFT,TOP,SIDE in pixels "
        "(default: %(default)s)",
    )  # fmt: skip
    cli_said.add_options(saliency)
    saliency.add_argument("--sign", help="abs, positive, negative or signed (default: what suits the method)")
    saliency.add_argument("--channels", help="max, l2, sum_abs or sum")
    saliency.add_argument("--clip", type=float, help="percentile shown at full strength")
    saliency.add_argument("--blur", type=float, help="standard deviation of a Gaussian, in pixels of the model's input")
    saliency.add_argument("--scale", help="image, shared (one for all models) or rank")
    saliency.add_argument("--upsampling", help="how coarse maps are enlarged: bilinear, nearest or bicubic")
    saliency.add_argument("--style", default="heatmap", help="heatmap, mask, contours or map (default: %(default)s)")
    saliency.add_argument("--opacity", type=float, default=0.7, help="of the overlay, 0 to 1 (default: %(default)s)")
    saliency.add_argument("--check", action="store_true", help="hold the values against Captum's")
    saliency.add_argument(
        "--steady", action="store_true",
        help="measure how far the map moves when the picture is moved by a few pixels or gets a little grainy; takes as long as "
        "four more maps",
    )  # fmt: skip
    saliency.add_argument("--from", dest="manifest", type=Path, help="make the values of a manifest again and compare")
    saliency.add_argument("--output", type=Path, metavar="DIR", help="where the files go (default: lsd-saliency)")
    saliency.set_defaults(run=_saliency)
    cli_features.add_parser(commands)
    cli_reasons.add_parser(commands)
    cli_methods.add_parser(commands)
    cli_attention.add_parser(commands)
    return parser


def _models(options: argparse.Namespace) -> int:
    from lsd import catalogue

    if options.filter:
        names = catalogue.search(options.filter) + [n for n in catalogue.ready_models() if options.filter in n]
        if not names:
            raise LSDError(f"No pretrained timm model matches “{options.filter}”; try a shorter part of its name.")
        print("\n".join(names))
        return 0
    offered = catalogue.offered()
    title, name = (max(len(getattr(entry, column)) for entry in offered) for column in ("title", "name"))
    family = None
    for entry in offered:
        if entry.family != family:
            family = entry.family
            print(family)
        size = "" if entry.millions is None else f"{entry.millions:.1f} M"
        print(f"  {entry.title:<{title}}  {entry.name:<{name}}  {size:>8}  {entry.origin}")
    print("\nAny other timm name works too: python -m lsd models 'convnext*' lists them.")
    return 0


def _saliency(options: argparse.Namespace) -> int:
    if options.list_methods:
        return _list_methods()
    return _reproduce(options) if options.manifest else _explain(options)


def _list_methods() -> int:
    from lsd.saliency.methods import METHODS

    for method in METHODS.values():
        print(f"{method.name}\n    {method.what} ({method.source})")
        for setting in method.settings:
            print(f"    {setting.name}={setting.default}  {setting.why}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from lsd.images import picture_path
    from lsd.saliency.maps import MapSettings
    from lsd.saliency.methods import find_method
    from lsd.saliency.views import Look
    from lsd.view import View

    if options.image is None:
        raise LSDError("Which picture? Give its path: python -m lsd saliency IMAGE --model NAME.")
    if not options.model:
        raise LSDError("Which model? Give --model NAME; python -m lsd models lists them.")
    method = find_method(options.method)
    settings = method.parse(dict(_pair(text) for text in options.set))
    spec, view = _target(options), View.parse(options.view)
    chosen = {k: getattr(options, k) for k in ("sign", "channels", "clip", "blur", "scale", "upsampling")}
    maps = replace(MapSettings(sign=method.sign), **{k: v for k, v in chosen.items() if v is not None})
    look = Look(options.style, options.opacity)
    path = picture_path(options.image)
    sayings = cli_said.sayings(options)
    sayings.check(options.model)
    said = [sayings.of(name) for name in options.model]
    failures: list[LSDError] = []
    run = _run(
        path, options.model, said, spec, method.name, settings, view,
        check=options.check, steady=options.steady, failures=failures,
    )  # fmt: skip
    if not run.models:
        raise LSDError("\nlsd: ".join(map(str, failures)))
    record = run.record(path, spec, settings, maps, look)
    _write(options.output or Path("lsd-saliency"), run, record)
    _print_results(record, run)
    cli_said.print_notes(run.models)
    for failure in failures:
        print(f"lsd: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _target(options: argparse.Namespace):
    from lsd.reference import open_reference
    from lsd.saliency.question import question

    return question(
        target=options.target, against=options.against, kind=options.kind, group=options.group, within=options.within,
        classes=options.classes, like=None if options.like is None else open_reference(options.like),
        both_ways=options.both_ways,
        called=lambda name: "--output-of" if name == "kind" else f"--{name.replace('_', '-')}",
    )  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise LSDError(f"“{text}” is not a setting; write --set NAME=VALUE.")
    return name, value


class _Run:
    """The models, and what each of them said of one picture, in one explanation or several."""

    def __init__(self, picture, reference, models, explanations, checks, steadinesses):
        self.picture, self.reference, self.models, self.explanations = picture, reference, models, explanations
        self.checks, self.steadinesses = checks, steadinesses

    def record(self, path: Path, spec, settings, maps, look) -> dict:
        from lsd.images import file_sha256
        from lsd.saliency.bundle import manifest

        image = {"file": path.name, "path": str(path), "sha256": file_sha256(path)}
        return manifest(
            image, self.models, self.explanations, spec, settings, maps, look, self.checks, self.steadinesses
        )


def _run(
    path: Path,
    names: Sequence[str],
    said: Sequence,
    spec,
    method: str,
    settings: dict,
    view,
    *,
    check: bool = False,
    steady: bool = False,
    failures: list[LSDError] | None = None,
) -> _Run:
    """
    Args:
        said: what was said of each model.
        failures: where it goes if a model cannot explain the picture, and the others go on; None to raise it.
    """
    from lsd.images import open_image
    from lsd.layers import as_said
    from lsd.models import get_model
    from lsd.progress import bar
    from lsd.saliency.bundle import pictures_under
    from lsd.saliency.crosscheck import crosscheck_explanation
    from lsd.saliency.explain import SimilarTo, explain_each
    from lsd.saliency.steadiness import steadiness_of_each

    picture = open_image(path)
    reference = spec.reference.content if isinstance(spec, SimilarTo) and spec.both else None
    models, explanations, checks, steadinesses = [], [], [], []
    for name, told in zip(names, said, strict=True):
        try:
            with bar(name, "pass"):
                model = as_said(get_model(name), told)
                found = explain_each(model, picture, spec, method, view=view, **settings)
                under = pictures_under(picture, found, reference)
                compared = [
                    crosscheck_explanation(model, shown, explanation, settings)
                    for shown, explanation in zip(under, found, strict=True) if check
                ]  # fmt: skip
        except LSDError as error:
            if failures is None:
                raise
            failures.append(error)
            continue
        models.append(model)
        explanations += found
        checks += compared
        if steady:
            try:
                with bar(name, "pass"):
                    steadinesses += steadiness_of_each(model, under, found, settings)
            except LSDError as error:  # there is a map all the same
                steadinesses += [None] * len(found)
                failures.append(error)
    return _Run(picture, reference, models, explanations, checks, steadinesses)


def _write(folder: Path, run: _Run, record: dict) -> None:
    from lsd.provenance import write_files
    from lsd.saliency.bundle import files

    write_files(folder, files(run.picture, run.explanations, record, run.reference))
    print(f"wrote {folder}/: comparison.png, manifest.json, attributions.npz, {len(record['results'])} overlays")


def _print_results(record: dict, run: _Run) -> None:
    from lsd.saliency.bundle import in_words
    from lsd.saliency.maps import MapSettings, sign_instead
    from lsd.saliency.methods import why_zero
    from lsd.saliency.steadiness import told

    maps = MapSettings.from_dict(record["map"])
    for result, explanation in zip(record["results"], run.explanations, strict=True):
        line = f"{result['model']}: {in_words(explanation)}; {result['seconds']:.2f} s"
        if result["standard_error"] is not None:
            line += f"; standard error {result['standard_error']:.1%}"
        if result["completeness_gap"] is not None:
            line += f"; completeness gap {result['completeness_gap']:.2g} of {result['score']:.3g}"
        if result["captum_difference"] is not None:
            line += f"; differs from Captum by {result['captum_difference']:.1e}"
        if other := sign_instead(explanation.attribution.values[0].numpy(), maps):
            line += f"; the map is empty, as nothing is {maps.sign}: try --sign {other}"
        if not explanation.attribution.values.any():
            line += f"; the map is zero everywhere: {why_zero(explanation.attribution.method)}"
        print(line)
    of_each = len(run.explanations) > len(run.models)
    for explanation, found in zip(run.explanations, run.steadinesses, strict=False):
        if found:
            whose = f"{explanation.model}, {in_words(explanation)}" if of_each else explanation.model
            print(f"{whose}: {told(found, record['request']['method'])}")


def _reproduce(options: argparse.Namespace) -> int:
    """Make the values of a manifest again; 0 if they are the same bit for bit, 1 if not."""
    from lsd.said import Said
    from lsd.saliency.bundle import read_manifest, values_sha256
    from lsd.saliency.maps import MapSettings
    from lsd.saliency.views import Look
    from lsd.view import View

    record = cli_again.read(options.manifest, read_manifest)
    path = cli_again.find_file(record["image"], options.image, options.manifest, "picture", "as IMAGE")
    request = record["request"]
    spec = _target_again(request["target"], options)
    firsts = [result for result in record["results"] if not result.get("part")]
    said = [Said.from_dict(result.get("said", {})) for result in firsts]
    view = View.parse(request.get("view", "evaluated"))  # which manifests did not say while there was no other
    run = _run(path, request["models"], said, spec, request["method"], request["settings"], view)
    for model, before in zip(run.models, firsts, strict=True):
        cli_again.check_weights(model, before["weights"])
    if options.output:
        maps, look = MapSettings.from_dict(record["map"]), Look(**record["look"])
        _write(options.output, run, run.record(path, spec, request["settings"], maps, look))
    same = True
    for explanation, before in zip(run.explanations, record["results"], strict=True):
        if values_sha256(explanation.attribution.values) == before["values_sha256"]:
            print(f"{before['model']}: identical, bit for bit")
        else:
            same = False
            arrays = options.manifest.parent / "attributions.npz"
            told = cli_again.difference(explanation.attribution.values, arrays, before["array"])
            print(f"{before['model']}: {told}")
    return 0 if same else 1


def _target_again(target: dict, options: argparse.Namespace):
    from lsd.reference import open_reference
    from lsd.saliency.explain import SimilarTo, asked_again

    if target["kind"] != SimilarTo.kind:
        return asked_again(target)
    reference = cli_again.find_file(target["reference"], options.like, options.manifest, "reference", "with --like")
    return SimilarTo(open_reference(reference), target.get("both", False))
