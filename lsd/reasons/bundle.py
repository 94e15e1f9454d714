"""What is kept of reasons: a sheet for each model, one report, raw numbers, and a manifest from which these can be made again.

Pure: everything is returned as bytes by file name, and whoever asked writes it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from lsd import labels, provenance
from lsd.errors import LSDError
from lsd.features.bundle import manifest_bytes
from lsd.images import fit_within
from lsd.models import ImageModel
from lsd.provenance import environment, png
from lsd.reasons.answer import Answer, as_probabilities
from lsd.reasons.drawn import Drawn
from lsd.reasons.explain import CHANNEL, Reason, Trial, flips, speaks_for
from lsd.reasons.matched import MOST, Graph, Network, matched
from lsd.reasons.report import report
from lsd.reasons.sentence import Sentence, seen
from lsd.reasons.sheet import on_class, on_photo, sheet
from lsd.said import Said
from lsd.saliency.bundle import array_names, values_sha256
from lsd.saliency.explain import TargetSpec

FORMAT = 1
_KIND = "reasons"
_PHOTO = 480  # pixels of the photo's longer side in the report
_UNIT = 224
_PATCH = 96


@dataclass(frozen=True)
class Request:
    """What was asked for, as plain values, enough to ask again.

    Attributes:
        models: by name.
        layers: one for each model, as it was asked for; None for the default.
        said: what was said of each model.
        spec: the target before the models have spoken.
        method, count: as for `find_reasons`.
        view: as `View` writes it.
        missing, pictures: whether what is missing was looked for, and pictures were drawn.
        verifiers: names of models that only judge pictures.
        photos: the folder that patches are from, as it was given; None for none.
        kind: what the units are, as for `find_reasons`.
    """

    models: tuple[str, ...]
    layers: tuple[str | None, ...]
    said: tuple[Said, ...]
    spec: TargetSpec
    method: str
    count: int
    view: str = "evaluated"
    missing: bool = False
    pictures: bool = True
    verifiers: tuple[str, ...] = ()
    photos: str | None = None
    kind: str = CHANNEL

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return {name: value for name, value in vars(self).items() if name != "spec"} | {
            "models": [*self.models], "layers": [*self.layers], "said": [said.to_dict() for said in self.said],
            "target": self.spec.to_dict(), "verifiers": [*self.verifiers],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict) -> "Request":
        """The inverse of `to_dict`. Raises LSDError for values that are not those of a request."""
        try:
            given = {name: value for name, value in values.items() if name != "target"}
            for name in ("models", "layers", "verifiers"):
                given[name] = tuple(given[name])
            said = tuple(Said.from_dict(one) for one in values["said"])
            return cls(**given | {"said": said, "spec": TargetSpec(**values["target"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise LSDError("That manifest's request is damaged; make the bundle again.") from error


def numbers(found: Answer) -> dict[str, torch.Tensor]:
    """Name → all that was computed, but for pictures.

    "shares" of all units (channels, heads or places); "groups" (k,), their shares; "maps" (n, h, w) of the units that are told,
    then the groups; "trials" (n, classes), the logits with units off one by one, groups one by one, the first units, the first
    groups, and units at random; "missing" (m, 2), here and there. What there is none of is left out.
    """
    reasons, tried = found.reasons, found.tried
    trials = [*tried.channels, *tried.groups, *tried.channels_so_far, *tried.groups_so_far, *tried.random]
    maps = [one.map for one in (*reasons.channels, *reasons.groups) if one.map is not None]
    return {"shares": reasons.values.float()} | {
        name: values
        for name, values in {
            "groups": torch.tensor([group.share for group in reasons.groups]),
            "maps": torch.stack(maps).float() if maps else torch.zeros(0),
            "trials": torch.stack([trial.logits for trial in trials]).float().cpu() if trials else torch.zeros(0),
            "missing": torch.tensor([[one.here, one.there] for one in found.missing]),
        }.items()
        if len(values)
    }


def manifest(image: dict, request: Request, answers: Sequence[Answer]) -> dict:
    """Everything that determines the numbers, and what came out, as plain JSON values.

    Args:
        image: "file" (its name), "path" (where it was, or None) and "sha256" of the picture's file.
        request: what was asked of these models, each of which answers.
    """
    names = array_names([found.model.name for found in answers])
    size = answers[0].picture.size
    graph = graph_of(answers)
    recipes = {one.to_dict()["recipe_hash"]: one.recipe for found in answers for one in _drawn(found)}
    return {
        "format": FORMAT,
        "kind": _KIND,
        "image": image | {"size": [*size]},
        "request": request.to_dict(),
        "results": [result(found, array) for found, array in zip(answers, names, strict=True)],
        **({"matched": graph.to_dict()} if graph else {}),
        **({"recipes": recipes} if recipes else {}),
        "environment": environment(answers[0].model.device),
    }


def graph_of(answers: Sequence[Answer]) -> Graph | None:
    """Which groups of several models are the same; None of one model, and of more than can be told."""
    if not 2 <= len(answers) <= MOST:
        return None
    networks = [
        Network(found.model.name, found.reasons.groups, found.box, {
            unit: seen(said) for unit, said in found.said.items()
        })
        for found in answers
    ]  # fmt: skip
    return matched(networks, answers[0].picture.size)


def _drawn(found: Answer) -> list[Drawn]:
    return [*found.pictures.values(), *([found.class_picture] if found.class_picture else [])]


def result(found: Answer, array: str) -> dict:
    """What the manifest says of one answer, whose numbers are called `array`."""
    model, reasons, tried = found.model, found.reasons, found.tried
    target, own = reasons.target, reasons.shares
    channels, groups = (
        [_of_trials(found, one, alone, together) for one, alone, together in zip(*columns, strict=True)]
        for columns in (
            (reasons.channels, tried.channels, tried.channels_so_far),
            (reasons.groups, tried.groups, tried.groups_so_far),
        )
    )
    return {
        "model": model.name,
        "weights": model.identity.to_dict(),
        "array": array,
        "numbers_sha256": {name: values_sha256(values) for name, values in numbers(found).items()},
        "input_size": [model.spec.height, model.spec.width],
        "crop_box": [*found.box],
        "layer": reasons.layer,
        "kind": reasons.kind,
        "layer_channels": len(reasons.values),
        "target": target.to_dict(),
        "classes": _classes(model, [target.index, *([] if target.against is None else [target.against])]),
        "top": [{"index": c, "name": name, "probability": p} for c, name, p in found.top],
        "sentence": _sentence(found.sentence),
        "before": _state(found, reasons.logits, float(own.scores[0])),
        "at_zero": float(own.zero[0]),
        "gap": float(own.gap[0]),
        "total": reasons.total,
        "explained": reasons.explained,
        "channels": channels,
        "groups": groups,
        "against": [_reason(found, one) for one in found.against],
        "flips": {"channels": flips(tried.channels_so_far), "groups": flips(tried.groups_so_far)},
        "random": {"draws": len(tried.random), "changed": sum(trial.changed for trial in tried.random)},
        **({"missing": _missing(found)} if found.class_picture else {}),
        "seconds": round(found.seconds, 3),
        **({"said": model.said.to_dict()} if model.said else {}),
        **({"names_assumed": True} if model.names_assumed else {}),
    }  # fmt: skip


def _sentence(told: Sentence) -> dict:
    things = [vars(thing) for thing in told.things]
    return {"text": str(told), "decision": told.decision, "things": things, "rest": told.rest}


def _classes(model: ImageModel, indices: Sequence[int]) -> list[dict]:
    return [{"index": c, "name": labels.short(model.class_names[c])} for c in indices]


def _state(found: Answer, logits: torch.Tensor, score: float) -> dict:
    """What a network says: the target, and the probabilities of its classes and of the first one."""
    target, probabilities = found.reasons.target, as_probabilities(found.model.outputs, logits)
    first = int(logits.argmax())
    return {
        "score": score,
        "probability": float(probabilities[target.index]),
        **({} if target.against is None else {"probability_against": float(probabilities[target.against])}),
        "first": _classes(found.model, [first])[0] | {"probability": float(probabilities[first])},
    }


def _of_trials(found: Answer, one: Reason, alone: Trial, so_far: Trial) -> dict:
    raised, lowered = speaks_for(found.model, found.reasons.logits, alone)
    told = {
        name: [_classes(found.model, [c])[0] | {"by": by} for c, by in some]
        for name, some in (("raises", raised), ("lowers", lowered))
    }
    return _reason(found, one) | told | {
        name: _state(found, trial.logits, trial.score) | {"changed": trial.changed}
        for name, trial in (("without", alone), ("without_all_so_far", so_far))
    }  # fmt: skip


def _reason(found: Answer, one: Reason) -> dict:
    return {"unit": one.unit, "share": one.share, "part": one.part} | _seen(found, one.unit)


def _missing(found: Answer) -> dict:
    return {
        "class": _classes(found.model, [found.missing_class])[0],
        "picture": found.class_picture.to_dict(),
        "channels": [
            {"unit": one.unit, "here": one.here, "there": one.there} | _seen(found, one.unit) for one in found.missing
        ],
    }


def _seen(found: Answer, unit: str) -> dict:
    """A unit's picture, what judges take it for, and how many patches there are, where there are any."""
    values = {}
    if unit in found.pictures:
        values["picture"] = found.pictures[unit].to_dict()
    if found.said.get(unit):
        values["guess"] = found.names.get(unit, "")
        values["judges"] = {
            verdict.model: [{"index": i, "name": name, "probability": round(p, 6)} for i, name, p in verdict.top]
            for verdict in found.said[unit]
        }
    if unit in found.patches:
        values["patches"] = len(found.patches[unit])
    return values


