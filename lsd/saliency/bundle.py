"""What is kept of a comparison: pictures, raw values, and a manifest from which the values can be made again.

Pure: everything is returned as bytes by file name, and whoever asked writes it.
"""

import hashlib
import io
import json
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from lsd import provenance, render
from lsd.models import ImageModel
from lsd.provenance import environment, png, slug
from lsd.saliency.crosscheck import CrossCheck
from lsd.saliency.explain import Explanation, Spec, by_model
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import find_method
from lsd.saliency.several import in_colours
from lsd.saliency.steadiness import Steadiness
from lsd.saliency.views import Look, overlays_on

FORMAT = 1
_CELL = 320  # pixels of a picture on a sheet


def array_names(models: Sequence[str]) -> list[str]:
    """A distinct key in attributions.npz, and stem of file names, for each model, in order."""
    stems = [slug(model) for model in models]
    return [stem if stems.index(stem) == i else f"{stem}-{stems[:i].count(stem) + 1}" for i, stem in enumerate(stems)]


def manifest(
    image: dict,
    models: Sequence[ImageModel],
    explanations: Sequence[Explanation],
    spec: Spec,
    settings: dict,
    maps: MapSettings,
    look: Look,
    checks: Sequence[CrossCheck | None] = (),
    steadinesses: Sequence[Steadiness | None] = (),
) -> dict:
    """Everything that determines the values, and what came out, as plain JSON values.

    A result has "said" (`lsd.said.Said.to_dict`) where a person said something of its network, and "names_assumed" where
    nothing but their number says that its class names are its own. Of several answers of one network each is a result, with its
    "part" (`Explanation.part`) where that is not 0.

    Args:
        explanations: of each model in order, one or several.
        image: "file" (its name), "path" (where it was, or None) and "sha256" of the picture's file.
        settings: of the method, as they were asked for; what each run made of them is among its results.
        checks: the cross-check of each explanation, if it was made; `steadinesses` likewise.
    """
    method = explanations[0].attribution.method
    results = []
    owners = [model for model, own in zip(models, by_model(explanations), strict=True) for _ in own]
    for i, (model, explanation, array) in enumerate(
        zip(owners, explanations, array_names([m.name for m in owners]), strict=True)
    ):
        a = explanation.attribution
        check = checks[i] if i < len(checks) else None
        steady = steadinesses[i] if i < len(steadinesses) else None
        results.append(
            {
                "model": model.name,
                "weights": model.identity.to_dict(),
                "array": array,
                "shape": list(a.values.shape),
                "values_sha256": values_sha256(a.values),
                "input_size": list(explanation.input_size),
                "crop_box": list(explanation.box),
                "target": a.target.to_dict(),
                "score": a.scores[0].item(),
                "top": [{"index": c, "name": n, "probability": p} for c, n, p in explanation.top],
                "passes": a.passes,
                "seconds": round(explanation.seconds, 4),
                "settings": a.settings,
                "completeness_gap": None if a.completeness_gap is None else a.completeness_gap[0].item(),
                "standard_error": _finite(None if a.standard_error is None else a.standard_error[0].item()),
                "captum_difference": None if check is None else check.difference,
                "steadiness": None if steady is None else steady.to_dict(),
                **({"part": explanation.part} if explanation.part else {}),
                **({"said": model.said.to_dict()} if model.said else {}),
                **({"names_assumed": True} if model.names_assumed else {}),
            }
        )
    return {
        "format": FORMAT,
        "image": image | {"size": list(explanations[0].picture_size)},
        "request": {
            "models": [model.name for model in models],
            "method": method,
            "settings": settings,
            "target": spec.to_dict(),
            "view": str(explanations[0].view),
        },
        "map": maps.to_dict(),
        "look": look.to_dict(),
        "results": results,
        "environment": environment(models[0].device),
    }


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and np.isfinite(value) else None


