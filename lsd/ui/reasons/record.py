"""The download of the Reasons tab: the bundle that the command line writes, from what the tab found."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from lsd.errors import LSDError
from lsd.images import file_sha256, open_image
from lsd.models import ImageModel, get_model
from lsd.reasons import bundle
from lsd.reasons.answer import COUNT, Answer, first_classes
from lsd.reasons.defaults import METHOD
from lsd.reasons.drawn import OF_UNITS, Drawn
from lsd.reasons.explain import DECISION
from lsd.saliency.explain import TargetSpec
from lsd.ui.reasons.request import Request
from lsd.ui.reasons.session import Run
from lsd.ui.shared import unit_pictures
from lsd.ui.shared.reasoned import ZERO, Account, decision
from lsd.view import EVALUATED


def files(run: Run) -> dict[str, bytes]:
    """File name → bytes: the report, a sheet for each model, the numbers, the manifest and the picture. `python -m lsd
    reasons --from` makes the numbers again.

    Raises:
        LSDError, OSError: nothing was found, or what was found cannot be written as one command; a model or the picture is gone.
    """
    request, accounts = run.request, [run.accounts[place] for place in sorted(run.accounts)]
    if not accounts:
        raise LSDError("There is nothing to download: no model has an answer yet.")
    if request.fill != ZERO:
        raise LSDError("A download holds what networks say with channels at zero: set “Switched off means” to zero.")
    models = [get_model(account.model) for account in accounts]
    picture = open_image(request.path)
    asked = bundle.Request(
        tuple(account.model for account in accounts), tuple(account.reasons.layer for account in accounts),
        tuple(model.said for model in models), _spec(request, accounts, models), METHOD, COUNT,
    )  # fmt: skip
    answers = [_answer(account, model, picture) for account, model in zip(accounts, models, strict=True)]
    name = f"picture{request.path.suffix}"
    record = bundle.manifest(
        {"file": name, "path": None, "sha256": file_sha256(request.path)}, asked, answers,
    )  # fmt: skip
    return bundle.files(answers, record) | {name: request.path.read_bytes()}


def _spec(request: Request, accounts: Sequence[Account], models: Sequence[ImageModel]) -> TargetSpec:
    """What was asked of all models, as the command line has it.

    Raises:
        LSDError: it has no words for it.
    """
    first = accounts[0].reasons.target
    ways = [decision(request.of, request.against), DECISION, TargetSpec(first.index, first.kind, first.against)]
    for way in ways:
        spec = TargetSpec(way.of, way.kind, way.against)
        if all(_is_of(spec, account, model) for account, model in zip(accounts, models, strict=True)):
            return spec
    raise LSDError(
        "These networks answer different questions, which one download cannot hold: name both classes, or ask one."
    )


def _is_of(spec: TargetSpec, account: Account, model: ImageModel) -> bool:
    if spec.kind == "contrast" and spec.against is None:
        return False
    try:
        ranking = account.reasons.logits.argsort(descending=True, stable=True).tolist()
        return spec.resolve(model, ranking) == account.reasons.target
    except LSDError:
        return False


def _answer(account: Account, model: ImageModel, picture: Image.Image) -> Answer:
    found = Answer(
        model, picture, EVALUATED, account.box, first_classes(model, account.reasons.logits), account.reasons, account.tried,
        account.seconds,
    )  # fmt: skip
    units = [one.unit for one in found.told]
    return replace(found, pictures=_pictures(model, units))


def _pictures(model: ImageModel, units: Sequence[str]) -> dict[str, Drawn]:
    """Unit → its picture, of those that the gallery has, or that were drawn for the page."""
    from gallery.kept import kept_pictures  # with DuckDB, which the page need not wait for when it starts

    drawn = {unit: data for unit, data in unit_pictures.kept(model, units).items() if data}
    found = {unit: _thumbnail(unit, data) for unit, data in drawn.items()}
    return found | kept_pictures(model, units)


def _thumbnail(unit: str, data: bytes) -> Drawn:
    pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return Drawn(unit, pixels, OF_UNITS.to_dict(), 0, "draft, reduced to a thumbnail")