def files(answers: Sequence[Answer], record: dict) -> dict[str, bytes]:
    """File name → bytes of the whole bundle: a sheet for each model, the report, the numbers, the manifest.

    Args:
        record: from `manifest`.
    """
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        **{
            array_name(result, name): values.numpy().astype("<f4")
            for found, result in zip(answers, record["results"], strict=True)
            for name, values in numbers(found).items()
        },
    )
    sheets = {
        f"sheet-{result['array']}.png": png(sheet(found, result))
        for found, result in zip(answers, record["results"], strict=True)
    }
    return sheets | {
        "report.html": report(record, pictures(answers)).encode(),
        "numbers.npz": arrays.getvalue(),
        "manifest.json": manifest_bytes(record),
    }


def array_name(result: dict, name: str) -> str:
    """What `numbers` of one of the results are called in numbers.npz."""
    return f"{result['array']}.{name}"


def pictures(answers: Sequence[Answer]) -> dict[tuple, bytes]:
    """WebP for `report`, by (model's number, what, …): "photo"; "map" and a unit; "unit" and a unit; "patch", a unit and its
    number; "class"; "lacking" and a unit, its places in the class's picture."""
    shown: dict[tuple, bytes] = {}
    for n, found in enumerate(answers):
        shown[n, "photo"] = _webp(fit_within(found.picture, _PHOTO))
        for one in found.told:
            if one.map is not None:
                shown[n, "map", one.unit] = _webp(on_photo(found, one, _UNIT))
        for unit, drawn in found.pictures.items():
            shown[n, "unit", unit] = _webp(fit_within(Image.fromarray(drawn.pixels), _UNIT))
        for unit, patches in found.patches.items():
            for k, patch in enumerate(patches):
                shown[n, "patch", unit, k] = _webp(patch.resize((_PATCH, _PATCH), Image.Resampling.LANCZOS))
        if found.class_picture:
            shown[n, "class"] = _webp(fit_within(Image.fromarray(found.class_picture.pixels), _UNIT))
        for one in found.missing:
            if one.map is not None:
                shown[n, "lacking", one.unit] = _webp(on_class(found, one, _UNIT))
    return shown


def _webp(image: Image.Image) -> bytes:
    """A third of a JPEG's size, of which a report has dozens."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=80, method=4)
    return buffer.getvalue()


def read_manifest(data: bytes | str) -> dict:
    """A manifest's JSON, as `provenance.read_manifest` checks it."""

    def is_whole(record: dict) -> bool:
        return all(name in record for name in ("request", "results", "environment")) and "sha256" in record["image"]

    otherwise = "That manifest is not one of reasons; give the manifest.json beside a report of reasons."
    return provenance.read_manifest(data, kind=_KIND, format=FORMAT, is_whole=is_whole, otherwise=otherwise)
