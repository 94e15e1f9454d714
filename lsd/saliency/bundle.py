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

from lsd import render
from lsd.errors import LSDError
from lsd.models import ImageModel
from lsd.provenance import environment, png, slug
from lsd.saliency.crosscheck import CrossCheck
from lsd.saliency.explain import Explanation, SimilarTo, TargetSpec
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import find_method
from lsd.saliency.views import Look, overlays

FORMAT = 1


def array_names(models: Sequence[str]) -> list[str]:
    """A distinct key in attributions.npz, and stem of file names, for each model, in order."""
    stems = [slug(model) for model in models]
    return [stem if stems.index(stem) == i else f"{stem}-{stems[:i].count(stem) + 1}" for i, stem in enumerate(stems)]


def manifest(
    image: dict,
    models: Sequence[ImageModel],
    explanations: Sequence[Explanation],
    spec: TargetSpec | SimilarTo,
    settings: dict,
    maps: MapSettings,
    look: Look,
    checks: Sequence[CrossCheck | None] = (),
) -> dict:
    """Everything that determines the values, and what came out, as plain JSON values.

    A result has "said" (`lsd.said.Said.to_dict`) where a person said something of its network, and "names_assumed" where
    nothing but their number says that its class names are its own.

    Args:
        image: "file" (its name), "path" (where it was, or None) and "sha256" of the picture's file.
        settings: of the method, as they were asked for; what each run made of them is among its results.
        checks: the cross-check of each explanation, if it was made.
    """
    method = explanations[0].attribution.method
    results = []
    for i, (model, explanation, array) in enumerate(
        zip(models, explanations, array_names([m.name for m in models]), strict=True)
    ):
        a = explanation.attribution
        check = checks[i] if i < len(checks) else None
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


def files(picture: Image.Image, explanations: Sequence[Explanation], record: dict) -> dict[str, bytes]:
    """File name → bytes of the whole bundle: an overlay for each model, a comparison sheet, the raw values, the manifest.

    Args:
        picture: upright RGB, as it was explained.
        record: from `manifest`.
    """
    maps, look = MapSettings.from_dict(record["map"]), Look(**record["look"])
    shown = overlays(picture, explanations, maps, look)
    names = [result["array"] for result in record["results"]]
    bundle = {f"{name}.png": png(image) for name, image in zip(names, shown, strict=True)}
    bundle["comparison.png"] = png(sheet(picture, explanations, shown, maps))
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        **{n: e.attribution.values.cpu().numpy().astype("<f4") for n, e in zip(names, explanations, strict=True)},
    )
    bundle["attributions.npz"] = arrays.getvalue()
    bundle["manifest.json"] = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
    return bundle


def sheet(
    picture: Image.Image, explanations: Sequence[Explanation], shown: Sequence[Image.Image], maps: MapSettings
) -> Image.Image:
    """The picture and its overlays side by side, each with the model's name and its first choice."""
    labels = ["the picture", *(f"{e.model}: {in_words(e)}" for e in explanations)]
    method = find_method(explanations[0].attribution.method)
    return render.contact_sheet([[picture, *shown]], [""], labels, title=f"{method.title}, {maps.sign}", cell=320)


def in_words(explanation: Explanation) -> str:
    """What the model says of the picture, in few words: its first choice, or how alike it and the reference are."""
    if explanation.attribution.target.kind == "similarity":
        return f"similarity {explanation.attribution.scores[0].item():.2f}"
    _, name, p = explanation.top[0]
    return f"{name} ({p:.0%})"


def read_manifest(data: bytes | str) -> dict:
    """A manifest's JSON, checked for what is needed to run it again.

    Raises:
        LSDError: not JSON, not a manifest, or of a later format.
    """
    try:
        record = json.loads(data)
        request, image = record["request"], record["image"]
        complete = all(k in request for k in ("models", "method", "settings", "target")) and "sha256" in image
        complete = complete and all(k in record for k in ("map", "look", "results", "environment"))
    except (ValueError, KeyError, TypeError) as error:
        raise LSDError("That file is not a manifest of this program: it is damaged, or some other JSON.") from error
    if record.get("format") != FORMAT:
        raise LSDError(f"That manifest has format {record.get('format')}, and this program reads format {FORMAT}.")
    if not complete:
        raise LSDError("That manifest is incomplete; make the bundle again.")
    return record
