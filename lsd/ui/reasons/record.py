"""The download of the Reasons tab: the bundle that the command line writes, from what the tab found."""

from collections.abc import Sequence

from lsd.errors import LSDError
from lsd.images import file_sha256, open_image
from lsd.models import ImageModel, get_model
from lsd.reasons import bundle
from lsd.reasons.answer import COUNT
from lsd.reasons.defaults import METHOD
from lsd.reasons.explain import DECISION
from lsd.saliency.explain import TargetSpec
from lsd.ui.reasons.request import Request
from lsd.ui.reasons.session import Run
from lsd.ui.shared.reason_answer import answer_of
from lsd.ui.shared.reasoned import ZERO, Account, decision


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
    answers = [answer_of(account, model, picture) for account, model in zip(accounts, models, strict=True)]
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