def values_sha256(values: torch.Tensor) -> str:
    """SHA-256 of the values as little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(values.cpu().numpy(), dtype="<f4").tobytes()).hexdigest()


def files(
    picture: Image.Image, explanations: Sequence[Explanation], record: dict, reference: Image.Image | None = None
) -> dict[str, bytes]:
    """File name → bytes of the whole bundle: an overlay for each result, a comparison sheet, the raw values, the manifest; and
    where a model has told of several classes, them in one figure, `NAME-classes.png`.

    Args:
        picture: upright RGB, as it was explained.
        record: from `manifest`.
        reference: the other picture, of a similarity both ways.
    """
    maps, look = MapSettings.from_dict(record["map"]), Look(**record["look"])
    shown = overlays_on(pictures_under(picture, explanations, reference), explanations, maps, look)
    names = [result["array"] for result in record["results"]]
    bundle = {f"{name}.png": png(image) for name, image in zip(names, shown, strict=True)}
    firsts = [name for name, e in zip(names, explanations, strict=True) if e.part == 0]
    for name, own in zip(firsts, by_model(explanations), strict=True):
        if is_of_classes(own):
            bundle[f"{name}-classes.png"] = png(in_colours(picture, own, maps, look))
    bundle["comparison.png"] = png(sheet(picture, explanations, maps, look, reference))
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        **{n: e.attribution.values.cpu().numpy().astype("<f4") for n, e in zip(names, explanations, strict=True)},
    )
    bundle["attributions.npz"] = arrays.getvalue()
    bundle["manifest.json"] = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
    return bundle


def pictures_under(
    picture: Image.Image, explanations: Sequence[Explanation], reference: Image.Image | None
) -> list[Image.Image]:
    """The picture that each explanation is of."""
    return [reference if e.is_of_reference and reference else picture for e in explanations]


def is_of_classes(answers: Sequence[Explanation]) -> bool:
    """Whether one model's answers are of several classes, which one figure can show."""
    return len(answers) > 1 and not answers[-1].is_of_reference


def sheet(
    picture: Image.Image,
    explanations: Sequence[Explanation],
    maps: MapSettings,
    look: Look,
    reference: Image.Image | None = None,
) -> Image.Image:
    """The picture and its overlays side by side, each with the model's name and its first choice; of models with several answers a
    row each, with the classes in one figure, or with the other picture."""
    method = find_method(explanations[0].attribution.method)
    title = f"{method.title}, {maps.sign}"
    shown = overlays_on(pictures_under(picture, explanations, reference), explanations, maps, look)
    models = by_model(explanations)
    if len(models) == len(explanations):
        labels = ["the picture", *(f"{e.model}: {in_words(e)}" for e in explanations)]
        return render.contact_sheet([[picture, *shown]], [""], labels, title=title, cell=_CELL)
    rows = []
    for own in models:
        drawn, shown = shown[: len(own)], shown[len(own) :]
        if is_of_classes(own):
            key = ", ".join(f"{name}: {in_words(e)}" for name, e in zip(render.CATEGORIES, own, strict=False))
            cells = [picture, in_colours(picture, own, maps, look), *drawn]
            labels = ["the picture", f"{key}; white: all alike", *map(in_words, own)]
        else:
            cells = [picture, drawn[0], *([reference, drawn[1]] if len(own) > 1 else [])]
            labels = ["the picture", in_words(own[0]), "the other picture", in_words(own[-1])][: len(cells)]
        rows.append(render.contact_sheet([cells], [""], labels, title=f"{own[0].model}: {title}", cell=_CELL))
    return render.stacked(rows)


def in_words(explanation: Explanation) -> str:
    """What the model says of the picture, in few words: its first choice, or the one that is explained of several; of a group, too,
    how probable it is; or how alike the picture and the reference are."""
    attribution = explanation.attribution
    if attribution.target.kind == "similarity":
        where = ", over the other picture" if explanation.is_of_reference else ""
        return f"similarity {attribution.scores[0].item():.2f}{where}"
    _, name, p = explanation.top[explanation.part]
    said = f"{name} ({p:.0%})"
    if attribution.target.kind == "group":
        return f"{said}, {attribution.target.group.name} ({attribution.scores[0].sigmoid().item():.0%})"
    return said


def read_manifest(data: bytes | str) -> dict:
    """A manifest's JSON, as `provenance.read_manifest` checks it."""

    def is_whole(record: dict) -> bool:
        own = all(name in record["request"] for name in ("models", "method", "settings", "target"))
        return (
            own and "sha256" in record["image"] and all(n in record for n in ("map", "look", "results", "environment"))
        )

    otherwise = "That manifest is not one of saliency, or incomplete; give the manifest.json beside the maps."
    return provenance.read_manifest(data, kind=None, format=FORMAT, is_whole=is_whole, otherwise=otherwise)
